//! The messages about one entry of an allowlist. Those about projects and those about groups differ in the name of one field only.

use chassis::status::Refusal;
use proto::paddock::job_token::v1::{
    AllowGroupRequest, AllowGroupResponse, AllowProjectRequest, AllowProjectResponse, DisallowGroupRequest,
    DisallowProjectRequest, UpdateAllowedGroupRequest, UpdateAllowedGroupResponse, UpdateAllowedProjectRequest,
    UpdateAllowedProjectResponse,
};

use super::grant_request::{GrantRequest, grant_fields};
use crate::{allowlist::rules::Grant, store::allowlists::AllowlistKind};

/// A request about one entry.
pub trait EntryRequest {
    /// The allowlist.
    const KIND: AllowlistKind;

    /// Returns the project of the allowlist: its id or its full path.
    fn project(&self) -> &str;

    /// Returns the id of the project or group that the entry is for.
    fn target_id(&self) -> i64;
}

/// A request that sets the grant of an entry.
pub trait GrantingRequest: EntryRequest {
    /// Reads the requested grant.
    ///
    /// # Errors
    /// A refusal with `PARAMETER_INVALID`.
    fn grant(&self) -> Result<GrantRequest, Refusal>;
}

/// An entry that was added or changed.
pub struct StoredEntry {
    /// The project of the allowlist.
    pub source_project_id: i64,
    /// The project or group that the entry is for.
    pub target_id: i64,
    /// What it grants.
    pub grant: Grant,
}

macro_rules! entry_request {
    ($request:ident, $kind:ident, $target_id:ident) => {
        impl EntryRequest for $request {
            const KIND: AllowlistKind = AllowlistKind::$kind;

            fn project(&self) -> &str {
                &self.id
            }

            fn target_id(&self) -> i64 {
                self.$target_id
            }
        }
    };
}

entry_request!(AllowProjectRequest, Projects, target_project_id);
entry_request!(AllowGroupRequest, Groups, target_group_id);
entry_request!(UpdateAllowedProjectRequest, Projects, target_project_id);
entry_request!(UpdateAllowedGroupRequest, Groups, target_group_id);
entry_request!(DisallowProjectRequest, Projects, target_project_id);
entry_request!(DisallowGroupRequest, Groups, target_group_id);

impl GrantingRequest for AllowProjectRequest {
    fn grant(&self) -> Result<GrantRequest, Refusal> {
        GrantRequest::new(self.default_permissions, &self.job_token_policies, None)
    }
}

impl GrantingRequest for AllowGroupRequest {
    fn grant(&self) -> Result<GrantRequest, Refusal> {
        GrantRequest::new(self.default_permissions, &self.job_token_policies, None)
    }
}

impl GrantingRequest for UpdateAllowedProjectRequest {
    fn grant(&self) -> Result<GrantRequest, Refusal> {
        GrantRequest::new(self.default_permissions, &self.job_token_policies, self.update_mask.as_ref())
    }
}

impl GrantingRequest for UpdateAllowedGroupRequest {
    fn grant(&self) -> Result<GrantRequest, Refusal> {
        GrantRequest::new(self.default_permissions, &self.job_token_policies, self.update_mask.as_ref())
    }
}

macro_rules! entry_response {
    ($response:ident, $target_id:ident) => {
        impl From<StoredEntry> for $response {
            fn from(entry: StoredEntry) -> Self {
                let (default_permissions, job_token_policies) = grant_fields(&entry.grant);
                Self {
                    source_project_id: entry.source_project_id,
                    $target_id: entry.target_id,
                    default_permissions,
                    job_token_policies,
                }
            }
        }
    };
}

entry_response!(AllowProjectResponse, target_project_id);
entry_response!(AllowGroupResponse, target_group_id);
entry_response!(UpdateAllowedProjectResponse, target_project_id);
entry_response!(UpdateAllowedGroupResponse, target_group_id);

//! The grant that a caller requests for an entry of an allowlist.

use std::collections::BTreeSet;

use chassis::status::Refusal;
use prost_types::FieldMask;
use proto::paddock::{contract::v1::Reason, job_token::v1::JobTokenPolicy};

use crate::{
    allowlist::rules::Grant,
    rpc::parameters::{invalid, job_token_policies},
};

/// The grant that a caller requests.
pub struct GrantRequest {
    default_permissions: Option<bool>,
    /// None: the request does not mention the policies.
    policies: Option<BTreeSet<JobTokenPolicy>>,
}

impl GrantRequest {
    /// Reads the fields of a message. An empty list of policies counts as given only if the mask names it.
    ///
    /// # Errors
    /// A refusal with `PARAMETER_INVALID`.
    pub fn new(default_permissions: Option<bool>, numbers: &[i32], mask: Option<&FieldMask>) -> Result<Self, Refusal> {
        let policies = job_token_policies(numbers)?;
        let is_in_mask = mask.is_some_and(|mask| mask.paths.iter().any(|path| path == "job_token_policies"));
        let is_given = is_in_mask || !policies.is_empty();
        Ok(Self { default_permissions, policies: is_given.then(|| policies.into_iter().collect()) })
    }

    /// Returns the new grant of an entry. `present` is its present grant; none for a new entry.
    ///
    /// Policies together with default permissions are refused: they would look like a limit and be none. Without default
    /// permissions the list may be empty: the entry then grants nothing, and so hides the entry of a group above the project. What
    /// the request does not mention stays as it is.
    ///
    /// # Errors
    /// A refusal with `PARAMETER_INVALID` or `PARAMETER_MISSING`.
    pub fn apply(self, present: Option<&Grant>) -> Result<Grant, Refusal> {
        let Self { default_permissions, policies } = self;
        if present.is_some() && default_permissions.is_none() && policies.is_none() {
            let text = "default_permissions, job_token_policies are missing, at least one parameter must be provided";
            return Err(Refusal::new(Reason::ParameterMissing).with_message(text));
        }
        let is_everything_now = present.is_none_or(|present| *present == Grant::Everything);
        match (default_permissions.unwrap_or(is_everything_now), policies, present) {
            (true, Some(policies), _) if !policies.is_empty() => {
                Err(invalid("job_token_policies can only be given when default_permissions is false"))
            }
            (true, ..) => Ok(Grant::Everything),
            (false, Some(policies), _) => Ok(Grant::Policies(policies)),
            (false, None, Some(present @ Grant::Policies(_))) => Ok(present.clone()),
            (false, None, _) => Ok(Grant::Policies(BTreeSet::new())),
        }
    }
}

/// Returns the fields `default_permissions` and `job_token_policies` of a grant.
pub fn grant_fields(grant: &Grant) -> (bool, Vec<i32>) {
    match grant {
        Grant::Everything => (true, Vec::new()),
        Grant::Policies(policies) => (false, policies.iter().map(|policy| *policy as i32).collect()),
    }
}

//! Adds, changes and removes entries of allowlists.

use std::collections::HashSet;

use chassis::{access::CallContext, status::Refusal};
use proto::paddock::contract::v1::Reason;
use tonic::{Request, Status};

use super::messages::{EntryRequest, GrantingRequest, StoredEntry};
use crate::{
    allowlist::rules::Grant,
    error::{Error, Result},
    rpc::{State, state::UserCall},
    store::allowlists::{self, AddedBy, AllowlistEntry, AllowlistKind},
};

impl State {
    /// Handles a request that adds an entry.
    pub(super) async fn add_entry<M: GrantingRequest>(&self, request: Request<M>) -> Result<StoredEntry, Status> {
        let (call, request) = UserCall::read(request)?;
        let requested = request.grant()?;
        let project_id = self.administered_project(request.project(), &call).await?.id;
        let target_id = request.target_id();
        let grant = requested.apply(None)?;
        self.check_target(M::KIND, target_id, &call).await?;
        if M::KIND == AllowlistKind::Projects && target_id == project_id {
            return Err(Refusal::new(Reason::AllowlistEntryExists).into());
        }
        self.insert_entry(M::KIND, project_id, target_id, &grant, &call).await?;
        self.allowlist_changed(M::KIND, project_id, target_id, &call, "added");
        Ok(StoredEntry { source_project_id: project_id, target_id, grant })
    }

    /// Handles a request that changes the grant of an entry.
    pub(super) async fn change_entry<M: GrantingRequest>(&self, request: Request<M>) -> Result<StoredEntry, Status> {
        let (call, request) = UserCall::read(request)?;
        let requested = request.grant()?;
        let project_id = self.administered_project(request.project(), &call).await?.id;
        let target_id = request.target_id();
        let grant = allowlists::change(&self.database, M::KIND, project_id, target_id, |present| {
            requested.apply(Some(present))
        });
        let grant = grant.await?;
        self.allowlist_changed(M::KIND, project_id, target_id, &call, "changed");
        Ok(StoredEntry { source_project_id: project_id, target_id, grant })
    }

    /// Handles a request that removes an entry.
    pub(super) async fn remove_entry<M: EntryRequest>(&self, request: Request<M>) -> Result<(), Status> {
        let (call, request) = UserCall::read(request)?;
        let project_id = self.administered_project(request.project(), &call).await?.id;
        allowlists::remove(&self.database, M::KIND, project_id, request.target_id()).await?;
        self.allowlist_changed(M::KIND, project_id, request.target_id(), &call, "removed");
        Ok(())
    }

    /// Inserts an entry. If the allowlist is full, it first removes the entries for deleted targets. It finds these without the
    /// lock, since a deleted target stays deleted.
    async fn insert_entry(
        &self,
        kind: AllowlistKind,
        project_id: i64,
        target_id: i64,
        grant: &Grant,
        call: &UserCall,
    ) -> Result<()> {
        let entry = AllowlistEntry { target_id, grant: grant.clone(), autopopulated: false };
        let added_by = AddedBy { user_id: call.user.id, at: self.clock.now() };
        let full = match allowlists::add(&self.database, kind, project_id, &entry, &[], added_by).await {
            Err(Error::Refused(refusal)) if refusal.reason() == Reason::AllowlistFull => refusal,
            other => return other,
        };
        let deleted = self.deleted_targets(kind, project_id, &call.context).await?;
        if deleted.is_empty() {
            return Err(full.into());
        }
        allowlists::add(&self.database, kind, project_id, &entry, &deleted, added_by).await?;
        let count = deleted.len();
        tracing::info!(project_id, ?kind, count, "removed entries for what is deleted from a full allowlist");
        Ok(())
    }

    /// Returns the targets of an allowlist that are deleted.
    ///
    /// # Errors
    /// A fault.
    pub async fn deleted_targets(
        &self,
        kind: AllowlistKind,
        project_id: i64,
        context: &CallContext,
    ) -> Result<Vec<i64>> {
        let entries = allowlists::list(&self.database, kind, project_id).await?;
        let ids: Vec<_> = entries.iter().map(|entry| entry.target_id).collect();
        let present: HashSet<_> = match kind {
            AllowlistKind::Projects => self.directory.projects(&ids, None, context).await?.into_keys().collect(),
            AllowlistKind::Groups => self.directory.groups(&ids, None, context).await?.into_keys().collect(),
        };
        Ok(ids.into_iter().filter(|id| !present.contains(id)).collect())
    }

    /// Checks that the user sees the target of a new entry.
    async fn check_target(&self, kind: AllowlistKind, id: i64, call: &UserCall) -> Result<()> {
        match kind {
            AllowlistKind::Projects => {
                let found = self.directory.projects(&[id], Some(&call.user), &call.context).await?.remove(&id);
                let project = found.filter(|found| found.visible).and_then(|found| found.project);
                let project = project.ok_or_else(|| Refusal::new(Reason::AllowlistProjectNotFound))?;
                self.known_projects.remember(id, &project.path_with_namespace).await;
            }
            AllowlistKind::Groups => {
                let found = self.directory.groups(&[id], Some(&call.user), &call.context).await?.remove(&id);
                found.filter(|found| found.visible).ok_or_else(|| Refusal::new(Reason::AllowlistGroupNotFound))?;
            }
        }
        Ok(())
    }

    fn allowlist_changed(&self, kind: AllowlistKind, project_id: i64, target_id: i64, call: &UserCall, what: &str) {
        self.decider.scope_changed();
        tracing::info!(project_id, ?kind, target_id, user_id = call.user.id, what, "changed an allowlist");
    }
}

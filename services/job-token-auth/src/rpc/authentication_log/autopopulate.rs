//! Adds the allowlist entries that the recorded accesses of a project need.

use std::collections::{BTreeMap, BTreeSet};

use chassis::{access::CallContext, db, status::Refusal};
use proto::paddock::{
    contract::v1::Reason,
    job_token::v1::{AutopopulateAllowlistRequest, AutopopulateAllowlistResponse},
};
use sea_orm::DatabaseTransaction;

use super::{parameters, project_names::ProjectNames, usage::origin};
use crate::{
    allowlist::{
        dry_run::RouteUsage,
        from_log::{EntryPlan, LogUsage, OriginUsage},
        rules::Grant,
    },
    error::Result,
    rpc::{State, state::UserCall},
    store::allowlists::{self, AddedBy, AllowlistEntry, AllowlistKind},
};

impl State {
    /// Adds entries for the projects in the log that the allowlist refuses something.
    ///
    /// # Errors
    /// A refusal, or a fault.
    pub(super) async fn autopopulate_allowlist(
        &self,
        request: &AutopopulateAllowlistRequest,
        call: &UserCall,
    ) -> Result<AutopopulateAllowlistResponse> {
        let days = parameters::days(request.days)?;
        let project_id = self.administered_project(&request.id, call).await?.id;
        let usages = self.route_usages(project_id, days).await?;
        let names = ProjectNames::fetch(self, usages.iter().map(|usage| usage.origin_project_id), call).await?;
        let origins = origin_usages(&usages, &names);
        let groups_above: BTreeSet<i64> =
            origins.iter().flat_map(|usage| usage.origin.ancestors.iter().copied()).collect();
        let groups_above: Vec<i64> = groups_above.into_iter().collect();
        let visible_groups = self.visible_groups(&groups_above, call).await?;
        let used_policies_only = request.used_policies_only.unwrap_or(false);
        let log = LogUsage { origins, visible_groups, used_policies_only };
        let deleted = self.deleted_targets_if_needed(project_id, &log, &call.context).await?;
        let plan = self.add_planned_entries(project_id, &log, &deleted, call).await?;
        self.decider.scope_changed();
        tracing::info!(
            project_id,
            user_id = call.user.id,
            projects = plan.projects.len(),
            groups = plan.groups.len(),
            "filled an allowlist from the log"
        );
        Ok(AutopopulateAllowlistResponse {
            added_project_ids: plan.projects.into_keys().collect(),
            added_group_ids: plan.groups.into_keys().collect(),
            still_refused_project_ids: plan.still_refused,
        })
    }

    /// Returns the deleted targets of both allowlists, if there are too few free entries for the projects in the log.
    async fn deleted_targets_if_needed(
        &self,
        project_id: i64,
        log: &LogUsage,
        context: &CallContext,
    ) -> Result<[(AllowlistKind, Vec<i64>); 2]> {
        let scope = allowlists::scope(&self.database, project_id).await?;
        let mut deleted = [(AllowlistKind::Projects, Vec::new()), (AllowlistKind::Groups, Vec::new())];
        if log.plan(&scope, allowlists::MAX_ENTRIES).is_none_or(|plan| !plan.groups.is_empty()) {
            for (kind, ids) in &mut deleted {
                *ids = self.deleted_targets(*kind, project_id, context).await?;
            }
        }
        Ok(deleted)
    }

    /// Adds all entries or none. It locks the allowlists before it reads them, so that two calls do not use the same free entries.
    async fn add_planned_entries(
        &self,
        project_id: i64,
        log: &LogUsage,
        deleted: &[(AllowlistKind, Vec<i64>)],
        call: &UserCall,
    ) -> Result<EntryPlan> {
        let tx = db::begin_write(&self.database).await?;
        allowlists::lock(&tx, project_id).await?;
        for (kind, ids) in deleted {
            allowlists::remove_all(&tx, *kind, project_id, ids).await?;
        }
        let scope = allowlists::scope(&tx, project_id).await?;
        let plan = log.plan(&scope, allowlists::MAX_ENTRIES);
        let plan = plan.ok_or_else(|| Refusal::new(Reason::AllowlistFull))?;
        let added_by = AddedBy { user_id: call.user.id, at: self.clock.now() };
        add_grants(&tx, AllowlistKind::Projects, project_id, &plan.projects, added_by).await?;
        add_grants(&tx, AllowlistKind::Groups, project_id, &plan.groups, added_by).await?;
        tx.commit().await?;
        Ok(plan)
    }
}

async fn add_grants(
    tx: &DatabaseTransaction,
    kind: AllowlistKind,
    project_id: i64,
    grants: &BTreeMap<i64, Grant>,
    added_by: AddedBy,
) -> Result<()> {
    let entries: Vec<_> = grants
        .iter()
        .map(|(id, grant)| AllowlistEntry { target_id: *id, grant: grant.clone(), autopopulated: true })
        .collect();
    allowlists::add_in(tx, kind, project_id, &entries, added_by).await
}

/// Groups the usages by origin, in the order of their ids. Deleted projects are left out.
fn origin_usages(usages: &[RouteUsage], names: &ProjectNames) -> Vec<OriginUsage> {
    let mut origins = BTreeMap::<i64, OriginUsage>::new();
    for usage in usages {
        let id = usage.origin_project_id;
        let Some(found) = names.found().get(&id) else { continue };
        let origin = origins.entry(id).or_insert_with(|| OriginUsage {
            origin: origin(id, found),
            visible: found.visible,
            policies_by_route: BTreeSet::new(),
        });
        origin.policies_by_route.insert(usage.policies.clone());
    }
    origins.into_values().collect()
}

//! What the log says of an allowlist: which accesses it would have refused, and which entries it needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chassis::{
    access::{CallContext, User},
    status::Refusal,
};
use proto::paddock::{
    contract::v1::Reason,
    directory::v1::ProjectDescription,
    job_token::v1::{
        AutopopulateAllowlistRequest, AutopopulateAllowlistResponse, RehearseAllowlistRequest,
        RehearseAllowlistResponse, RehearsedRefusal,
    },
};
use proto::timestamp;
use time::Duration;

use super::{names::Names, params};
use crate::{
    error::Result,
    log::{
        autopopulate::{Evidence, Plan, Visitor},
        rehearsal::{self, Refused, Use},
    },
    policy,
    rpc::{
        State,
        scope::{invalid, policies},
    },
    scope::{Grant, Origin, Scope, Target},
    store::{
        allowlists::{self, Added, Entry, Kind},
        log_reader,
    },
};

impl State {
    /// Decides the recorded accesses under the given allowlist, or the one that is there.
    ///
    /// # Errors
    /// A refusal, or a fault.
    pub(super) async fn rehearse(
        &self,
        request: &RehearseAllowlistRequest,
        user: &User,
        context: &CallContext,
    ) -> Result<RehearseAllowlistResponse> {
        let (days, given) = (params::days(request.days)?, given(request)?);
        let target = Target::try_from(&self.administered(&request.id, user, context).await?)?;
        let scope = match given {
            // What the caller does not see cannot be in a new entry, and a group must not tell what is below it.
            Some(mut scope) => {
                let projects = self.directory.projects(&request.project_ids, Some(user), context).await?;
                scope.projects.retain(|project, _| projects.get(project).is_some_and(|found| found.visible));
                let groups = self.seen_groups(&request.group_ids, user, context).await?;
                scope.groups.retain(|group, _| groups.contains(group));
                scope
            }
            // Whether the scope is on does not matter: it is the allowlist that is rehearsed, often before it is switched on.
            None => Scope { inbound_enabled: true, ..allowlists::scope(&self.database, target.id).await? },
        };
        let uses = self.uses(target.id, days).await?;
        let names = Names::of(self, uses.iter().map(|used| used.origin_project_id), user, context).await?;
        let outcome = rehearsal::rehearse(&scope, &uses, &origins(&names));
        let refusal = |refused: Refused| RehearsedRefusal {
            origin_project: Some(names.project(refused.origin.id)),
            reason: refused.denied.refusal(&refused.origin, &target).spec().code.to_owned(),
            route: refused.route,
            count: refused.count,
            last_authorized_at: Some(timestamp::from_millis(refused.last_authorized_at)),
            missing_policies: refused.missing.into_iter().map(i32::from).collect(),
        };
        Ok(RehearseAllowlistResponse {
            examined: outcome.examined,
            allowed: outcome.allowed,
            refused: outcome.examined - outcome.allowed,
            refusals: outcome.refusals.into_iter().map(refusal).collect(),
        })
    }

    /// Adds the entries that let in whoever came.
    ///
    /// # Errors
    /// A refusal, or a fault.
    pub(super) async fn autopopulate(
        &self,
        request: &AutopopulateAllowlistRequest,
        user: &User,
        context: &CallContext,
    ) -> Result<AutopopulateAllowlistResponse> {
        let days = params::days(request.days)?;
        let project_id = Target::try_from(&self.administered(&request.id, user, context).await?)?.id;
        let uses = self.uses(project_id, days).await?;
        let names = Names::of(self, uses.iter().map(|used| used.origin_project_id), user, context).await?;
        let visitors = visitors(&uses, &names);
        let above = visitors.iter().flat_map(|visitor| visitor.origin.ancestors.iter().copied());
        let above = Vec::from_iter(BTreeSet::from_iter(above));
        let groups = self.seen_groups(&above, user, context).await?;
        let used_policies_only = request.used_policies_only.unwrap_or(false);
        let evidence = Evidence { visitors, groups, used_policies_only };
        let gone = self.gone_if_needed(project_id, &evidence, context).await?;
        let plan = self.add(project_id, &evidence, &gone, user).await?;
        self.facts.scope_changed();
        let (projects, groups) = (plan.projects.len(), plan.groups.len());
        tracing::info!(project_id, user_id = user.id, projects, groups, "filled an allowlist from the log");
        Ok(AutopopulateAllowlistResponse {
            added_project_ids: plan.projects.into_keys().collect(),
            added_group_ids: plan.groups.into_keys().collect(),
            still_refused_project_ids: plan.still_refused,
        })
    }

    /// The entries for what is deleted, if the allowlist lacks room for the projects that came.
    async fn gone_if_needed(
        &self,
        project_id: i64,
        evidence: &Evidence,
        context: &CallContext,
    ) -> Result<[(Kind, Vec<i64>); 2]> {
        let scope = allowlists::scope(&self.database, project_id).await?;
        let mut gone = [(Kind::Projects, Vec::new()), (Kind::Groups, Vec::new())];
        if evidence.plan(&scope, allowlists::MAX_ENTRIES).is_none_or(|plan| !plan.groups.is_empty()) {
            for (kind, ids) in &mut gone {
                *ids = self.gone(*kind, project_id, context).await?;
            }
        }
        Ok(gone)
    }

    /// All entries or none. The allowlist is locked before it is read, so that two callers do not count the same room.
    async fn add(&self, project_id: i64, evidence: &Evidence, gone: &[(Kind, Vec<i64>)], user: &User) -> Result<Plan> {
        let tx = chassis::db::begin_write(&self.database).await?;
        allowlists::lock(&tx, project_id).await?;
        for (kind, ids) in gone {
            allowlists::remove_all(&tx, *kind, project_id, ids).await?;
        }
        let scope = allowlists::scope(&tx, project_id).await?;
        let plan = evidence.plan(&scope, allowlists::MAX_ENTRIES);
        let plan = plan.ok_or_else(|| Refusal::new(Reason::AllowlistFull))?;
        let added = Added { by: user.id, at: self.clock.now() };
        for (kind, wanted) in [(Kind::Projects, &plan.projects), (Kind::Groups, &plan.groups)] {
            let entry =
                |(id, grant): (&i64, &Grant)| Entry { target_id: *id, grant: grant.clone(), autopopulated: true };
            let entries: Vec<_> = wanted.iter().map(entry).collect();
            allowlists::add_in(&tx, kind, project_id, &entries, added).await?;
        }
        tx.commit().await?;
        Ok(plan)
    }

    /// Those of the groups that the user sees.
    async fn seen_groups(&self, ids: &[i64], user: &User, context: &CallContext) -> Result<BTreeSet<i64>> {
        let found = self.directory.groups(ids, Some(user), context).await?;
        Ok(found.into_iter().filter(|(_, found)| found.visible).map(|(id, _)| id).collect())
    }

    async fn uses(&self, project_id: i64, days: i64) -> Result<Vec<Use>> {
        let since = timestamp::millis(self.clock.now() - Duration::days(days));
        let rows = log_reader::uses(&self.database, project_id, since).await?;
        let used = |row: log_reader::Use| Use {
            origin_project_id: row.origin_project_id,
            route: row.route,
            policies: policy::split(&row.policies),
            count: row.count,
            last_authorized_at: row.last_authorized_at,
        };
        Ok(rows.into_iter().map(used).collect())
    }
}

/// The allowlist of the request; none: the one that is there.
fn given(request: &RehearseAllowlistRequest) -> Result<Option<Scope>, Refusal> {
    let granted = policies(&request.job_token_policies)?;
    let everything = request.default_permissions.unwrap_or(true);
    if everything && !granted.is_empty() {
        return Err(invalid("job_token_policies can only be given when default_permissions is false"));
    }
    if request.project_ids.is_empty() && request.group_ids.is_empty() {
        if everything {
            return Ok(None);
        }
        let text = "project_ids, group_ids are missing, at least one parameter must be provided";
        return Err(Refusal::new(Reason::ParameterMissing).with_message(text));
    }
    let grant = if everything { Grant::Everything } else { Grant::Policies(granted.into_iter().collect()) };
    let entries = |ids: &[i64]| ids.iter().map(|id| (*id, grant.clone())).collect();
    let (projects, groups) = (entries(&request.project_ids), entries(&request.group_ids));
    Ok(Some(Scope { inbound_enabled: true, projects, groups }))
}

fn origin(id: i64, found: &ProjectDescription) -> Origin {
    let full_path = found.project.as_ref().map(|project| project.path_with_namespace.clone()).unwrap_or_default();
    Origin { id, full_path, ancestors: found.ancestor_group_ids.clone() }
}

fn origins(names: &Names) -> HashMap<i64, Origin> {
    names.found().iter().map(|(id, found)| (*id, origin(*id, found))).collect()
}

/// Who came, without projects that are deleted, by id.
fn visitors(uses: &[Use], names: &Names) -> Vec<Visitor> {
    let mut visitors = BTreeMap::<i64, Visitor>::new();
    for used in uses {
        let id = used.origin_project_id;
        let Some(found) = names.found().get(&id) else { continue };
        let new = || Visitor { origin: origin(id, found), visible: found.visible, uses: BTreeSet::new() };
        visitors.entry(id).or_insert_with(new).uses.insert(used.policies.clone());
    }
    visitors.into_values().collect()
}

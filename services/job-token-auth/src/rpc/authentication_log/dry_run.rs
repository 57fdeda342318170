//! Dry runs of an allowlist: which recorded accesses it would have refused.

use std::collections::HashMap;

use chassis::status::Refusal;
use proto::{
    paddock::{
        contract::v1::Reason,
        job_token::v1::{DryRunAllowlistRequest, DryRunAllowlistResponse, DryRunRefusal},
    },
    timestamp,
};

use super::{parameters, project_names::ProjectNames, usage::origin};
use crate::{
    allowlist::{
        dry_run::{RefusedUsage, dry_run},
        rules::{Grant, Scope, Target},
    },
    error::Result,
    rpc::{
        State,
        parameters::{invalid, job_token_policies},
        state::UserCall,
    },
    store::allowlists,
};

impl State {
    /// Applies the given allowlist, or the present one, to the recorded accesses.
    ///
    /// # Errors
    /// A refusal, or a fault.
    pub(super) async fn dry_run_allowlist(
        &self,
        request: &DryRunAllowlistRequest,
        call: &UserCall,
    ) -> Result<DryRunAllowlistResponse> {
        let days = parameters::days(request.days)?;
        let given = given_scope(request)?;
        let target = Target::try_from(&self.administered_access(&request.id, call).await?)?;
        let scope = match given {
            Some(scope) => self.visible_part(scope, request, call).await?,
            // Whether the scope is on does not matter: users try an allowlist before they switch it on.
            None => Scope { inbound_enabled: true, ..allowlists::scope(&self.database, target.id).await? },
        };
        let usages = self.route_usages(target.id, days).await?;
        let names = ProjectNames::fetch(self, usages.iter().map(|usage| usage.origin_project_id), call).await?;
        let origins: HashMap<_, _> = names.found().iter().map(|(id, found)| (*id, origin(*id, found))).collect();
        let result = dry_run(&scope, &usages, &origins);
        Ok(DryRunAllowlistResponse {
            examined: result.examined,
            allowed: result.allowed,
            refused: result.examined - result.allowed,
            refusals: result.refusals.into_iter().map(|refused| refusal_message(refused, &target, &names)).collect(),
        })
    }

    /// Removes the projects and groups that the caller does not see: entries for them would be refused, and the result for a group
    /// must not reveal the projects below it.
    async fn visible_part(&self, mut scope: Scope, request: &DryRunAllowlistRequest, call: &UserCall) -> Result<Scope> {
        let projects = self.directory.projects(&request.project_ids, Some(&call.user), &call.context).await?;
        scope.projects.retain(|project, _| projects.get(project).is_some_and(|found| found.visible));
        let groups = self.visible_groups(&request.group_ids, call).await?;
        scope.groups.retain(|group, _| groups.contains(group));
        Ok(scope)
    }
}

/// Returns the allowlist of the request; none if the request has none, so that the present one applies.
fn given_scope(request: &DryRunAllowlistRequest) -> Result<Option<Scope>, Refusal> {
    let policies = job_token_policies(&request.job_token_policies)?;
    let everything = request.default_permissions.unwrap_or(true);
    if everything && !policies.is_empty() {
        return Err(invalid("job_token_policies can only be given when default_permissions is false"));
    }
    if request.project_ids.is_empty() && request.group_ids.is_empty() {
        if everything {
            return Ok(None);
        }
        let text = "project_ids, group_ids are missing, at least one parameter must be provided";
        return Err(Refusal::new(Reason::ParameterMissing).with_message(text));
    }
    let grant = if everything { Grant::Everything } else { Grant::Policies(policies.into_iter().collect()) };
    Ok(Some(Scope {
        inbound_enabled: true,
        projects: request.project_ids.iter().map(|id| (*id, grant.clone())).collect(),
        groups: request.group_ids.iter().map(|id| (*id, grant.clone())).collect(),
    }))
}

fn refusal_message(refused: RefusedUsage, target: &Target, names: &ProjectNames) -> DryRunRefusal {
    DryRunRefusal {
        origin_project: Some(names.project(refused.origin.id)),
        reason: refused.denied.refusal(&refused.origin, target).spec().code.to_owned(),
        route: refused.route,
        count: refused.count,
        last_authorized_at: Some(timestamp::from_millis(refused.last_authorized_at)),
        missing_policies: refused.missing.into_iter().map(i32::from).collect(),
    }
}

//! The recorded usage of a project, for dry runs and for entries made from the log.

use std::collections::BTreeSet;

use proto::{paddock::directory::v1::ProjectDescription, timestamp};
use time::Duration;

use crate::{
    allowlist::{dry_run::RouteUsage, policy, rules::Origin},
    error::Result,
    rpc::{State, state::UserCall},
    store::log_reader,
};

impl State {
    /// Reads the accesses to a project in the last days.
    pub(super) async fn route_usages(&self, project_id: i64, days: i64) -> Result<Vec<RouteUsage>> {
        let since = timestamp::millis(self.clock.now() - Duration::days(days));
        let rows = log_reader::usages(&self.database, project_id, since).await?;
        let usages = rows.into_iter().map(|row| RouteUsage {
            origin_project_id: row.origin_project_id,
            route: row.route,
            policies: policy::split(&row.policies),
            count: row.count,
            last_authorized_at: row.last_authorized_at,
        });
        Ok(usages.collect())
    }

    /// Returns those of the groups that the user sees.
    pub(super) async fn visible_groups(&self, ids: &[i64], call: &UserCall) -> Result<BTreeSet<i64>> {
        let found = self.directory.groups(ids, Some(&call.user), &call.context).await?;
        Ok(found.into_iter().filter(|(_, found)| found.visible).map(|(id, _)| id).collect())
    }
}

/// Makes an origin from the description of its project.
pub fn origin(id: i64, found: &ProjectDescription) -> Origin {
    let full_path = found.project.as_ref().map(|project| project.path_with_namespace.clone()).unwrap_or_default();
    Origin { id, full_path, ancestors: found.ancestor_group_ids.clone() }
}

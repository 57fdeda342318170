//! From the rows of the log to its messages.

use chassis::access::{CallContext, User};
use proto::paddock::job_token::v1::{AccessEvent, AuthenticationLogEntry, LoggedPolicy};

use super::names::Names;
use proto::timestamp::from_millis;

use crate::{
    error::Result,
    policy,
    rpc::State,
    store::log_reader::{self, Event, Events, Filter, Pair},
};

/// Stands for a user whom the caller is not shown.
const HIDDEN: i64 = 0;

impl State {
    /// The pairs as entries.
    pub(super) async fn entries(
        &self,
        filter: &Filter,
        pairs: Vec<Pair>,
        user: &User,
        context: &CallContext,
    ) -> Result<Vec<AuthenticationLogEntry>> {
        let others: Vec<_> = pairs.iter().map(|pair| pair.other(filter.side)).collect();
        let mut policies = log_reader::policies(&self.database, filter, &others).await?;
        let ids = pairs.iter().flat_map(|pair| [pair.origin_project_id, pair.target_project_id]);
        let names = Names::of(self, ids, user, context).await?;
        let entry = |pair: Pair| {
            let used = policies.remove(&pair.other(filter.side)).unwrap_or_default();
            let last_used = used.iter().map(|(policy, at)| LoggedPolicy {
                policy: (*policy).into(),
                last_authorized_at: Some(from_millis(*at)),
            });
            AuthenticationLogEntry {
                origin_project: Some(names.project(pair.origin_project_id)),
                accessed_project: Some(names.project(pair.target_project_id)),
                last_authorized_at: Some(from_millis(pair.last_authorized_at)),
                job_token_policies: used.keys().map(|policy| (*policy).into()).collect(),
                job_token_policies_last_used: last_used.collect(),
                first_authorized_at: Some(from_millis(pair.first_authorized_at)),
                access_count: pair.access_count,
                last_job_id: pair.last_job_id,
                last_user_id: if names.sees(pair.origin_project_id) { pair.last_user_id } else { HIDDEN },
            }
        };
        Ok(pairs.into_iter().map(entry).collect())
    }

    /// The rows as events. If they were asked for by their user, those whose user is not shown are left out.
    pub(super) async fn events(
        &self,
        mut rows: Vec<Event>,
        asked: Events,
        user: &User,
        context: &CallContext,
    ) -> Result<Vec<AccessEvent>> {
        let ids = rows.iter().flat_map(|row| [row.origin_project_id, row.target_project_id]);
        let names = Names::of(self, ids, user, context).await?;
        for row in rows.iter_mut().filter(|row| !names.sees(row.origin_project_id)) {
            row.user_id = HIDDEN;
            row.remote_ip.clear();
        }
        rows.retain(|row| asked.user_id.is_none_or(|user_id| row.user_id == user_id));
        let event = |row: Event| AccessEvent {
            origin_project: Some(names.project(row.origin_project_id)),
            accessed_project: Some(names.project(row.target_project_id)),
            id: row.id,
            accessed_at: Some(from_millis(row.accessed_at)),
            job_id: row.job_id,
            user_id: row.user_id,
            route: row.route,
            job_token_policies: policy::split(&row.policies).into_iter().map(i32::from).collect(),
            status: row.status.into(),
            capture_mode: row.mode.into(),
            request_id: row.request_id,
            remote_ip: Some(row.remote_ip).filter(|address| !address.is_empty()),
            resolved: !asked.unresolved,
        };
        Ok(rows.into_iter().map(event).collect())
    }
}

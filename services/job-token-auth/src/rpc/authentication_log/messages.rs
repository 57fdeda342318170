//! The messages of the rows of the log.

use proto::{
    paddock::job_token::v1::{AccessEvent, AuthenticationLogEntry, LoggedPolicy},
    timestamp::from_millis,
};

use super::project_names::ProjectNames;
use crate::{
    allowlist::policy,
    error::Result,
    rpc::{State, state::UserCall},
    store::log_reader::{self, EventFilter, EventRow, LogFilter, PairRow, PolicyTimes},
};

/// The id in place of that of a user who is not shown to the caller.
const HIDDEN_USER_ID: i64 = 0;

impl State {
    /// Makes the entries of pairs.
    pub(super) async fn log_entries(
        &self,
        filter: &LogFilter,
        pairs: Vec<PairRow>,
        call: &UserCall,
    ) -> Result<Vec<AuthenticationLogEntry>> {
        let others: Vec<_> = pairs.iter().map(|pair| pair.other(filter.side)).collect();
        let mut policies = log_reader::policies(&self.database, filter, &others).await?;
        let ids = pairs.iter().flat_map(|pair| [pair.origin_project_id, pair.target_project_id]);
        let names = ProjectNames::fetch(self, ids, call).await?;
        let entries = pairs.into_iter().map(|pair| {
            let used = policies.remove(&pair.other(filter.side)).unwrap_or_default();
            log_entry(&pair, &used, &names)
        });
        Ok(entries.collect())
    }

    /// Makes the messages of events. If the filter names a user, events whose user is not shown to the caller are left out.
    pub(super) async fn access_events(
        &self,
        mut rows: Vec<EventRow>,
        event_filter: EventFilter,
        call: &UserCall,
    ) -> Result<Vec<AccessEvent>> {
        let ids = rows.iter().flat_map(|row| [row.origin_project_id, row.target_project_id]);
        let names = ProjectNames::fetch(self, ids, call).await?;
        for row in rows.iter_mut().filter(|row| !names.is_visible(row.origin_project_id)) {
            row.user_id = HIDDEN_USER_ID;
            row.remote_ip.clear();
        }
        rows.retain(|row| event_filter.user_id.is_none_or(|user_id| row.user_id == user_id));
        Ok(rows.into_iter().map(|row| access_event(row, !event_filter.unresolved, &names)).collect())
    }
}

fn log_entry(pair: &PairRow, used: &PolicyTimes, names: &ProjectNames) -> AuthenticationLogEntry {
    let is_user_shown = names.is_visible(pair.origin_project_id);
    let last_used = used
        .iter()
        .map(|(policy, at)| LoggedPolicy { policy: (*policy).into(), last_authorized_at: Some(from_millis(*at)) });
    AuthenticationLogEntry {
        origin_project: Some(names.project(pair.origin_project_id)),
        accessed_project: Some(names.project(pair.target_project_id)),
        last_authorized_at: Some(from_millis(pair.last_authorized_at)),
        job_token_policies: used.keys().map(|policy| (*policy).into()).collect(),
        job_token_policies_last_used: last_used.collect(),
        first_authorized_at: Some(from_millis(pair.first_authorized_at)),
        access_count: pair.access_count,
        last_job_id: pair.last_job_id,
        last_user_id: if is_user_shown { pair.last_user_id } else { HIDDEN_USER_ID },
    }
}

fn access_event(row: EventRow, resolved: bool, names: &ProjectNames) -> AccessEvent {
    AccessEvent {
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
        resolved,
    }
}

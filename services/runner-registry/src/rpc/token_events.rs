//! Records what happens to runner tokens. An event that accompanies a change is part of its transaction. Any other event is
//! recorded after the decision, and one that cannot be recorded changes nothing for the caller.

use std::time::Duration;

use chassis::{access, db::error::DatabaseFailure, status::Fault};
use sea_orm::DatabaseTransaction;
use time::OffsetDateTime;
use tonic::Request;

use crate::{
    error::{Error, Result},
    rpc::State,
    store::{
        self,
        runner_token_events::{self, EventCaller, NewEvent},
    },
};

const EVENTS: &str = "paddock_runner_token_events_total";

/// How long a call waits for its event to be recorded.
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);

/// How many events without a change are recorded at the same time. Callers that are refused must not use up the connections
/// to the database that the others need.
pub const MAX_CONCURRENT: usize = 2;

/// Describes the metric of events.
pub fn describe_metrics() {
    metrics::describe_counter!(EVENTS, "events in the life of runner tokens, by kind and grade");
}

/// The user who causes an event.
///
/// # Errors
/// A fault for a caller that is not a user; the access table refuses it before.
pub fn calling_user<T>(request: &Request<T>) -> Result<EventCaller, Fault> {
    let context = access::context(request)?;
    Ok(EventCaller {
        system_id: None,
        ip_address: context.peer_address.map(|address| address.to_string()),
        user_agent: context.user_agent.clone(),
        user_id: Some(context.user()?.id),
    })
}

/// Records an event in the transaction of the change that it accompanies.
pub async fn record(tx: &DatabaseTransaction, event: NewEvent<'_>, now: OffsetDateTime) -> Result<()> {
    runner_token_events::record(tx, event, now).await?;
    let finding = event.finding;
    metrics::counter!(EVENTS, "kind" => finding.kind.name(), "grade" => finding.grade.name()).increment(1);
    Ok(())
}

/// Records an event without a change. A failure is logged.
pub async fn record_alone(state: &State, event: NewEvent<'_>, now: OffsetDateTime) {
    let runner_id = event.runner_id;
    match tokio::time::timeout(RECORD_TIMEOUT, write_alone(state, event, now)).await {
        Ok(Ok(())) => {}
        // The runner was deleted meanwhile, and its events with it.
        Ok(Err(Error::Database(error))) if DatabaseFailure::of(&error) == DatabaseFailure::ForeignKeyViolation => {}
        Ok(Err(error)) => tracing::warn!(%error, runner_id, "event of a runner token not recorded"),
        Err(_) => tracing::warn!(runner_id, "event of a runner token not recorded in time"),
    }
}

async fn write_alone(state: &State, event: NewEvent<'_>, now: OffsetDateTime) -> Result<()> {
    let _permit = state.event_permits.acquire().await.map_err(Error::internal)?;
    let tx = store::begin(&state.database).await?;
    record(&tx, event, now).await?;
    Ok(tx.commit().await?)
}

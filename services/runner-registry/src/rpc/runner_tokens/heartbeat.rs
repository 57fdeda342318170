//! When a contact of a runner is recorded: seldom enough that polling costs no writes. A contact that cannot be
//! recorded refuses no call.

use proto::timestamp;
use sea_orm::DatabaseTransaction;
use time::{Duration, OffsetDateTime};

use super::{authenticate::Authenticated, contact::Contact};
use crate::{
    entity::{runner_manager, runner_token},
    error::Result,
    rpc::{State, token_events},
    runner::token_event::Finding,
    store::{
        self,
        managers::{self, Info},
        runner_token_events::{self, NewEvent},
    },
};

/// How long a call waits for its contact to be recorded, when others keep the row locked.
const RECORD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Records a contact if the last record is old enough, or if the manager reports something new. A failure is logged and
/// changes nothing for the caller: the token has authenticated.
pub async fn record(state: &State, authenticated: &Authenticated, contact: &Contact) {
    let interval = state.config.heartbeat.write_interval();
    let now = authenticated.now;
    let is_runner_due = is_due(authenticated.runner.contacted_at, interval, now);
    let is_manager_due = contact.has_manager()
        && match &authenticated.manager {
            None => true,
            Some(manager) => {
                has_moved(manager, &authenticated.token)
                    || is_due(Some(manager.contacted_at), interval, now)
                    || is_news(manager, &contact.info)
            }
        };
    if !is_manager_due && !is_runner_due {
        return;
    }
    let runner_id = authenticated.runner.id;
    match tokio::time::timeout(RECORD_TIMEOUT, write_contact(state, authenticated, contact)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, runner_id, "contact of a runner not recorded"),
        Err(_) => tracing::warn!(runner_id, "contact of a runner not recorded in time"),
    }
}

/// Reports whether the last record is at least an interval away. One in the future counts too: the clock was ahead, and
/// a runner that is gone would count as online until then.
fn is_due(contacted_at: Option<i64>, interval: Duration, now: OffsetDateTime) -> bool {
    contacted_at.is_none_or(|contacted_at| (now - timestamp::time(contacted_at)).abs() >= interval)
}

/// Reports whether the manager uses a newer token than before. It is recorded at once: a retiring token depends on it.
fn has_moved(manager: &runner_manager::Model, token: &runner_token::Model) -> bool {
    manager.generation < token.generation
}

/// Reports whether the manager sends something that is not recorded. Its address does not count: it may change with
/// every call.
fn is_news(manager: &runner_manager::Model, info: &Info) -> bool {
    [
        (&manager.version, &info.version),
        (&manager.revision, &info.revision),
        (&manager.platform, &info.platform),
        (&manager.architecture, &info.architecture),
        (&manager.executor, &info.executor),
    ]
    .into_iter()
    .any(|(known, sent)| sent.is_some() && known != sent)
}

async fn write_contact(state: &State, authenticated: &Authenticated, contact: &Contact) -> Result<()> {
    let runner_id = authenticated.runner.id;
    let now = authenticated.now;
    let tx = store::begin(&state.database).await?;
    // The runner first: its row orders all changes below it.
    let exists = managers::record_contact(&tx, runner_id, &contact.info, now).await?;
    if exists && contact.has_manager() {
        let token = &authenticated.token;
        if authenticated.manager.is_none() && !authenticated.is_first_use {
            record_arrival(&tx, token, contact, now).await?;
        }
        managers::record(&tx, runner_id, &contact.system_id, token.generation, &contact.info, now).await?;
    }
    Ok(tx.commit().await?)
}

/// Records the event of a new manager, unless another call of the same manager did so meanwhile.
async fn record_arrival(
    tx: &DatabaseTransaction,
    token: &runner_token::Model,
    contact: &Contact,
    now: OffsetDateTime,
) -> Result<()> {
    let runner_id = token.runner_id;
    if managers::find(tx, runner_id, &contact.system_id).await?.is_some() {
        return Ok(());
    }
    let others = managers::newest_generation_of_others(tx, runner_id, &contact.system_id).await?;
    let is_first_user = token.predecessor_id.is_some()
        && others.is_none_or(|newest| newest < token.generation)
        && !runner_token_events::was_first_used_by_manager(tx, runner_id, token.generation).await?;
    let finding = Finding::arrival(is_first_user, others.is_some());
    token_events::record(tx, NewEvent::of(token, finding, &contact.event_caller()), now).await
}

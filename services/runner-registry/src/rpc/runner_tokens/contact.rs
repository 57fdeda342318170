//! What is recorded of a contact, and when: seldom enough that polling costs no writes. A contact that cannot be recorded
//! refuses nobody.

use std::net::IpAddr;

use proto::{paddock::runner::v1::RunnerInfo, timestamp};
use time::{Duration, OffsetDateTime};

use super::Authenticated;
use crate::{
    directory::text,
    entity::runner_manager,
    error::{Error, Result},
    rpc::State,
    runner::validation::MAX_NAME,
    store::{
        self,
        managers::{self, Info},
    },
};

/// The system id of a runner program that sends none.
const LEGACY: &str = "<legacy>";

/// The most characters of a system id.
const MAX_SYSTEM_ID: usize = 64;

/// How long a call waits for its contact to be recorded, when others keep the row locked.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Who calls, besides the token.
#[derive(Debug)]
pub struct Contact {
    /// The id that the runner program keeps for its machine; empty for a call that concerns no manager.
    pub system_id: String,
    /// What it says of itself.
    pub info: Info,
}

impl Contact {
    /// The contact of a manager.
    pub fn new(system_id: Option<String>, info: Option<RunnerInfo>, address: Option<IpAddr>) -> Result<Self> {
        let system_id = system_id.filter(|system_id| !system_id.is_empty()).unwrap_or_else(|| LEGACY.to_owned());
        if system_id.chars().count() > MAX_SYSTEM_ID {
            let text = format!("system_id is too long (maximum is {MAX_SYSTEM_ID} characters)");
            return Err(Error::ParameterInvalid(text));
        }
        text::forbid_nul("system_id", &system_id)?;
        let info = info.unwrap_or_default();
        let info = Info {
            name: clean(info.name),
            version: clean(info.version),
            revision: clean(info.revision),
            platform: clean(info.platform),
            architecture: clean(info.architecture),
            executor: clean(info.executor),
            ip_address: address.map(|address| address.to_string()),
        };
        Ok(Self { system_id, info })
    }

    /// The contact of a call that concerns no manager.
    pub fn of_no_manager(address: Option<IpAddr>) -> Self {
        let info = Info { ip_address: address.map(|address| address.to_string()), ..Info::default() };
        Self { system_id: String::new(), info }
    }

    fn has_manager(&self) -> bool {
        !self.system_id.is_empty()
    }
}

/// What is longer is cut, what the databases cannot keep is left out: a runner is not refused for what it says of itself.
fn clean(text: Option<String>) -> Option<String> {
    let text: String = text?.chars().filter(|character| *character != '\0').take(MAX_NAME).collect();
    Some(text).filter(|text| !text.is_empty())
}

/// Records the contact when the last record is old enough or something changed, and when it lies as far in the future: the
/// clock was ahead, and a runner that is gone would count as online until then. A failure is logged and changes nothing for
/// the caller: the token has authenticated.
pub async fn record(state: &State, authenticated: &Authenticated, contact: &Contact) {
    let interval = state.config.heartbeat.write_interval();
    let now = authenticated.now;
    let is_runner_due = is_due(authenticated.runner.contacted_at, interval, now);
    let is_manager_due = contact.has_manager()
        && match &authenticated.manager {
            None => true,
            Some(manager) => is_due(Some(manager.contacted_at), interval, now) || is_news(manager, &contact.info),
        };
    if !is_manager_due && !is_runner_due {
        return;
    }
    let runner_id = authenticated.runner.id;
    match tokio::time::timeout(PATIENCE, write(state, authenticated, contact)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, runner_id, "contact of a runner not recorded"),
        Err(_) => tracing::warn!(runner_id, "contact of a runner not recorded in time"),
    }
}

/// Reports whether the last recorded contact is old enough, or lies far enough in the future, to be written again.
fn is_due(contacted_at: Option<i64>, interval: Duration, now: OffsetDateTime) -> bool {
    contacted_at.is_none_or(|contacted_at| (now - timestamp::time(contacted_at)).abs() >= interval)
}

/// Whether the runner program says something of itself that is not recorded. Its address may change with every call.
fn is_news(manager: &runner_manager::Model, info: &Info) -> bool {
    [
        (&manager.version, &info.version),
        (&manager.revision, &info.revision),
        (&manager.platform, &info.platform),
        (&manager.architecture, &info.architecture),
        (&manager.executor, &info.executor),
    ]
    .into_iter()
    .any(|(known, said)| said.is_some() && known != said)
}

async fn write(state: &State, authenticated: &Authenticated, contact: &Contact) -> Result<()> {
    let runner_id = authenticated.runner.id;
    let now = authenticated.now;
    let tx = store::begin(&state.database).await?;
    // The runner first: its row orders all changes below it.
    let exists = managers::record_contact(&tx, runner_id, &contact.info, now).await?;
    if exists && contact.has_manager() {
        managers::record(&tx, runner_id, &contact.system_id, &contact.info, now).await?;
    }
    Ok(tx.commit().await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn contact(system_id: &str) -> Result<Contact> {
        Contact::new(Some(system_id.to_owned()), None, None)
    }

    #[test]
    fn a_system_id_has_at_most_64_characters() {
        assert_eq!(Contact::new(None, None, None).unwrap().system_id, LEGACY);
        assert_eq!(contact("").unwrap().system_id, LEGACY);
        assert_eq!(contact("s_1").unwrap().system_id, "s_1");
        assert!(contact(&"\u{e9}".repeat(64)).is_ok());
        assert!(matches!(contact(&"\u{e9}".repeat(65)), Err(Error::ParameterInvalid(_))));
        assert!(matches!(contact("a\0b"), Err(Error::ParameterInvalid(_))));
    }

    #[test]
    fn what_a_runner_says_of_itself_is_cut_and_cleaned() {
        assert_eq!(clean(Some("\u{e9}".repeat(300))), Some("\u{e9}".repeat(256)));
        assert_eq!(clean(Some("1\0.2".to_owned())), Some("1.2".to_owned()));
        assert_eq!(clean(Some("\0".to_owned())), None);
        assert_eq!(clean(Some(String::new())), None);
        assert_eq!(clean(None), None);
    }
}

//! Who calls with a runner token: the manager and what it reports, checked and cut to size.

use std::net::IpAddr;

use chassis::client_id::ResolvedClient;
use proto::paddock::runner::v1::RunnerInfo;

use crate::{
    directory::text,
    error::{Error, Result},
    runner::validation::MAX_NAME,
    store::{
        managers::{Info, LEGACY_SYSTEM_ID},
        runner_token_events::EventCaller,
    },
};

/// The most characters of a system id.
const MAX_SYSTEM_ID: usize = 64;

/// Where a call comes from.
#[derive(Debug, Default)]
pub struct Origin {
    /// The address of the client.
    pub address: Option<IpAddr>,
    /// Its user agent.
    pub user_agent: Option<String>,
    /// Takes the runner of the presented token.
    pub client: ResolvedClient,
}

/// The caller as it reports itself.
#[derive(Debug)]
pub struct Contact {
    /// The id that the runner program keeps for its machine; empty for a call that concerns no manager.
    pub system_id: String,
    /// What it reports.
    pub info: Info,
    /// Its user agent.
    pub user_agent: Option<String>,
    /// Takes the runner of the presented token.
    pub client: ResolvedClient,
}

impl Contact {
    /// The contact of a manager.
    pub fn new(system_id: Option<String>, info: Option<RunnerInfo>, origin: Origin) -> Result<Self> {
        let system_id =
            system_id.filter(|system_id| !system_id.is_empty()).unwrap_or_else(|| LEGACY_SYSTEM_ID.to_owned());
        if system_id.chars().count() > MAX_SYSTEM_ID {
            let text = format!("system_id is too long (maximum is {MAX_SYSTEM_ID} characters)");
            return Err(Error::ParameterInvalid(text));
        }
        text::forbid_nul("system_id", &system_id)?;
        let info = info.unwrap_or_default();
        let info = Info {
            name: clean_text(info.name),
            version: clean_text(info.version),
            revision: clean_text(info.revision),
            platform: clean_text(info.platform),
            architecture: clean_text(info.architecture),
            executor: clean_text(info.executor),
            ip_address: origin.address.map(|address| address.to_string()),
        };
        Ok(Self { system_id, info, user_agent: clean_text(origin.user_agent), client: origin.client })
    }

    /// The contact of a call that concerns no manager.
    pub fn of_no_manager(origin: Origin) -> Self {
        let ip_address = origin.address.map(|address| address.to_string());
        let info = Info { ip_address, ..Info::default() };
        Self { system_id: String::new(), info, user_agent: clean_text(origin.user_agent), client: origin.client }
    }

    /// The caller as an event names it.
    pub fn event_caller(&self) -> EventCaller {
        EventCaller {
            system_id: self.is_named().then(|| self.system_id.clone()),
            ip_address: self.info.ip_address.clone(),
            user_agent: self.user_agent.clone(),
            user_id: None,
        }
    }

    /// Reports whether the call names one manager by its system id.
    pub fn is_named(&self) -> bool {
        self.has_manager() && self.system_id != LEGACY_SYSTEM_ID
    }

    /// Reports whether the call comes from a manager.
    pub fn has_manager(&self) -> bool {
        !self.system_id.is_empty()
    }
}

/// Cuts a text that is too long, and drops characters that a database cannot store: a runner is not refused for them.
fn clean_text(text: Option<String>) -> Option<String> {
    let text: String = text?.chars().filter(|character| *character != '\0').take(MAX_NAME).collect();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn contact(system_id: &str) -> Result<Contact> {
        Contact::new(Some(system_id.to_owned()), None, Origin::default())
    }

    #[test]
    fn a_system_id_has_at_most_64_characters() {
        assert_eq!(Contact::new(None, None, Origin::default()).unwrap().system_id, LEGACY_SYSTEM_ID);
        assert_eq!(contact("").unwrap().system_id, LEGACY_SYSTEM_ID);
        assert_eq!(contact("s_1").unwrap().system_id, "s_1");
        assert!(contact(&"\u{e9}".repeat(64)).is_ok());
        assert!(matches!(contact(&"\u{e9}".repeat(65)), Err(Error::ParameterInvalid(_))));
        assert!(matches!(contact("a\0b"), Err(Error::ParameterInvalid(_))));
    }

    #[test]
    fn what_a_runner_reports_is_cut_and_cleaned() {
        assert_eq!(clean_text(Some("\u{e9}".repeat(300))), Some("\u{e9}".repeat(256)));
        assert_eq!(clean_text(Some("1\0.2".to_owned())), Some("1.2".to_owned()));
        assert_eq!(clean_text(Some("\0".to_owned())), None);
        assert_eq!(clean_text(Some(String::new())), None);
        assert_eq!(clean_text(None), None);
    }
}

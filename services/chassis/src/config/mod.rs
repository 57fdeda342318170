//! Configuration: the documented defaults of each crate, a file over them, and the environment over both.
//!
//! The crate `config` reads the three layers, merges them and keeps the origin of each value. Alone it would turn `1.5` and
//! `true` into whole numbers, stop at the first mistake, and name Rust types. So each layer passes a gate before it is merged:
//! the defaults must have the setting, and the value must have the type of the default. All mistakes are reported together,
//! by the operator's name for the setting.

mod gate;
mod reader;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, fmt, path::Path};

use config::{File, FileFormat, Map, Source as _, Value};
use serde::de::DeserializeOwned;

use self::gate::Gate;

/// The default settings of this crate, shared by every process.
pub const DEFAULTS: &str = include_str!("../../config.default.toml");

/// All mistakes in a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// One line per mistake: the setting, and what is wrong with it.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake(s):", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// Collects the mistakes in values that have the right type.
#[derive(Debug, Default)]
pub struct Problems {
    /// Each setting with what is wrong with it.
    found: Vec<(String, String)>,
    /// The settings whose value was refused before; they have their default instead.
    unread: Vec<String>,
}

impl Problems {
    /// Adds a mistake.
    pub fn push(&mut self, setting: &str, problem: impl fmt::Display) {
        self.found.push((setting.to_owned(), problem.to_string()));
    }

    /// Adds the mistakes of an inner section.
    pub fn inside(&mut self, section: &str, inner: &impl Validate) {
        let prefix = format!("{section}.");
        let unread = self.unread.iter().filter_map(|setting| setting.strip_prefix(&prefix));
        let mut problems = Self { found: Vec::new(), unread: unread.map(ToOwned::to_owned).collect() };
        inner.validate(&mut problems);
        for (setting, problem) in problems.found {
            self.found.push((format!("{prefix}{setting}"), problem));
        }
    }

    /// Adds a mistake if the condition does not hold.
    pub fn require(&mut self, condition: bool, setting: &str, problem: impl fmt::Display) {
        if !condition {
            self.push(setting, problem);
        }
    }

    /// Reports whether a setting has the value that the operator gave. A rule about two settings must not complain while one
    /// of them has its default instead.
    #[must_use]
    pub fn is_read(&self, setting: &str) -> bool {
        !self.unread.iter().any(|unread| unread == setting)
    }
}

/// Settings that know which values are allowed.
pub trait Validate {
    /// Adds every mistake.
    fn validate(&self, problems: &mut Problems);
}

/// Reports whether a text is an address to listen on: a host and a port.
#[must_use]
pub fn is_listen_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Reports whether a text is the address of a server: `http` or `https`, a host, and optionally a port from 1 to 65535.
#[must_use]
pub fn is_server_address(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let Some(authority) = url.authority() else { return false };
    let has_scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let has_user = authority.as_str().contains('@');
    // An authority that is longer than its host must end in a valid port.
    let has_valid_port = authority.as_str() == authority.host() || authority.port_u16().is_some_and(|port| port != 0);
    has_scheme && !authority.host().is_empty() && !has_user && has_valid_port
}

/// Loads the settings from the defaults, the file if there is one, and the environment.
///
/// # Errors
/// Every unknown setting, every value of a wrong type, and every value that is not allowed.
pub fn load<T: DeserializeOwned + Validate>(defaults: &[&str], file: Option<&Path>) -> Result<T, ConfigError> {
    load_shared(defaults, &[], file)
}

/// Loads the settings as [`load`] does, from a file and an environment that another program reads too. `foreign` names the
/// settings that only the other program has and that are in no section. The sections of other processes are always skipped.
///
/// # Errors
/// As [`load`].
pub fn load_shared<T: DeserializeOwned + Validate>(
    defaults: &[&str],
    foreign: &[&str],
    file: Option<&Path>,
) -> Result<T, ConfigError> {
    load_from(defaults, foreign, file, std::env::vars_os())
}

fn load_from<T: DeserializeOwned + Validate>(
    defaults: &[&str],
    foreign: &[&str],
    file: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<T, ConfigError> {
    let mut gate = Gate::new(defaults, foreign).map_err(|error| ConfigError { problems: vec![error.to_string()] })?;
    let mut file_is_read = true;
    match file.map(read_file) {
        Some(Ok(values)) => gate.add_layer(values),
        Some(Err(problem)) => {
            gate.problems.push(problem);
            file_is_read = false;
        }
        None => {}
    }
    gate.add_environment(environment);
    let settings: Option<T> = gate.read();
    // The values in a file that cannot be read may be what makes the other values right.
    if let Some(settings) = settings.as_ref().filter(|_| file_is_read) {
        let mut problems = Problems { found: Vec::new(), unread: gate.unread.clone() };
        settings.validate(&mut problems);
        for (setting, problem) in problems.found {
            gate.report(&setting, &problem);
        }
    }
    settings.filter(|_| gate.problems.is_empty()).ok_or(ConfigError { problems: gate.problems })
}

/// Reads a TOML file. The text is read here because the crate would guess another file name and replace invalid UTF-8.
fn read_file(path: &Path) -> Result<Map<String, Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let values = File::from_str(&text, FileFormat::Toml).collect();
    values.map_err(|error| format!("{}: {error}", path.display()))
}

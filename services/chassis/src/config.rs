//! Configuration: the documented default of each crate, overlaid by a file, overlaid by the environment.
//!
//! The default files are the schema: a setting that they do not have is unknown, and a value must have the type of the
//! default. Every mistake is reported, not the first one only, and by the name that the operator used.
//!
//! The crate `config` served before. It merges before anybody can say whose mistake a value is, makes the number 7 of the text 007,
//! stops at the first value that does not fit, and names types of Rust instead of what is allowed; so only TOML and serde are left to
//! crates.

mod layers;
mod reader;

use std::{ffi::OsString, fmt, path::Path};

use serde::de::DeserializeOwned;
use toml::Table;

use layers::Layers;

/// The default settings of this crate, shared by every process.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// Every mistake that was found.
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

/// Collects what is wrong with values that have the right type.
#[derive(Debug, Default)]
pub struct Problems {
    /// The setting, and what is wrong with it.
    found: Vec<(String, String)>,
    /// The settings whose value was reported already; the default stands in its place.
    unread: Vec<String>,
}

impl Problems {
    /// Adds a mistake.
    pub fn push(&mut self, setting: &str, problem: impl fmt::Display) {
        self.found.push((setting.to_owned(), problem.to_string()));
    }

    /// Adds the mistakes of an inner section.
    pub fn inside(&mut self, section: &str, inner: &impl Validate) {
        let below = |setting: &String| Some(setting.strip_prefix(section)?.strip_prefix('.')?.to_owned());
        let mut problems = Self { found: Vec::new(), unread: self.unread.iter().filter_map(below).collect() };
        inner.validate(&mut problems);
        self.found.extend(problems.found.into_iter().map(|(setting, text)| (format!("{section}.{setting}"), text)));
    }

    /// Adds a mistake if the condition does not hold.
    pub fn require(&mut self, condition: bool, setting: &str, problem: impl fmt::Display) {
        if !condition {
            self.push(setting, problem);
        }
    }

    /// Whether a setting has the value that was meant. A rule that joins two settings says nothing while one of them has not.
    #[must_use]
    pub fn is_read(&self, setting: &str) -> bool {
        !self.unread.iter().any(|unread| unread == setting)
    }
}

/// Settings that know which values make sense.
pub trait Validate {
    /// Adds every mistake.
    fn validate(&self, problems: &mut Problems);
}

/// Whether a text is an address to listen on: a host and a port.
#[must_use]
pub fn is_listen_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Whether a text is the address of a server: `http` or `https`, a host, and no port that is none.
#[must_use]
pub fn is_server_address(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let is_web = matches!(url.scheme_str(), Some("http" | "https"));
    is_web
        && url.authority().is_some_and(|authority| {
            let (host, all) = (authority.host(), authority.as_str());
            let port = || authority.port_u16().is_some_and(|port| port != 0);
            !host.is_empty() && !all.contains('@') && (all == host || port())
        })
}

/// Loads the settings from the defaults, the file if there is one, and the environment.
///
/// # Errors
/// Every unknown setting, value of a wrong type, and value that makes no sense.
pub fn load<T: DeserializeOwned + Validate>(defaults: &[&str], file: Option<&Path>) -> Result<T, ConfigError> {
    load_from(defaults, file, std::env::vars_os())
}

fn load_from<T: DeserializeOwned + Validate>(
    defaults: &[&str],
    file: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<T, ConfigError> {
    let mut layers = Layers::new(defaults).map_err(|problem| ConfigError { problems: vec![problem] })?;
    let file = file.map(read_file).transpose();
    match &file {
        Ok(Some(table)) => layers.add_file(table),
        Ok(None) => {}
        Err(problem) => layers.problems.push(problem.clone()),
    }
    layers.add_environment(environment);
    let settings: Option<T> = layers.read();
    // What stands in a file that cannot be read may be what makes the others right.
    if let (Some(settings), Ok(_)) = (&settings, file) {
        let mut problems = Problems { found: Vec::new(), unread: layers.unread.clone() };
        settings.validate(&mut problems);
        layers.add_problems(&problems.found);
    }
    settings.filter(|_| layers.problems.is_empty()).ok_or(ConfigError { problems: layers.problems })
}

fn read_file(path: &Path) -> Result<Table, String> {
    let named = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    text.parse().map_err(|error: toml::de::Error| named(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::os::unix::ffi::OsStringExt as _;

    const SCHEMA: &str = "[gateway]\nlisten = \"a:1\"\nnowhere = \"a:2\"\nlimit = 5\nleast = 0\nstrict = false\nport = 80\n\
         format = \"json\"\n[gateway.inner]\nratio = 0.5\n";

    #[derive(Debug, Deserialize)]
    struct Settings {
        gateway: Gateway,
    }

    #[derive(Debug, Deserialize)]
    struct Gateway {
        listen: String,
        nowhere: String,
        limit: i64,
        least: u32,
        strict: bool,
        port: u16,
        format: Format,
        inner: Inner,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Format {
        Json,
        Pretty,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        ratio: f64,
    }

    impl Validate for Inner {
        fn validate(&self, problems: &mut Problems) {
            problems.require(self.ratio <= 1.0, "ratio", "must be at most 1");
        }
    }

    impl Validate for Settings {
        fn validate(&self, problems: &mut Problems) {
            let gateway = &self.gateway;
            problems.require(gateway.limit > 0, "gateway.limit", "must be positive");
            problems.require(gateway.listen.contains(':'), "gateway.listen", "must have a port");
            let fits = !problems.is_read("gateway.least") || i64::from(gateway.least) < gateway.limit;
            problems.require(fits, "gateway.limit", "must be more than least");
            problems.inside("gateway.inner", &gateway.inner);
        }
    }

    fn load_with(file: &str, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paddock.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        load_from(&[SCHEMA], Some(&path), environment)
    }

    #[test]
    fn the_environment_beats_the_file_and_the_file_the_default() {
        let file = "port = 1\n[gateway]\nlimit = 6\nlisten = \"b:2\"\n[runner_registry]\nwhatever = 1\n";
        let environment = [
            ("PADDOCK_GATEWAY__LIMIT", "7"),
            ("PADDOCK_GATEWAY__NOWHERE", ""),
            ("PADDOCK_GATEWAY__FORMAT", "pretty"),
            ("PADDOCK_GATEWAY__INNER__RATIO", "1"),
            ("PADDOCK_PORT", "8080"),
            ("PADDOCK_RUNNER_REGISTRY__LISTEN", "x"),
            ("PADDOCK_TEST_POSTGRES", "x"),
            ("OTHER", "1"),
        ];
        let settings = load_with(file, &environment).unwrap().gateway;
        assert_eq!((settings.listen.as_str(), settings.limit, settings.strict), ("b:2", 7, false));
        assert_eq!(settings.nowhere, "", "a setting can be emptied");
        assert_eq!((settings.format, settings.port), (Format::Pretty, 80));
        assert!((settings.inner.ratio - 1.0).abs() < f64::EPSILON);
        for text in ["007", "true", "1e3"] {
            let settings = load_with("", &[("PADDOCK_GATEWAY__NOWHERE", text)]).unwrap().gateway;
            assert_eq!(settings.nowhere, text, "a text is taken as it is");
        }
        for (text, truth) in [("true", true), ("1", true), ("off", false)] {
            assert_eq!(load_with("", &[("PADDOCK_GATEWAY__STRICT", text)]).unwrap().gateway.strict, truth);
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once_by_the_name_that_was_used() {
        let file = "[gateway]\nlimt = 1\nstrict = \"maybe\"\ninner = 3\nformat = \"xml\"\nlisten = \"a\"\n[gatway]\nlisten = \"x\"\n";
        let environment = [
            ("PADDOCK_GATEWAY__LIMIT", "many"),
            ("PADDOCK_GATEWAY__NEW__THING", "1"),
            ("PADDOCK_GATEWAY__PORT", "99999"),
            ("PADDOCK_GATEWAY__INNER__RATIO", "1.5"),
            ("PADDOCK_GATEWAY__LIMIT__MORE", "1"),
            ("PADDOCK_PORTS", "1"),
        ];
        let error = load_with(file, &environment).unwrap_err();
        let known = "format, inner, least, limit, listen, nowhere, port, strict";
        let mut expected = [
            "gateway.inner: is a section, not a value (given: 3)",
            &format!("gateway.limt: unknown setting; known here: {known}"),
            "gateway.strict: must be true or false (given: \"maybe\")",
            "gatway: unknown setting; known here: gateway",
            "gateway.format: must be \"json\" or \"pretty\" (given: \"xml\")",
            "gateway.listen: must have a port (given: \"a\")",
            "PADDOCK_GATEWAY__LIMIT: must be a whole number (given: \"many\")",
            "PADDOCK_GATEWAY__LIMIT__MORE: unknown setting; limit is a value",
            &format!("PADDOCK_GATEWAY__NEW__THING: unknown setting; known here: {known}"),
            "PADDOCK_GATEWAY__PORT: must be a whole number from 0 to 65535 (given: 99999)",
            "PADDOCK_GATEWAY__INNER__RATIO: must be at most 1 (given: 1.5)",
            "PADDOCK_PORTS: unknown setting; known here: gateway",
        ];
        let mut found = error.problems;
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_variable_of_another_program_may_hold_any_bytes() {
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let foreign = [(bytes(b"OTHER"), bytes(b"\xff")), (bytes(b"PADDOCK_\xff"), bytes(b"x"))];
        assert!(load_from::<Settings>(&[SCHEMA], None, foreign.into_iter()).is_ok());
        let ours = [(bytes(b"PADDOCK_GATEWAY__LISTEN"), bytes(b"\xff"))];
        let error = load_from::<Settings>(&[SCHEMA], None, ours.into_iter()).unwrap_err();
        assert_eq!(error.problems, ["PADDOCK_GATEWAY__LISTEN: is not UTF-8"]);
    }

    #[test]
    fn a_whole_number_is_not_made_from_anything_else() {
        for value in ["1.5", "true", "1e3", "many", "0x10"] {
            let error = load_with("", &[("PADDOCK_GATEWAY__LIMIT", value)]).unwrap_err();
            let expected = format!("PADDOCK_GATEWAY__LIMIT: must be a whole number (given: {value:?})");
            assert_eq!(error.problems, [expected], "{value}");
        }
        for value in ["1.5", "true", "\"1.5\""] {
            let error = load_with(&format!("[gateway]\nlimit = {value}\n"), &[]).unwrap_err();
            assert_eq!(error.problems, [format!("gateway.limit: must be a whole number (given: {value})")]);
        }
        let error = load_with("[gateway]\nleast = -1\n", &[]).unwrap_err();
        assert_eq!(error.problems, ["gateway.least: must be a whole number from 0 to 4294967295 (given: -1)"]);
    }

    #[test]
    fn values_that_make_no_sense_are_reported_at_once() {
        let file = "[gateway]\nlimit = -1\nleast = -1\n[gateway.inner]\nratio = 2.0\n";
        let error = load_with(file, &[]).unwrap_err();
        let expected = [
            "gateway.least: must be a whole number from 0 to 4294967295 (given: -1)",
            "gateway.limit: must be positive (given: -1)",
            "gateway.inner.ratio: must be at most 1 (given: 2.0)",
        ];
        assert_eq!(error.problems, expected, "nothing is said of limit beside a least that is the default");
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let error = load_with("", &[("PADDOCK_GATEWAY__LISTEN", "user:secret@host")]).map(|_| ()).err();
        assert_eq!(error, None, "it has a colon");
        let error = load_with("", &[("PADDOCK_GATEWAY__LIMIT", "user:secret@host")]).unwrap_err();
        assert_eq!(error.problems, ["PADDOCK_GATEWAY__LIMIT: must be a whole number"]);
    }

    #[test]
    fn a_file_that_is_no_toml_or_missing_is_named_beside_the_mistakes_of_the_environment() {
        let error = load_with("[gateway\n", &[("PADDOCK_GATEWAY__LIMIT", "many")]).unwrap_err();
        assert!(error.problems.len() == 2 && error.problems[0].contains("paddock.toml"), "{error}");
        let error = load_from::<Settings>(&[SCHEMA], Some(Path::new("/nowhere/p.toml")), std::iter::empty());
        let error = error.unwrap_err();
        assert!(error.to_string().contains("/nowhere/p.toml"));
    }

    #[test]
    fn addresses_have_a_host_and_a_port_that_is_one() {
        for text in ["127.0.0.1:80", "localhost:0", "[::1]:80"] {
            assert!(is_listen_address(text), "{text}");
        }
        for text in ["", "host", ":80", "host:99999", "host:"] {
            assert!(!is_listen_address(text), "{text}");
        }
        for text in ["http://127.0.0.1:4317", "https://host", "http://[::1]:80/", "http://[::1]", "http://host/path"] {
            assert!(is_server_address(text), "{text}");
        }
        for text in [
            "",
            "host",
            "host:80",
            "ftp://host",
            "http://",
            "http://h:99999",
            "http://h:0",
            "http://h:",
            "http://u:p@h:1",
        ] {
            assert!(!is_server_address(text), "{text}");
        }
    }
}

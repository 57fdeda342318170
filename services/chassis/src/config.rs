//! Configuration: the documented default of each crate, overlaid by a file, overlaid by the environment.
//!
//! The default files are the schema: a setting that they do not have is unknown, and a value must have the type of the
//! default. Every mistake is reported, not the first one only.

use std::{collections::HashMap, ffi::OsString, fmt, path::Path};

use config::{Config, Environment, File, FileFormat, Map, Value, ValueKind};
use proto::paddock::contract::v1::Process;
use serde::de::DeserializeOwned;

/// The prefix of the environment variables that set something.
const PREFIX: &str = "PADDOCK";

/// What stands between the levels of a setting's name in an environment variable.
const SEPARATOR: &str = "__";

/// The default settings of this crate, shared by every process.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// Variables with the prefix that are not settings of this kind of process: the short names of the embedded default, the
/// configuration file, and what tests set.
const NOT_SETTINGS: [&str; 5] = ["port", "data", "upstream", "config", "test_"];

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
pub struct Problems(Vec<String>);

impl Problems {
    /// Adds a mistake.
    pub fn push(&mut self, setting: &str, problem: impl fmt::Display) {
        self.0.push(format!("{setting}: {problem}"));
    }

    /// Adds the mistakes of an inner section.
    pub fn inside(&mut self, section: &str, inner: &impl Validate) {
        let mut problems = Self::default();
        inner.validate(&mut problems);
        self.0.extend(problems.0.into_iter().map(|problem| format!("{section}.{problem}")));
    }

    /// Adds a mistake if the condition does not hold.
    pub fn require(&mut self, condition: bool, setting: &str, problem: impl fmt::Display) {
        if !condition {
            self.push(setting, problem);
        }
    }
}

/// Settings that know which values make sense.
pub trait Validate {
    /// Adds every mistake.
    fn validate(&self, problems: &mut Problems);
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
    let environment = readable(environment)?;
    let one = |error: config::ConfigError| ConfigError { problems: vec![error.to_string()] };
    let schema = from_texts(defaults).build().map_err(one)?;
    let file = read_file(file)?;
    let environment = Environment::with_prefix(PREFIX)
        .prefix_separator("_")
        .separator(SEPARATOR)
        .try_parsing(true)
        .source(Some(environment));
    let from_file = Config::builder().add_source(file.clone()).build().map_err(one)?;
    let from_environment = Config::builder().add_source(environment.clone()).build().map_err(one)?;

    let mut problems = Problems::default();
    compare(&schema.cache, &from_file.cache, "", Origin::File, &mut problems);
    compare(&schema.cache, &from_environment.cache, "", Origin::Environment, &mut problems);
    if !problems.0.is_empty() {
        return Err(ConfigError { problems: problems.0 });
    }
    let merged = from_texts(defaults).add_source(file).add_source(environment).build().map_err(one)?;
    let settings: T = merged.try_deserialize().map_err(one)?;
    settings.validate(&mut problems);
    if problems.0.is_empty() { Ok(settings) } else { Err(ConfigError { problems: problems.0 }) }
}

/// The variables that are text. One of another program may hold any bytes; one of ours may not.
fn readable(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<HashMap<String, String>, ConfigError> {
    let (mut texts, mut problems) = (HashMap::new(), Problems::default());
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => drop(texts.insert(name, value)),
            Err(_) if name.starts_with(PREFIX) => problems.push(&name, "is not UTF-8"),
            Err(_) => {}
        }
    }
    if problems.0.is_empty() { Ok(texts) } else { Err(ConfigError { problems: problems.0 }) }
}

fn from_texts(texts: &[&str]) -> config::ConfigBuilder<config::builder::DefaultState> {
    texts.iter().fold(Config::builder(), |builder, text| builder.add_source(File::from_str(text, FileFormat::Toml)))
}

fn read_file(path: Option<&Path>) -> Result<File<config::FileSourceString, FileFormat>, ConfigError> {
    let text = match path {
        Some(path) => {
            let named = |error: String| ConfigError { problems: vec![format!("{}: {error}", path.display())] };
            let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
            // Read here once more for the sake of the message: merged with the others, nobody knows whose mistake it is.
            let alone = from_texts(&[&text]).build();
            alone.map(|_| text).map_err(|error| named(error.to_string()))?
        }
        None => String::new(),
    };
    Ok(File::from_str(&text, FileFormat::Toml))
}

#[derive(Clone, Copy, PartialEq)]
enum Origin {
    File,
    Environment,
}

/// Compares an overlay with the schema, level by level.
fn compare(schema: &Value, overlay: &Value, path: &str, origin: Origin, problems: &mut Problems) {
    match (&schema.kind, &overlay.kind) {
        (ValueKind::Table(schema), ValueKind::Table(overlay)) => {
            compare_tables(schema, overlay, path, origin, problems)
        }
        (ValueKind::Table(_), _) => problems.push(path, "is a section, not a value"),
        (ValueKind::Boolean(_), _) if overlay.clone().into_bool().is_err() => {
            problems.push(path, "must be true or false")
        }
        (ValueKind::I64(_), _) if !is_whole(overlay) => problems.push(path, "must be a whole number"),
        (ValueKind::Float(_), _) if overlay.clone().into_float().is_err() => problems.push(path, "must be a number"),
        (ValueKind::String(_), ValueKind::Table(_) | ValueKind::Array(_)) => problems.push(path, "must be a text"),
        _ => {}
    }
}

/// Whether a value is a whole number without being made one: neither `1.5` nor `true` is.
fn is_whole(value: &Value) -> bool {
    !matches!(value.kind, ValueKind::Float(_) | ValueKind::Boolean(_)) && value.clone().into_int().is_ok()
}

fn compare_tables(
    schema: &Map<String, Value>,
    overlay: &Map<String, Value>,
    path: &str,
    origin: Origin,
    problems: &mut Problems,
) {
    let mut names: Vec<_> = overlay.keys().collect();
    names.sort();
    for name in names {
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match schema.get(name) {
            Some(expected) => compare(expected, &overlay[name], &inner, origin, problems),
            None if path.is_empty() && is_foreign(name, origin) => {}
            None => problems.push(&inner, format!("unknown setting; known here: {}", sorted_names(schema))),
        }
    }
}

/// Whether a name at the top belongs to another process: one file serves all of them.
fn is_foreign(name: &str, origin: Origin) -> bool {
    let not_a_setting = origin == Origin::Environment && NOT_SETTINGS.iter().any(|known| name.starts_with(known));
    not_a_setting
        || ["port", "data", "upstream"].contains(&name)
        || Process::ALL.iter().any(|process| process.section() == name)
}

fn sorted_names(table: &Map<String, Value>) -> String {
    let mut names: Vec<_> = table.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::os::unix::ffi::OsStringExt as _;

    const SCHEMA: &str =
        "[gateway]\nlisten = \"a:1\"\nnowhere = \"a:2\"\nlimit = 5\nstrict = false\n[gateway.inner]\nratio = 0.5\n";

    #[derive(Debug, Deserialize)]
    struct Settings {
        gateway: Gateway,
    }

    #[derive(Debug, Deserialize)]
    struct Gateway {
        listen: String,
        nowhere: String,
        limit: i64,
        strict: bool,
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        ratio: f64,
    }

    impl Validate for Settings {
        fn validate(&self, problems: &mut Problems) {
            problems.require(self.gateway.limit > 0, "gateway.limit", "must be positive");
            problems.require(self.gateway.inner.ratio <= 1.0, "gateway.inner.ratio", "must be at most 1");
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
            ("PADDOCK_GATEWAY__INNER__RATIO", "1"),
            ("PADDOCK_PORT", "8080"),
            ("PADDOCK_RUNNER_REGISTRY__LISTEN", "x"),
            ("OTHER", "1"),
        ];
        let settings = load_with(file, &environment).unwrap().gateway;
        assert_eq!((settings.listen.as_str(), settings.limit, settings.strict), ("b:2", 7, false));
        assert_eq!(settings.nowhere, "", "a setting can be emptied");
        assert!((settings.inner.ratio - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let file = "[gateway]\nlimt = 1\nstrict = \"maybe\"\ninner = 3\n[gatway]\nlisten = \"x\"\n";
        let environment = [("PADDOCK_GATEWAY__LIMIT", "many"), ("PADDOCK_GATEWAY__NEW__THING", "1")];
        let error = load_with(file, &environment).unwrap_err();
        let starts = ["gateway.inner: is a section", "gateway.limt: unknown", "gateway.strict: must be true"];
        let more = ["gatway: unknown", "gateway.limit: must be a whole", "gateway.new: unknown"];
        assert_eq!(error.problems.len(), 6, "{error}");
        for start in starts.iter().chain(&more) {
            assert!(error.problems.iter().any(|problem| problem.starts_with(start)), "{start}: {error}");
        }
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
            let from_environment = load_with("", &[("PADDOCK_GATEWAY__LIMIT", value)]).unwrap_err();
            assert_eq!(from_environment.problems, ["gateway.limit: must be a whole number"], "{value}");
        }
        for value in ["1.5", "true", "\"1.5\""] {
            let from_file = load_with(&format!("[gateway]\nlimit = {value}\n"), &[]).unwrap_err();
            assert_eq!(from_file.problems, ["gateway.limit: must be a whole number"], "{value}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_reported_at_once() {
        let error = load_with("[gateway]\nlimit = -1\n[gateway.inner]\nratio = 2.0\n", &[]).unwrap_err();
        assert_eq!(error.problems, ["gateway.limit: must be positive", "gateway.inner.ratio: must be at most 1"]);
    }

    #[test]
    fn a_file_that_is_no_toml_is_named() {
        let error = load_with("[gateway\n", &[]).unwrap_err().to_string();
        assert!(error.contains("paddock.toml"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load_from::<Settings>(&[SCHEMA], Some(Path::new("/nowhere/p.toml")), std::iter::empty());
        let error = error.unwrap_err();
        assert!(error.to_string().contains("/nowhere/p.toml"));
    }
}

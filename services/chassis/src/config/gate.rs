//! The gate before the merge: checks each given value against the type of its default, and reports mistakes by the operator's
//! own name for the setting.

use std::{cell::RefCell, collections::BTreeMap, ffi::OsString};

use config::{Config, Environment, File, FileFormat, Map, Source, Value, ValueKind};
use proto::paddock::contract::v1::Process;
use serde::de::DeserializeOwned;

use super::reader::Reader;

/// Values that have the type of their default, by setting.
#[derive(Clone, Debug, Default)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The defaults, the checked layers over them, and the mistakes that were found.
pub struct Gate<'a> {
    defaults: Config,
    /// The settings outside any section that only another program has.
    foreign: &'a [&'a str],
    layers: Vec<Layer>,
    merged: Config,
    /// One line per mistake.
    pub problems: Vec<String>,
    /// The settings whose given value was refused.
    pub unread: Vec<String>,
}

impl<'a> Gate<'a> {
    /// Parses the default files. A later file overrides an earlier one.
    pub fn new(defaults: &[&str], foreign: &'a [&'a str]) -> Result<Self, config::ConfigError> {
        let mut builder = Config::builder();
        for text in defaults {
            builder = builder.add_source(File::from_str(text, FileFormat::Toml));
        }
        let defaults = builder.build()?;
        let merged = defaults.clone();
        Ok(Self { defaults, foreign, layers: Vec::new(), merged, problems: Vec::new(), unread: Vec::new() })
    }

    /// Adds the values that fit, and reports the others.
    pub fn add_layer(&mut self, given: Map<String, Value>) {
        let mut layer = Layer::default();
        for (name, value) in sort_by_name(given) {
            if !self.is_foreign(&name) {
                self.check_setting(name, value, &mut layer);
            }
        }
        self.layers.push(layer);
    }

    /// Adds the variables whose name begins with `PADDOCK_`. A variable of another program may hold any bytes.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        let environment = Environment::with_prefix("paddock").prefix_separator("_").separator("__");
        let mut given = Map::new();
        for (name, text) in variables {
            let Ok(name) = name.into_string() else { continue };
            // One variable at a time: the crate does not keep the name of the variable, which is what the operator knows.
            let variable = Map::from([(name.clone(), text.to_string_lossy().into_owned())]);
            for (setting, value) in environment.clone().source(Some(variable)).collect().unwrap_or_default() {
                if text.to_str().is_none() {
                    self.problems.push(format!("{name}: is not UTF-8"));
                } else if top_level(&setting) != "config" && !setting.starts_with("test_") {
                    given.insert(setting, Value::new(Some(&name), value.kind));
                }
            }
        }
        self.add_layer(given);
    }

    /// Reports whether only other processes read a setting: one file and one environment serve all of them.
    fn is_foreign(&self, setting: &str) -> bool {
        let top = top_level(setting);
        let is_other = self.foreign.contains(&top) || Process::ALL.iter().any(|process| process.section() == top);
        is_other && find_setting(&self.defaults.cache, top).is_err()
    }

    /// Puts a value that fits into the layer, and reports one that does not.
    fn check_setting(&mut self, setting: String, mut given: Value, layer: &mut Layer) {
        let default = find_setting(&self.defaults.cache, &setting);
        if let ValueKind::Table(section) = &given.kind
            && default.as_ref().is_ok_and(|default| matches!(default.kind, ValueKind::Table(_)))
        {
            for (name, value) in sort_by_name(section.clone()) {
                self.check_setting(format!("{setting}.{name}"), value, layer);
            }
            return;
        }
        match default.and_then(|default| convert_value(&given.kind, &default.kind)) {
            Ok(kind) => {
                given.kind = kind;
                layer.0.insert(setting, given);
            }
            Err(problem) => {
                self.problems.push(format!("{}: {problem}", given.origin().unwrap_or(&setting)));
                self.unread.push(setting);
            }
        }
    }

    /// Merges the layers and reads the settings. A value that a setting does not take is reported and replaced by the
    /// default, so that later mistakes are found too. Returns nothing if the defaults do not fit the type.
    pub fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        let refused = RefCell::default();
        let settings = self
            .merge_layers()
            .and_then(|()| T::deserialize(Reader::new(&self.merged.cache, &self.defaults.cache, &refused)));
        for (setting, problem) in refused.into_inner() {
            self.report(&setting, &problem);
            self.unread.push(setting);
        }
        settings.map_err(|error| self.problems.push(error.to_string())).ok()
    }

    fn merge_layers(&mut self) -> Result<(), config::ConfigError> {
        let layers = Config::builder().add_source(self.defaults.clone()).add_source(self.layers.clone());
        self.merged = layers.build()?;
        Ok(())
    }

    /// Reports a mistake in a merged value, and shows the value unless the problem does.
    pub fn report(&mut self, setting: &str, problem: &str) {
        let Ok(given) = find_setting(&self.merged.cache, setting) else {
            self.problems.push(format!("{setting}: {problem}"));
            return;
        };
        let name = given.origin().unwrap_or(setting);
        let is_shown = matches!(&given.kind, ValueKind::String(text) if problem.contains(&format!("{text:?}")));
        let given = if is_shown { String::new() } else { shown_value(&given.kind) };
        self.problems.push(format!("{name}: {problem}{given}"));
    }
}

/// The crate keeps sections as hash maps; mistakes are reported in the order of the names.
fn sort_by_name(section: Map<String, Value>) -> BTreeMap<String, Value> {
    section.into_iter().collect()
}

/// The first level of a setting's name.
fn top_level(setting: &str) -> &str {
    setting.split_once('.').map_or(setting, |(top, _)| top)
}

/// Finds a setting, or says which names are known.
fn find_setting<'a>(root: &'a Value, setting: &str) -> Result<&'a Value, String> {
    let mut found = root;
    let mut parent = "";
    for level in setting.split('.') {
        let ValueKind::Table(section) = &found.kind else {
            return Err(format!("unknown setting; {parent} is a value"));
        };
        let Some(value) = section.get(level) else {
            let mut known: Vec<_> = section.keys().map(String::as_str).collect();
            known.sort_unstable();
            return Err(format!("unknown setting; known here: {}", known.join(", ")));
        };
        found = value;
        parent = level;
    }
    Ok(found)
}

/// Converts a value to the type of its default, or says what is allowed. Text is read as a number or as true or false, because
/// every variable is text, and a whole number is a fraction too. Nothing else is converted.
fn convert_value(given: &ValueKind, default: &ValueKind) -> Result<ValueKind, String> {
    use ValueKind::{Boolean, Float, I64, String as Text, Table};
    let allowed = match default {
        Table(_) => "is a section, not a value",
        Text(_) => "must be a text",
        Boolean(_) => "must be true or false",
        I64(_) => "must be a whole number",
        Float(_) => "must be a number, such as 0.5",
        _ => return Ok(given.clone()),
    };
    let converted = match (given, default) {
        (Text(_), Text(_)) | (Boolean(_), Boolean(_)) | (I64(_), I64(_)) | (Float(_), Float(_)) => Some(given.clone()),
        // `on`, `yes` and `1` are true for the crate, too.
        (Text(text), Boolean(_)) => Value::from(text.as_str()).into_bool().ok().map(Boolean),
        (Text(text), I64(_)) => text.parse().ok().map(I64),
        (Text(text), Float(_)) => text.parse().ok().map(Float),
        (I64(number), Float(_)) => Some(Float(*number as f64)),
        _ => None,
    };
    converted.ok_or_else(|| format!("{allowed}{}", shown_value(given)))
}

/// The given value as it follows a problem. A URL with a password in it is not repeated.
fn shown_value(given: &ValueKind) -> String {
    match given {
        ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => String::new(),
        ValueKind::String(text) if text.is_empty() || text.contains('@') => String::new(),
        ValueKind::String(text) if text.parse::<i64>().is_err() => format!(" (given: {text:?})"),
        // With the fraction that makes it one: `2.0`.
        ValueKind::Float(number) => format!(" (given: {number:?})"),
        other => format!(" (given: {other})"),
    }
}

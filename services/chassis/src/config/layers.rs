//! Lays what an operator gave over the defaults, and says by the operator's own names what does not fit.

use std::{collections::BTreeMap, ffi::OsString};

use proto::paddock::contract::v1::Process;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::reader::Reader;

/// What the environment variables that set something begin with.
const PREFIX: &str = "paddock_";

/// What stands between the levels of a setting's name in an environment variable.
const SEPARATOR: &str = "__";

/// The short names of the embedded default, which stand at the top.
const SHORT_NAMES: [&str; 3] = ["port", "data", "upstream"];

/// The defaults with the file and the environment over them.
pub struct Layers {
    schema: Table,
    merged: Table,
    /// The name of the variable that a setting has its value from.
    variables: BTreeMap<String, String>,
    /// One line per mistake.
    pub problems: Vec<String>,
    /// The settings whose value is not what was given, because that cannot be read.
    pub unread: Vec<String>,
}

impl Layers {
    /// The defaults, each over those before it.
    pub fn new(defaults: &[&str]) -> Result<Self, String> {
        let mut schema = Table::new();
        for text in defaults {
            merge(&mut schema, text.parse().map_err(|error: toml::de::Error| error.to_string())?);
        }
        let merged = schema.clone();
        Ok(Self { schema, merged, variables: BTreeMap::new(), problems: Vec::new(), unread: Vec::new() })
    }

    /// Lays a file over what is there.
    pub fn add_file(&mut self, file: &Table) {
        self.add_section(file, "");
    }

    fn add_section(&mut self, given: &Table, path: &str) {
        for (name, value) in given {
            if path.is_empty() && is_foreign(name) && !self.schema.contains_key(name) {
                continue;
            }
            let setting = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match (find(&self.schema, &setting), value) {
                (Ok(Value::Table(_)), Value::Table(inner)) => self.add_section(inner, &setting),
                _ => _ = self.add(&setting, &setting, value),
            }
        }
    }

    /// Lays the environment over what is there. A variable of another program may hold any bytes; one of ours may not.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        let ours = variables.filter_map(|(name, text)| {
            let name = name.into_string().ok()?;
            let setting = name.to_lowercase().strip_prefix(PREFIX)?.replace(SEPARATOR, ".");
            Some((setting, (name, text)))
        });
        for (setting, (name, text)) in ours.collect::<BTreeMap<_, _>>() {
            let top = setting.split('.').next().unwrap_or_default();
            let is_other = is_foreign(top) || top == "config" || top.starts_with("test_");
            match text.into_string() {
                Err(_) => self.problems.push(format!("{name}: is not UTF-8")),
                Ok(_) if is_other && !self.schema.contains_key(top) => {}
                Ok(text) => {
                    if self.add(&setting, &name, &Value::String(text)) {
                        self.variables.insert(setting, name);
                    }
                }
            }
        }
    }

    /// Sets one value, or says what is wrong with it. `name` is what the operator calls the setting.
    fn add(&mut self, setting: &str, name: &str, given: &Value) -> bool {
        let problem = match find(&self.schema, setting) {
            Err(problem) => problem,
            Ok(default) => match fit(default, given) {
                Ok(value) => {
                    put(&mut self.merged, setting, value);
                    return true;
                }
                Err(allowed) => {
                    self.unread.push(setting.to_owned());
                    format!("{allowed}{}", shown(given))
                }
            },
        };
        self.problems.push(format!("{name}: {problem}"));
        false
    }

    /// The settings. A value that they do not take is reported, and the default stands in its place; none if that does not
    /// help.
    pub fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            let mistake = match T::deserialize(Reader::new(&self.merged)) {
                Ok(settings) => return Some(settings),
                Err(mistake) => mistake,
            };
            let given = get(&self.merged, &mistake.setting);
            let (name, shown) = (self.name(&mistake.setting), given.map(shown).unwrap_or_default());
            self.problems.push(format!("{name}: {}{shown}", mistake.problem));
            let default = get(&self.schema, &mistake.setting).filter(|default| Some(*default) != given)?.clone();
            put(&mut self.merged, &mistake.setting, default);
            self.unread.push(mistake.setting);
        }
    }

    /// Adds what is wrong with values that were read.
    pub fn add_problems(&mut self, found: &[(String, String)]) {
        for (setting, problem) in found {
            let given = get(&self.merged, setting);
            let is_told = given.and_then(Value::as_str).is_some_and(|text| problem.contains(&format!("{text:?}")));
            let shown = given.filter(|_| !is_told).map(shown).unwrap_or_default();
            self.problems.push(format!("{}: {problem}{shown}", self.name(setting)));
        }
    }

    /// What the operator calls a setting.
    fn name<'a>(&'a self, setting: &'a str) -> &'a str {
        self.variables.get(setting).map_or(setting, String::as_str)
    }
}

/// Whether a name at the top belongs to another process: one file and one environment serve all of them.
fn is_foreign(name: &str) -> bool {
    SHORT_NAMES.contains(&name) || Process::ALL.iter().any(|process| process.section() == name)
}

fn merge(below: &mut Table, above: Table) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => drop(below.insert(name, value)),
        }
    }
}

/// The default of a setting, or why there is none.
fn find<'a>(schema: &'a Table, setting: &str) -> Result<&'a Value, String> {
    let (mut table, mut levels) = (schema, setting.split('.').peekable());
    while let Some(level) = levels.next() {
        match table.get(level) {
            None => {
                let known: Vec<_> = table.keys().map(String::as_str).collect();
                return Err(format!("unknown setting; known here: {}", known.join(", ")));
            }
            Some(Value::Table(inner)) if levels.peek().is_some() => table = inner,
            Some(_) if levels.peek().is_some() => return Err(format!("unknown setting; {level} is a value")),
            Some(default) => return Ok(default),
        }
    }
    Err("unknown setting".to_owned())
}

fn get<'a>(table: &'a Table, setting: &str) -> Option<&'a Value> {
    let (first, rest) = setting.split_once('.').map_or((setting, None), |(first, rest)| (first, Some(rest)));
    match (table.get(first)?, rest) {
        (Value::Table(inner), Some(rest)) => get(inner, rest),
        (value, None) => Some(value),
        (_, Some(_)) => None,
    }
}

/// Sets a setting of the schema.
fn put(table: &mut Table, setting: &str, value: Value) {
    match setting.split_once('.') {
        None => drop(table.insert(setting.to_owned(), value)),
        Some((first, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(first) {
                put(inner, rest, value);
            }
        }
    }
}

/// The value with the type of the default, or what it must be. All that comes from the environment is text.
fn fit(default: &Value, given: &Value) -> Result<Value, &'static str> {
    let text = match given {
        Value::String(text) => Some(text.clone()),
        Value::Table(_) | Value::Array(_) => None,
        other => Some(other.to_string()),
    };
    match (default, given) {
        (Value::Table(_), _) => Err("is a section, not a value"),
        (Value::String(_), _) => text.map(Value::String).ok_or("must be a text"),
        (Value::Boolean(_), _) => text.and_then(|text| truth(&text)).ok_or("must be true or false"),
        // A number is not made from anything else: neither `1.5` nor `true` is a whole one.
        (Value::Integer(_), Value::Integer(_) | Value::String(_)) => {
            text.and_then(|text| text.parse().ok()).map(Value::Integer).ok_or("must be a whole number")
        }
        (Value::Integer(_), _) => Err("must be a whole number"),
        (Value::Float(_), _) => {
            text.and_then(|text| text.parse().ok()).map(Value::Float).ok_or("must be a number, such as 0.5")
        }
        (Value::Array(_) | Value::Datetime(_), _) => Ok(given.clone()),
    }
}

fn truth(text: &str) -> Option<Value> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Some(Value::Boolean(true)),
        "false" | "0" | "off" | "no" => Some(Value::Boolean(false)),
        _ => None,
    }
}

/// What was given, beside what is wrong with it. A URL with a password in it is not repeated.
fn shown(given: &Value) -> String {
    match given {
        Value::Table(_) | Value::Array(_) => String::new(),
        Value::String(text) if text.is_empty() || text.contains('@') => String::new(),
        Value::String(text) if text.parse::<i64>().is_ok() => format!(" (given: {text})"),
        Value::String(text) => format!(" (given: {text:?})"),
        other => format!(" (given: {other})"),
    }
}

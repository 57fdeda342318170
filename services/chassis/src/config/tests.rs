//! What the layers take, what the gate refuses, and in which words.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::ffi::OsStringExt as _;

use serde::Deserialize;

use super::*;

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
    load_from(&[SCHEMA], &["port"], Some(&path), environment)
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

fn os_string(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[test]
fn a_variable_of_another_program_may_hold_any_bytes() {
    let foreign = [(os_string(b"OTHER"), os_string(b"\xff")), (os_string(b"PADDOCK_\xff"), os_string(b"x"))];
    assert!(load_from::<Settings>(&[SCHEMA], &[], None, foreign.into_iter()).is_ok());
    let ours = [(os_string(b"PADDOCK_GATEWAY__LISTEN"), os_string(b"\xff"))];
    let error = load_from::<Settings>(&[SCHEMA], &[], None, ours.into_iter()).unwrap_err();
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
fn a_value_in_a_file_is_not_coerced_to_the_type_of_its_default() {
    let cases = [
        ("limit = 1e3", "gateway.limit: must be a whole number (given: 1000.0)"),
        ("limit = 2.0", "gateway.limit: must be a whole number (given: 2.0)"),
        ("limit = false", "gateway.limit: must be a whole number (given: false)"),
        ("limit = \"true\"", "gateway.limit: must be a whole number (given: \"true\")"),
        ("limit = \"1e3\"", "gateway.limit: must be a whole number (given: \"1e3\")"),
        ("limit = \"0x10\"", "gateway.limit: must be a whole number (given: \"0x10\")"),
        ("limit = [5]", "gateway.limit: must be a whole number"),
        ("port = 1.5", "gateway.port: must be a whole number (given: 1.5)"),
        ("least = true", "gateway.least: must be a whole number (given: true)"),
        ("nowhere = 5", "gateway.nowhere: must be a text (given: 5)"),
        ("nowhere = true", "gateway.nowhere: must be a text (given: true)"),
        ("nowhere = 1.0", "gateway.nowhere: must be a text (given: 1.0)"),
        ("format = 1", "gateway.format: must be a text (given: 1)"),
        ("strict = 1", "gateway.strict: must be true or false (given: 1)"),
        ("strict = 0.0", "gateway.strict: must be true or false (given: 0.0)"),
        ("inner.ratio = true", "gateway.inner.ratio: must be a number, such as 0.5 (given: true)"),
        ("inner.ratio = \"on\"", "gateway.inner.ratio: must be a number, such as 0.5 (given: \"on\")"),
    ];
    for (line, expected) in cases {
        let error = load_with(&format!("[gateway]\n{line}\n"), &[]).unwrap_err();
        assert_eq!(error.problems, [expected], "{line}");
    }
    let settings = load_with("[gateway]\nlimit = 0x10\ninner.ratio = 1\n", &[]).unwrap().gateway;
    assert_eq!(settings.limit, 16, "TOML has hexadecimal whole numbers");
    assert!((settings.inner.ratio - 1.0).abs() < f64::EPSILON, "a whole number is a fraction too");
}

#[test]
fn a_variable_is_not_coerced_to_the_type_of_its_default() {
    let cases = [
        ("PADDOCK_GATEWAY__PORT", "1.5", "must be a whole number"),
        ("PADDOCK_GATEWAY__PORT", "true", "must be a whole number"),
        ("PADDOCK_GATEWAY__LEAST", "1e3", "must be a whole number"),
        ("PADDOCK_GATEWAY__LEAST", "0x10", "must be a whole number"),
        ("PADDOCK_GATEWAY__STRICT", "2", "must be true or false"),
        ("PADDOCK_GATEWAY__INNER__RATIO", "yes", "must be a number, such as 0.5"),
    ];
    for (name, value, expected) in cases {
        let error = load_with("", &[(name, value)]).unwrap_err();
        let given = value.parse::<i64>().map_or_else(|_| format!("{value:?}"), |number| number.to_string());
        assert_eq!(error.problems, [format!("{name}: {expected} (given: {given})")]);
    }
}

#[test]
fn a_mistake_has_the_spelling_of_its_variable_and_hides_no_other_mistake() {
    let file = "[gateway]\nport = 99999\n";
    let environment = [("paddock_gateway__port", "many"), ("PADDOCK_GATEWAY__FORMAT", "xml")];
    let error = load_with(file, &environment).unwrap_err();
    let expected = [
        "paddock_gateway__port: must be a whole number (given: \"many\")",
        "PADDOCK_GATEWAY__FORMAT: must be \"json\" or \"pretty\" (given: \"xml\")",
        "gateway.port: must be a whole number from 0 to 65535 (given: 99999)",
    ];
    assert_eq!(error.problems, expected);
}

#[test]
fn settings_outside_sections_are_foreign_only_where_the_program_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paddock.toml");
    std::fs::write(&path, "port = 1\n").unwrap();
    assert!(load_from::<Settings>(&[SCHEMA], &["port"], Some(&path), std::iter::empty()).is_ok());
    let error = load_from::<Settings>(&[SCHEMA], &[], Some(&path), std::iter::empty()).unwrap_err();
    assert_eq!(error.problems, ["port: unknown setting; known here: gateway"]);
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
    assert_eq!(error.problems, expected, "limit is not compared with a least that is the default");
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let error = load_with("", &[("PADDOCK_GATEWAY__LISTEN", "user:secret@host")]).map(|_| ()).err();
    assert_eq!(error, None, "it has a colon");
    let error = load_with("", &[("PADDOCK_GATEWAY__LIMIT", "user:secret@host")]).unwrap_err();
    assert_eq!(error.problems, ["PADDOCK_GATEWAY__LIMIT: must be a whole number"]);
}

#[test]
fn a_missing_or_malformed_file_is_reported_with_the_mistakes_of_the_environment() {
    let error = load_with("[gateway\n", &[("PADDOCK_GATEWAY__LIMIT", "many")]).unwrap_err();
    assert!(error.problems.len() == 2 && error.problems[0].contains("paddock.toml"), "{error}");
    let error = load_from::<Settings>(&[SCHEMA], &[], Some(Path::new("/nowhere/p.toml")), std::iter::empty());
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
    for text in
        ["", "host", "host:80", "ftp://host", "http://", "http://h:99999", "http://h:0", "http://h:", "http://u:p@h:1"]
    {
        assert!(!is_server_address(text), "{text}");
    }
}

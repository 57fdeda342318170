//! Tests of the style check that `make lint` runs.

use std::process::Command;

/// A file, and the expected finding of the check; empty if the file is correct.
const CASES: [(&str, &str, &str); 10] = [
    ("src/fine.rs", "//! Fine.\n\nfn main() {}\n", ""),
    ("src/lib.rs", "fn main() {}\n", "src/lib.rs:1: no header"),
    ("src/open.rs", "// TO_DO later\n", "src/open.rs:1: an open end"),
    ("src/numbered.rs", "// TO_DO #12 later\n", ""),
    ("src/clock.rs", "fn a() { let _ = time::OffsetDateTime::now_@utc(); }\n", "src/clock.rs:1: time past the clock"),
    (
        "src/sleepy.rs",
        "#[cfg(test)]\nmod tests {\n    fn a() { std::thread::sl@eep(b); }\n}\n",
        "src/sleepy.rs:3: a test sleeps",
    ),
    ("src/awake.rs", "fn a() { std::thread::sl@eep(b); }\n", ""),
    ("tests/a.rs", "#[test]\n#[ign@ore]\nfn a() {}\n", "tests/a.rs:2: an ignored test"),
    ("src/place.rs", "const A: &str = \"/ho@me/me/x\";\n", "src/place.rs:1: a path of one machine"),
    ("src/text.rs", "const A: &str = \"} fn {\"; // {\n", ""),
];

/// Removes the marks with which the cases hide a text from the check.
fn plain(text: &str) -> String {
    text.replace('@', "").replace("TO_DO", concat!("TO", "DO"))
}

fn lint(files: &[(&str, String)]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let script = system::root().join("scripts/lint-style");
    let output = Command::new("python3").arg(script).arg("--root").arg(folder.path()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn is_python_missing() -> bool {
    let missing = Command::new("python3").arg("--version").output().is_err();
    if missing {
        system::skipped("the test of scripts/lint-style: python3 is not installed");
    }
    missing
}

#[test]
fn each_rule_is_found_and_nothing_else() {
    if is_python_missing() {
        return;
    }
    for (name, text, expected) in CASES {
        let (passed, printed) = lint(&[(name, plain(text))]);
        assert_eq!(passed, expected.is_empty(), "{name}: {printed}");
        assert!(printed.starts_with(expected), "{name}: {printed}");
    }
}

#[test]
fn dense_code_is_counted_over_the_whole_tree() {
    if is_python_missing() {
        return;
    }
    let dense = [
        "let (a, b) = (1, 2);",
        "let (a, b): (u8, Vec<(u8, u8)>) = (1, f(2, 3));",
        "let (Some(a), mut b) = (c, [1, 2]) else { return };",
        "let (a, b) =\n    (1,\n     2);",
        "let is_a = |b| b == 1;",
        "let mut f: Box<A> = async move |(a, b): (u8, u8)| a;",
        "let f = &|| 1;",
    ];
    let plain = [
        "let (a, b) = f(1, 2);",
        "let (a, b) = (1, 2).swap();",
        "let (a, b) = (f(1, 2));",
        "// let (a, b) = (1, 2);",
        "const A: &str = \"let f = |a| a;\";",
        "let a = b || c; let a = b.map(|b| b + 1);",
    ];
    for code in dense {
        let file = format!("fn a() {{\n    {code}\n}}\n");
        let (passed, printed) = lint(&[("src/a.rs", file)]);
        assert!(!passed && printed.starts_with("src/a.rs:2: a "), "{code}: {printed}");
    }
    let lines = plain.map(|code| format!("    {code}\n")).concat();
    let (passed, printed) = lint(&[("src/a.rs", format!("fn a() {{\n{lines}}}\n"))]);
    assert!(passed, "{printed}");
    // One in 2,000 lines is allowed, two are not.
    let long = ["src/b.rs", "src/c.rs", "src/d.rs", "src/e.rs"].map(|name| (name, rust_lines(500)));
    for (count, passes) in [(1, true), (2, false)] {
        let file = "let f = |a| a;\n".repeat(count);
        let (passed, printed) = lint(&[&long[..], &[("src/a.rs", file)]].concat());
        assert_eq!(passed, passes, "{count}: {printed}");
    }
}

#[test]
fn retired_names_are_found_as_whole_words() {
    if is_python_missing() {
        return;
    }
    let cases = [
        ("src/a.rs", "use crate::fa@cts;", "src/a.rs:1: the retired name fa@cts"),
        ("src/a.rs", "fn a() {\n    pe@nd(1);\n}", "src/a.rs:2: the retired name pe@nd"),
        ("src/a.rs", "fn depend() {} // pe@nd, \"fa@cts\"", ""),
        ("src/a.rs", "const A: &str = \"fa@cts\";", ""),
        ("src/a.rs", "enum Pl@ace { A }", "src/a.rs:1: the retired name Pl@ace"),
        ("src/a.rs", "fn a(b: Pl@ace) {}", ""),
        ("proto/src/contract.rs", "enum Pl@ace { A }", ""),
        ("proto/a.proto", "message Rehe@arsed {}", "proto/a.proto:1: the retired name Rehe@arsed"),
        ("proto/a.proto", "option (post) = \"/rehe@arse\";", ""),
        ("src/proxy/li@nk.rs", "", "src/proxy/li@nk.rs:1: a retired path"),
        ("src/hyperli@nk.rs", "", ""),
    ];
    for (name, text, expected) in cases {
        let (passed, printed) = lint(&[(&plain(name), plain(text) + "\n")]);
        assert_eq!(passed, expected.is_empty(), "{name}: {text}: {printed}");
        assert!(printed.starts_with(&plain(expected)), "{name}: {text}: {printed}");
    }
}

/// A file of `count` lines.
fn rust_lines(count: usize) -> String {
    format!("//! A.\n{}", "\n".repeat(count - 1))
}

/// A function of `count` lines.
fn rust_function(count: usize) -> String {
    format!("fn a() {{\n{}}}\n", "    b();\n".repeat(count - 2))
}

#[test]
fn sizes_are_measured() {
    if is_python_missing() {
        return;
    }
    for (name, text, passes) in [
        ("src/a.rs", rust_lines(500), true),
        ("src/a.rs", rust_lines(501), false),
        ("tests/a.rs", rust_lines(800), true),
        ("tests/a.rs", rust_lines(801), false),
        ("src/b.rs", rust_function(80), true),
        ("src/b.rs", rust_function(81), false),
        ("src/c.rs", "\n".repeat(101), false),
    ] {
        let (passed, printed) = lint(&[(name, text)]);
        assert_eq!(passed, passes, "{name}: {printed}");
    }
}

//! The style check that `make lint` runs finds what it is there for.

use std::process::Command;

/// A file, and what the check must say of it; nothing when it is fine.
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

/// What the cases spell with a mark, so that the check does not find it here.
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
fn sizes_are_measured() {
    if is_python_missing() {
        return;
    }
    let lines = |count: usize| format!("//! A.\n{}", "\n".repeat(count - 1));
    let function = |count: usize| format!("fn a() {{\n{}}}\n", "    b();\n".repeat(count - 2));
    for (name, text, passes) in [
        ("src/a.rs", lines(500), true),
        ("src/a.rs", lines(501), false),
        ("tests/a.rs", lines(800), true),
        ("tests/a.rs", lines(801), false),
        ("src/b.rs", function(80), true),
        ("src/b.rs", function(81), false),
        ("src/c.rs", "\n".repeat(101), false),
    ] {
        let (passed, printed) = lint(&[(name, text)]);
        assert_eq!(passed, passes, "{name}: {printed}");
    }
}

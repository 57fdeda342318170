//! The quick start of the README, the tutorial and the how-to pages about job tokens work as printed: a shell runs their
//! commands against a fresh server, and the output must be as on the page.

use std::process::Command;

use serde_json::Value;
use system::{Paddock, free_port};

/// The placeholder of a part that differs from run to run.
const ANYTHING: &str = "…";

/// The URL of the upstream on the page.
const UPSTREAM: &str = "http://127.0.0.1:3000";

/// A block of commands, and the answer that the page shows below it, if any.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    commands: String,
    answer: Option<String>,
}

/// The section of the README.
fn quick_start(readme: &str) -> &str {
    let section = readme.split("\n## Quick start\n").nth(1).expect("a quick start");
    section.split("\n## ").next().expect("its text")
}

/// The blocks of a text, in order.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut blocks = text.split("\n```").skip(1);
    while let Some(block) = blocks.next() {
        let (kind, text) = block.split_once('\n').expect("a kind and a text");
        match kind {
            "sh" => steps.push(Step { commands: text.to_owned(), answer: None }),
            "json" => steps.last_mut().expect("commands come first").answer = Some(text.to_owned()),
            // The commands of the other terminal.
            "text" => assert!(text == "make run" || text == format!("PADDOCK_UPSTREAM={UPSTREAM} make run"), "{text}"),
            other => panic!("a block of {other:?}"),
        }
        // The text between the end of this block and the start of the next.
        blocks.next();
    }
    steps
}

/// Reports whether an answer contains everything that the page shows. It may contain more.
fn shows(printed: &Value, answer: &Value) -> bool {
    match (printed, answer) {
        (Value::Object(printed), Value::Object(answer)) => {
            printed.iter().all(|(key, value)| answer.get(key).is_some_and(|found| shows(value, found)))
        }
        (Value::Array(printed), Value::Array(answer)) => {
            printed.len() == answer.len() && printed.iter().zip(answer).all(|(printed, answer)| shows(printed, answer))
        }
        (Value::String(printed), Value::String(answer)) => match printed.split_once(ANYTHING) {
            Some((start, end)) => {
                answer.len() > start.len() + end.len() && answer.starts_with(start) && answer.ends_with(end)
            }
            None => printed == answer,
        },
        _ => printed == answer,
    }
}

/// Runs all steps in one shell, as a person in a terminal does, and returns the output of each.
fn run(steps: &[Step], paddock: &Paddock, upstream: u16, folder: &std::path::Path) -> Vec<String> {
    const MARK: &str = "-- end of step --";
    let script: String = steps.iter().map(|step| format!("{}\necho; echo '{MARK}'\n", step.commands)).collect();
    let script = script.replace("http://127.0.0.1:8080", &paddock.url());
    let script = script.replace("http.server 3000", &format!("http.server {upstream}"));
    let script = script.replace(UPSTREAM, &UPSTREAM.replace("3000", &upstream.to_string()));
    let script = script.replace("target/debug/paddock", system::binary("paddock").to_str().expect("a path in UTF-8"));
    let shell = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .env("NO_PROXY", "127.0.0.1")
        .env("PADDOCK_PORT", paddock.port().to_string())
        .current_dir(folder)
        .output()
        .expect("bash");
    let output = String::from_utf8_lossy(&shell.stdout).into_owned();
    assert!(shell.status.success(), "{output}\n{}", String::from_utf8_lossy(&shell.stderr));
    output.split(MARK).map(|printed| printed.trim().to_owned()).take(steps.len()).collect()
}

/// Runs the blocks of a text on a fresh server and compares the output with the page.
fn hold(text: &str) {
    if Command::new("curl").arg("--version").output().is_err() {
        return system::skipped("the commands of the README and the tutorial: curl is not installed");
    }
    if Command::new("python3").arg("--version").output().is_err() {
        return system::skipped("the commands of the README and the tutorial: python3 is not installed");
    }
    let steps = steps(text);
    assert!(steps.len() >= 10, "{} steps", steps.len());
    let folder = tempfile::tempdir().expect("a folder");
    let upstream = free_port();
    let settings = [("PADDOCK_UPSTREAM", UPSTREAM.replace("3000", &upstream.to_string()))];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let paddock = Paddock::start_in(&folder.path().join("data"), &settings);
    let printed = run(&steps, &paddock, upstream, folder.path());
    for (step, printed) in steps.iter().zip(&printed) {
        let Some(shown) = &step.answer else { continue };
        let shown: Value = serde_json::from_str(shown).unwrap_or_else(|error| panic!("{error}: {shown}"));
        let answer = printed.lines().last().unwrap_or_default();
        let answer: Value =
            serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {printed}\n{}", step.commands));
        assert!(
            shows(&shown, &answer),
            "after\n{}\nthe page shows\n{shown:#}\nand this came\n{answer:#}",
            step.commands
        );
    }
    paddock.program().assert_no_errors();
    paddock.stop();
}

fn page(path: &str) -> String {
    std::fs::read_to_string(system::root().join(path)).expect("a page")
}

#[test]
fn the_commands_of_the_quick_start_print_what_it_shows() {
    hold(quick_start(&page("README.md")));
}

#[test]
fn the_commands_of_the_tutorial_print_what_it_shows() {
    hold(&page("docs/tutorial/first-rotation.md"));
}

/// The quick start, and then the page in another terminal.
fn hold_after_the_quick_start(path: &str) {
    let other_terminal = "\n```sh\nunset API ROOT_TOKEN RUNNER_TOKEN NEW_TOKEN APP LIBRARY ARTIFACT JOB_TOKEN\n```\n";
    hold(&[quick_start(&page("README.md")), other_terminal, &page(path)].concat());
}

#[test]
fn the_commands_about_allowlists_work_after_the_quick_start() {
    hold_after_the_quick_start("docs/how-to/allow-job-tokens.md");
}

#[test]
fn the_commands_about_the_authentication_log_work_after_the_quick_start() {
    hold_after_the_quick_start("docs/how-to/read-the-authentication-log.md");
}

#[test]
fn the_comparison_can_fail() {
    let answer = serde_json::json!({ "id": 1, "token": "abc-def", "more": null, "list": [{ "a": 1, "b": 2 }] });
    for (printed, expected) in [
        (r#"{"id": 1}"#, true),
        (r#"{"id": 2}"#, false),
        (r#"{"token": "abc-…"}"#, true),
        (r#"{"token": "abd-…"}"#, false),
        (r#"{"token": "abc-def…"}"#, false),
        (r#"{"more": null}"#, true),
        (r#"{"missing": null}"#, false),
        (r#"{"list": [{"a": 1}]}"#, true),
        (r#"{"list": []}"#, false),
        (r#"{"list": [{"a": 2}]}"#, false),
    ] {
        assert_eq!(shows(&serde_json::from_str(printed).unwrap(), &answer), expected, "{printed}");
    }
    let readme = "# A\n\n## Quick start\n\n```sh\necho a\n```\n\nText\n\n```json\n{}\n```\n\n## B\n\n```sh\nno\n```\n";
    let step = Step { commands: "echo a".into(), answer: Some("{}".into()) };
    assert_eq!(steps(quick_start(readme)), [step]);
}

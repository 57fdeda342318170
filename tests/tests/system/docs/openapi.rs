//! `openapi.json` is what the running gateway serves, and a validator of others accepts it.

use std::process::Command;

use system::Paddock;

use super::check;

#[tokio::test]
async fn openapi() {
    let paddock = Paddock::start();
    let answer = paddock.anonymous().get_outside("/-/openapi.json").await;
    let document = answer.ok(200);
    assert!(document["paths"].as_object().is_some_and(|paths| paths.len() > 20), "{document:#}");
    check("openapi.json", &format!("{document:#}\n"));
    paddock.stop();
}

#[test]
fn a_validator_accepts_the_document() {
    let python = system::root().join(".cache/clients/bin/python");
    if !python.exists() {
        return system::skipped("the validation of openapi.json: `make test` installs the validator where python3 is");
    }
    let file = system::root().join("docs/reference/openapi.json");
    let output = Command::new(python).args(["-m", "openapi_spec_validator"]).arg(file).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

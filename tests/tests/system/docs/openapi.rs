//! An independent validator accepts the OpenAPI document.

use std::process::Command;

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

//! One test per page. `make docs` runs these alone, to write them.

use system::Paddock;

use super::{check, configuration, contract, rest};

#[test]
fn rest() {
    check("rest.md", &rest::page());
}

#[test]
fn refusals() {
    check("refusals.md", &contract::refusals());
}

#[test]
fn credentials() {
    check("credentials.md", &contract::credentials());
}

#[test]
fn headers() {
    check("headers.md", &contract::headers());
}

#[test]
fn secrets() {
    check("secrets.md", &contract::secrets());
}

#[test]
fn configuration() {
    check("configuration.md", &configuration::page());
}

#[tokio::test]
async fn openapi() {
    let paddock = Paddock::start();
    let answer = paddock.anonymous().get_outside("/-/openapi.json").await;
    let document = answer.ok(200);
    assert!(document["paths"].as_object().is_some_and(|paths| paths.len() > 20), "{document:#}");
    check("openapi.json", &format!("{document:#}\n"));
    paddock.stop();
}

//! What a running server says of itself.

use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;

use super::{
    captures,
    report::{Finding, Report},
};
use crate::{
    api::{Api, NotReady, readiness},
    config::Config,
    data_folder,
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Runner {
    id: i64,
    unassigned: bool,
}

pub async fn check(config: &Config, report: &mut Report) {
    let base = format!("http://127.0.0.1:{}", config.port);
    let ready = ready(&base).await;
    let serves = ready.is_ok();
    report.add(ready.unwrap_or_else(|finding| finding));
    let client = Client::builder().timeout(TIMEOUT).no_proxy().build();
    if let (true, Ok(client)) = (serves, client)
        && let Some(finding) = captures::check(&client, config).await
    {
        report.add(finding);
    }
    // That the token cannot be read is told already.
    if let (true, Ok(api)) = (serves, Api::with_token_file(&base, &data_folder::root_token(&config.data))) {
        report.add(runners(&api).await);
    }
}

async fn ready(base: &str) -> Result<Finding, Finding> {
    let (finding, remedy) = match readiness(base).await {
        Ok(()) => return Ok(Finding::good("server", format!("{base} is ready"))),
        Err(NotReady::Says(text)) => (format!("{base} is not ready: {text}"), "Read the log of `paddock serve`."),
        Err(NotReady::Unreachable(cause)) => {
            let remedy = "Start `paddock serve`, or set PADDOCK_PORT to the port it uses.";
            (format!("{base} cannot be reached: {cause}"), remedy)
        }
    };
    Err(Finding::bad("server", finding, remedy))
}

async fn runners(api: &Api) -> Finding {
    let all: anyhow::Result<Vec<Runner>> = api.list("/runners/all?type=project_type").await;
    let unassigned = |runners: Vec<Runner>| -> Vec<i64> {
        runners.into_iter().filter(|runner| runner.unassigned).map(|runner| runner.id).collect()
    };
    match all.map(unassigned) {
        Ok(ids) if ids.is_empty() => Finding::good("unassigned-runners", "every project runner has a project"),
        Ok(ids) => Finding::warning(
            "unassigned-runners",
            format!("project runners without a project, which cannot rotate their tokens: {ids:?}"),
            "Assign each to a project with POST /api/v4/projects/:id/runners, or delete it.",
        ),
        Err(error) => {
            let remedy = "If the token in root.token is lost or revoked, stop the server and run `paddock root-token`.";
            Finding::bad("unassigned-runners", format!("the runners cannot be listed: {error:#}"), remedy)
        }
    }
}

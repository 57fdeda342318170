//! What a running server says of itself.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;

use super::{
    captures,
    report::{Finding, Report},
};
use crate::{api::Api, config::Config, data_folder};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Runner {
    id: i64,
    unassigned: bool,
}

pub async fn check(config: &Config, report: &mut Report) {
    let base = format!("http://127.0.0.1:{}", config.port);
    let Ok(client) = Client::builder().timeout(TIMEOUT).no_proxy().build() else { return };
    let ready = ready(&client, &base).await;
    let serves = ready.is_ok();
    report.add(ready.unwrap_or_else(|finding| finding));
    if serves && let Some(finding) = captures::check(&client, &config.paddock.metrics_listen).await {
        report.add(finding);
    }
    // That the token cannot be read is told already.
    if let (true, Ok(api)) = (serves, Api::with_token_file(&base, &data_folder::root_token(&config.data))) {
        report.add(runners(&api).await);
    }
}

async fn ready(client: &Client, base: &str) -> Result<Finding, Finding> {
    match client.get(format!("{base}/-/readiness")).send().await {
        Ok(answer) if answer.status() == StatusCode::OK => Ok(Finding::good("server", format!("{base} is ready"))),
        Ok(answer) => {
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            Err(Finding::bad(
                "server",
                format!("{base} is not ready: {status} {text}"),
                "Read the log of `paddock serve`.",
            ))
        }
        Err(error) => {
            let remedy = "Start `paddock serve`, or set PADDOCK_PORT to the port it uses.";
            Err(Finding::bad("server", format!("{base} cannot be reached: {error}"), remedy))
        }
    }
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

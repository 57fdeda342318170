//! Checks the running server: whether it is ready, its metrics of captures, and runners without a project.

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

/// The maximum time that the answer with the metrics may take.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Runner {
    id: i64,
    unassigned: bool,
}

pub async fn check(config: &Config, report: &mut Report) {
    let base = format!("http://127.0.0.1:{}", config.port);
    if let Err(not_ready) = readiness(&base).await {
        report.add(not_ready_finding(&base, not_ready));
        return;
    }
    report.add(Finding::good("server", format!("{base} is ready")));
    if let Ok(client) = Client::builder().timeout(TIMEOUT).no_proxy().build()
        && let Some(finding) = captures::check(&client, config).await
    {
        report.add(finding);
    }
    // A token that cannot be read is a finding of the local checks.
    if let Ok(api) = Api::with_token_file(&base, &data_folder::root_token(&config.data)) {
        report.add(check_runners(&api).await);
    }
}

fn not_ready_finding(base: &str, not_ready: NotReady) -> Finding {
    match not_ready {
        NotReady::Answered(answer) => {
            Finding::bad("server", format!("{base} is not ready: {answer}"), "Read the log of `paddock serve`.")
        }
        NotReady::Unreachable(cause) => {
            let remedy = "Start `paddock serve`, or set PADDOCK_PORT to the port it uses.";
            Finding::bad("server", format!("{base} cannot be reached: {cause}"), remedy)
        }
    }
}

async fn check_runners(api: &Api) -> Finding {
    let runners: Vec<Runner> = match api.list("/runners/all?type=project_type").await {
        Ok(runners) => runners,
        Err(error) => {
            let remedy = "If the token in root.token is lost or revoked, stop the server and run `paddock root-token`.";
            return Finding::bad("unassigned-runners", format!("the runners cannot be listed: {error:#}"), remedy);
        }
    };
    let unassigned: Vec<i64> = runners.iter().filter(|runner| runner.unassigned).map(|runner| runner.id).collect();
    if unassigned.is_empty() {
        return Finding::good("unassigned-runners", "every project runner has a project");
    }
    Finding::warning(
        "unassigned-runners",
        format!("project runners without a project, which cannot rotate their tokens: {unassigned:?}"),
        "Assign each to a project with POST /api/v4/projects/:id/runners, or delete it.",
    )
}

//! What a running server says of itself.

use std::{fs, time::Duration};

use proto::contract::Place;
use proto::paddock::contract::v1::CredentialKind;
use reqwest::{Client, StatusCode};
use serde::Deserialize;

use super::report::{Finding, Report};
use crate::{config::Config, data_folder};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How many runners a page holds; the API gives no more.
const PAGE: usize = 100;

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
    if let (true, Ok(token)) = (serves, fs::read_to_string(data_folder::root_token(&config.data))) {
        report.add(runners(&client, &base, &token).await);
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

async fn runners(client: &Client, base: &str, token: &str) -> Finding {
    match unassigned(client, base, token).await {
        Ok(ids) if ids.is_empty() => Finding::good("unassigned-runners", "every project runner has a project"),
        Ok(ids) => Finding::warning(
            "unassigned-runners",
            format!("project runners without a project, which cannot rotate their tokens: {ids:?}"),
            "Assign each to a project with POST /api/v4/projects/:id/runners, or delete it.",
        ),
        Err(error) => {
            let remedy = "If the token in root.token is lost or revoked, stop the server and run `paddock root-token`.";
            Finding::bad("unassigned-runners", format!("the runners cannot be listed: {error}"), remedy)
        }
    }
}

async fn unassigned(client: &Client, base: &str, token: &str) -> reqwest::Result<Vec<i64>> {
    let mut found = Vec::new();
    for page in 1.. {
        let url = format!("{base}/api/v4/runners/all?type=project_type&per_page={PAGE}&page={page}");
        let answer = client.get(url).header(token_header(), token).send().await?.error_for_status()?;
        let runners: Vec<Runner> = answer.json().await?;
        found.extend(runners.iter().filter(|runner| runner.unassigned).map(|runner| runner.id));
        if runners.len() < PAGE {
            break;
        }
    }
    Ok(found)
}

/// The header that carries a personal access token.
fn token_header() -> &'static str {
    let carriers = CredentialKind::UserToken.spec().map(|spec| spec.carriers).unwrap_or_default();
    let header = carriers.iter().find_map(|carrier| match carrier.place {
        Place::Header(name) => Some(name),
        Place::Parameter(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
    });
    header.unwrap_or_default()
}

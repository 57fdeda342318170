//! A session of the crate `gitlab-runner` against a running Paddock: it polls for jobs, and a wrong token is refused.
//! Reads PADDOCK_URL and PADDOCK_RUNNER_TOKEN from the environment.

use std::error::Error;

use gitlab_runner::job::Job;
use gitlab_runner::{GitlabLayer, JobHandler, JobResult, Phase, RunnerBuilder};
use tracing_subscriber::prelude::*;

/// Runs nothing: no scheduler feeds Paddock, so no job ever comes.
struct Nothing;

#[async_trait::async_trait]
impl JobHandler for Nothing {
    async fn step(&mut self, _: &[String], _: Phase) -> JobResult {
        Ok(())
    }
}

async fn handler(_: Job) -> Result<Nothing, ()> {
    Ok(Nothing)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server: url::Url = std::env::var("PADDOCK_URL")?.parse()?;
    let token = std::env::var("PADDOCK_RUNNER_TOKEN")?;
    let builds = tempfile::tempdir()?;
    let (layer, jobs) = GitlabLayer::new();
    tracing_subscriber::registry().with(layer).init();

    let mut runner = RunnerBuilder::new(server.clone(), token.clone(), builds.path(), jobs)
        .system_id("r_sessionRust1")
        .version("0.3.2")
        .platform("linux")
        .architecture("amd64")
        .build()
        .await;
    for poll in 1..=3 {
        let got_a_job = runner.request_job(handler).await?;
        assert!(!got_a_job, "poll {poll} returned a job");
    }

    let (_unused, jobs) = GitlabLayer::new::<tracing_subscriber::Registry>();
    let wrong = &token[..token.len() - 1];
    let mut stranger = RunnerBuilder::new(server, wrong, builds.path(), jobs).build().await;
    let refusal = stranger.request_job(handler).await.expect_err("a wrong token is refused");
    assert!(refusal.to_string().contains("403"), "{refusal}");

    println!("gitlab-runner 0.3.2 passed");
    Ok(())
}

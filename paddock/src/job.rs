//! `paddock job`: issues job tokens, finishes jobs, and lists them. Paddock has no scheduler that does this.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    api::Api,
    config::Config,
    data_folder,
    output::{self, Format},
};

/// The status of a job whose token is valid.
const RUNNING: &str = "running";

/// The path of jobs in the API.
const JOBS: &str = "/admin/jobs";

/// The subcommand, the gateway, and the token of the caller.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The address of the gateway, as in http://ci-tokens.internal:8080. Default: `paddock serve` on this machine.
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
    /// A file with the token of an administrator. Default: root.token in the data folder.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

/// The subcommands.
#[derive(Subcommand)]
enum Command {
    /// Starts a job, and prints its token on standard output and nothing else.
    Issue(Issue),
    /// Finishes a job. Its token stops working at once.
    Finish {
        /// The id of the job, as `paddock job list` shows it.
        job_id: i64,
    },
    /// Lists jobs, the newest first.
    List {
        /// The format of the list.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Format,
    },
}

/// The job to issue a token for.
#[derive(Args)]
struct Issue {
    /// The project of the job, by its id or its full path.
    #[arg(long)]
    project: String,
    /// The id of the user that the job runs for.
    #[arg(long)]
    user: i64,
    /// The maximum duration in seconds, from 1 to 2592000. The token expires five minutes later. Default: one hour.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<i32>,
    /// The name of the job in its pipeline.
    #[arg(long)]
    name: Option<String>,
    /// The stage of the job in its pipeline.
    #[arg(long)]
    stage: Option<String>,
    /// The branch or tag that the job runs for.
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
}

#[derive(Serialize)]
struct IssueRequest {
    project_id: i64,
    user_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
}

#[derive(Deserialize)]
struct IssueResponse {
    job: Job,
    token: String,
}

#[derive(Deserialize)]
struct Job {
    id: i64,
    status: String,
    name: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    stage: Option<String>,
    token_expires_at: String,
    user: User,
    project: Project,
}

#[derive(Deserialize)]
struct User {
    id: i64,
    username: Option<String>,
}

#[derive(Deserialize)]
struct Project {
    id: i64,
    path_with_namespace: Option<String>,
}

/// Runs a subcommand.
///
/// # Errors
/// Says what is wrong, and what to do about it.
pub async fn run(arguments: Arguments, config: &Config) -> anyhow::Result<()> {
    let server = arguments.server.unwrap_or_else(|| format!("http://127.0.0.1:{}", config.port));
    let token_file = arguments.token_file.unwrap_or_else(|| data_folder::root_token(&config.data));
    let api = Api::with_token_file(&server, &token_file)?;
    match arguments.command {
        Command::Issue(arguments) => issue_token(&api, arguments).await,
        Command::Finish { job_id } => finish_job(&api, job_id).await,
        Command::List { output } => list_jobs(&api, output).await,
    }
}

/// Prints the token alone to standard output, so that a script can read it, and the text for people to standard error.
async fn issue_token(api: &Api, arguments: Issue) -> anyhow::Result<()> {
    let request = IssueRequest {
        project_id: project_id(api, &arguments.project).await?,
        user_id: arguments.user,
        timeout: arguments.timeout,
        name: arguments.name,
        stage: arguments.stage,
        reference: arguments.reference,
    };
    let IssueResponse { job, token } = api.send(api.post(JOBS).json(&request)).await?;
    writeln!(io::stdout(), "{token}")?;
    let id = job.id;
    let expires_at = job.token_expires_at;
    writeln!(io::stderr(), "job {id}: the token expires at {expires_at}, or with `paddock job finish {id}`")?;
    Ok(())
}

/// Returns the id of a project that is given by its id or its full path.
async fn project_id(api: &Api, project: &str) -> anyhow::Result<i64> {
    if let Ok(id) = project.parse() {
        return Ok(id);
    }
    ensure!(
        project.contains('/'),
        "--project {project:?} is neither an id nor a full path: give it as in --project 7 or --project demo/app"
    );
    let path = utf8_percent_encode(project, NON_ALPHANUMERIC);
    let request = api.get(&format!("/projects/{path}"));
    let found: Project = api.send(request).await.with_context(|| project.to_owned())?;
    Ok(found.id)
}

async fn finish_job(api: &Api, id: i64) -> anyhow::Result<()> {
    let job: Job = api.send(api.post(&format!("{JOBS}/{id}/finish"))).await?;
    writeln!(io::stdout(), "job {} is {}", job.id, job.status)?;
    Ok(())
}

async fn list_jobs(api: &Api, format: Format) -> anyhow::Result<()> {
    let jobs: Vec<Value> = api.list(JOBS).await?;
    match format {
        Format::Json => output::print_json(&jobs)?,
        Format::Text => {
            let jobs: Result<Vec<Job>, _> = jobs.into_iter().map(serde_json::from_value).collect();
            let jobs = jobs.context("the server describes jobs in a way that this version does not know")?;
            output::print(&job_table(&jobs))?;
        }
    }
    Ok(())
}

fn job_table(jobs: &[Job]) -> String {
    let rows: Vec<_> = jobs.iter().map(job_row).collect();
    output::table(["ID", "STATUS", "PROJECT", "USER", "NAME", "STAGE", "REF", "TOKEN"], &rows)
}

/// Returns the cells of a job. A deleted user or project has only its id.
fn job_row(job: &Job) -> [String; 8] {
    let is_running = job.status == RUNNING;
    [
        job.id.to_string(),
        job.status.clone(),
        text_or_id(job.project.path_with_namespace.as_deref(), job.project.id),
        text_or_id(job.user.username.as_deref(), job.user.id),
        text_or_dash(job.name.as_deref()),
        text_or_dash(job.stage.as_deref()),
        text_or_dash(job.reference.as_deref()),
        if is_running { format!("until {}", job.token_expires_at) } else { "ended".to_owned() },
    ]
}

fn text_or_id(text: Option<&str>, id: i64) -> String {
    text.map_or_else(|| id.to_string(), ToOwned::to_owned)
}

fn text_or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_row_and_a_deleted_object_is_its_id() {
        let running = Job {
            id: 7,
            status: "running".to_owned(),
            name: Some("build".to_owned()),
            reference: None,
            stage: Some("test".to_owned()),
            token_expires_at: "then".to_owned(),
            user: User { id: 2, username: Some("alice".to_owned()) },
            project: Project { id: 3, path_with_namespace: Some("demo/app".to_owned()) },
        };
        let finished = Job {
            id: 7,
            status: "finished".to_owned(),
            name: None,
            reference: None,
            stage: None,
            token_expires_at: "then".to_owned(),
            user: User { id: 2, username: None },
            project: Project { id: 3, path_with_namespace: None },
        };
        let expected = "\
ID  STATUS    PROJECT   USER   NAME   STAGE  REF  TOKEN
7   running   demo/app  alice  build  test   -    until then
7   finished  3         2      -      -      -    ended
";
        assert_eq!(job_table(&[running, finished]), expected);
    }
}

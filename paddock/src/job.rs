//! `paddock job`: issues the tokens of jobs, and ends them, until a scheduler does.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{api::Api, config::Config, data_folder, output::print};

/// The status of a job whose token is good.
const RUNNING: &str = "running";

/// Where jobs are, as the API has it.
const JOBS: &str = "/admin/jobs";

/// What to do, on which server, and as whom.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The address of the gateway, for example http://ci-tokens.internal:8080. Without it: that of `paddock serve` here.
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
    /// A file with the token of an administrator. Without it: root.token in the data folder.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

/// What to do with jobs.
#[derive(Subcommand)]
enum Command {
    /// Records a job that runs now, and prints its token alone on standard output.
    Issue(Issue),
    /// Says that a job has ended: its token is dead at once.
    Finish {
        /// The id of the job; `paddock job list` shows it.
        job_id: i64,
    },
    /// Lists jobs, the newest first.
    List {
        /// How they are printed.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Format,
    },
}

/// The job to issue a token for.
#[derive(Args)]
struct Issue {
    /// Its project: the id or the full path.
    #[arg(long)]
    project: String,
    /// The id of the user that it runs for.
    #[arg(long)]
    user: i64,
    /// How long it may run, in seconds, from 1 to 2592000; the token expires five minutes after. Without it: an hour.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<i32>,
    /// Its name in the pipeline.
    #[arg(long)]
    name: Option<String>,
    /// Its stage in the pipeline.
    #[arg(long)]
    stage: Option<String>,
    /// The branch or tag that it runs for.
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
}

/// How jobs are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// A JSON array of objects.
    Json,
}

#[derive(Deserialize)]
struct Issued {
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

#[derive(Deserialize)]
struct WithId {
    id: i64,
}

/// Runs a command.
///
/// # Errors
/// What is wrong, and what to do about it.
pub async fn run(arguments: Arguments, config: &Config) -> anyhow::Result<()> {
    let server = arguments.server.unwrap_or_else(|| format!("http://127.0.0.1:{}", config.port));
    let file = arguments.token_file.unwrap_or_else(|| data_folder::root_token(&config.data));
    let api = Api::with_token_file(&server, &file)?;
    match arguments.command {
        Command::Issue(issue) => self::issue(&api, issue).await,
        Command::Finish { job_id } => finish(&api, job_id).await,
        Command::List { output } => list(&api, output).await,
    }
}

/// The token goes to standard output alone, so that a script can take it; what a person wants to know goes beside it.
async fn issue(api: &Api, issue: Issue) -> anyhow::Result<()> {
    let mut body = Map::new();
    body.insert("project_id".to_owned(), project_id(api, &issue.project).await?.into());
    body.insert("user_id".to_owned(), issue.user.into());
    let timeout = issue.timeout.map(Value::from);
    let texts = [("name", issue.name), ("stage", issue.stage), ("ref", issue.reference)];
    let optional = texts.into_iter().map(|(name, text)| (name, text.map(Value::from))).chain([("timeout", timeout)]);
    body.extend(optional.filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let issued: Issued = api.send(api.post(JOBS).json(&body)).await?;
    writeln!(io::stdout(), "{}", issued.token)?;
    let Job { id, token_expires_at, .. } = issued.job;
    writeln!(io::stderr(), "job {id}: the token expires at {token_expires_at}, or with `paddock job finish {id}`")?;
    Ok(())
}

/// The id of a project that is given by its id or its full path.
async fn project_id(api: &Api, project: &str) -> anyhow::Result<i64> {
    if let Ok(id) = project.parse() {
        return Ok(id);
    }
    ensure!(
        project.contains('/'),
        "--project {project:?} is neither an id nor a full path: give it as in --project 7 or --project demo/app"
    );
    let path = utf8_percent_encode(project, NON_ALPHANUMERIC);
    let found: WithId = api.send(api.get(&format!("/projects/{path}"))).await.with_context(|| project.to_owned())?;
    Ok(found.id)
}

async fn finish(api: &Api, id: i64) -> anyhow::Result<()> {
    let job: Job = api.send(api.post(&format!("{JOBS}/{id}/finish"))).await?;
    writeln!(io::stdout(), "job {} is {}", job.id, job.status)?;
    Ok(())
}

async fn list(api: &Api, format: Format) -> anyhow::Result<()> {
    let jobs: Vec<Value> = api.list(JOBS).await?;
    print(&match format {
        Format::Json => serde_json::to_string_pretty(&jobs)? + "\n",
        Format::Text => {
            let jobs = jobs.into_iter().map(serde_json::from_value).collect::<Result<Vec<Job>, _>>();
            table(&jobs.context("the server speaks of jobs in another way")?)
        }
    })?;
    Ok(())
}

/// The jobs below a line of headings, in columns that are as wide as what stands in them.
fn table(jobs: &[Job]) -> String {
    let headings = ["ID", "STATUS", "PROJECT", "USER", "NAME", "STAGE", "REF", "TOKEN"].map(ToOwned::to_owned);
    let rows: Vec<_> = std::iter::once(headings).chain(jobs.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..8).map(width).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// The cells of a job. What is gone is named by its id.
fn row(job: &Job) -> [String; 8] {
    let or_id = |text: &Option<String>, id: i64| text.clone().unwrap_or_else(|| id.to_string());
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let is_good = job.status == RUNNING;
    [
        job.id.to_string(),
        job.status.clone(),
        or_id(&job.project.path_with_namespace, job.project.id),
        or_id(&job.user.username, job.user.id),
        or_none(&job.name),
        or_none(&job.stage),
        or_none(&job.reference),
        if is_good { format!("until {}", job.token_expires_at) } else { "ended".to_owned() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_row_that_names_what_is_gone_by_its_id() {
        let job = |status: &str, username: Option<&str>, path: Option<&str>, name: Option<&str>| Job {
            id: 7,
            status: status.to_owned(),
            name: name.map(ToOwned::to_owned),
            reference: None,
            stage: name.map(|_| "test".to_owned()),
            token_expires_at: "then".to_owned(),
            user: User { id: 2, username: username.map(ToOwned::to_owned) },
            project: Project { id: 3, path_with_namespace: path.map(ToOwned::to_owned) },
        };
        let jobs = [job("running", Some("alice"), Some("demo/app"), Some("build")), job("finished", None, None, None)];
        let expected = "\
ID  STATUS    PROJECT   USER   NAME   STAGE  REF  TOKEN
7   running   demo/app  alice  build  test   -    until then
7   finished  3         2      -      -      -    ended
";
        assert_eq!(table(&jobs), expected);
    }
}

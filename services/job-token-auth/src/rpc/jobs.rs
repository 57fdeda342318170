//! Jobs and their tokens.

use std::collections::{BTreeSet, HashMap};

use chassis::{
    access::{self, CallContext},
    client_id::ResolvedClient,
    db::{self, paging::Window},
    status::Refusal,
};
use proto::{
    paddock::{
        contract::v1::Reason,
        directory::v1::{ProjectDescription, UserDescription},
        job_token::v1::{
            FinishJobRequest, FinishJobResponse, GetCurrentJobRequest, GetCurrentJobResponse, IssueJobTokenRequest,
            IssueJobTokenResponse, Job, JobProject, JobStatus, JobUser, ListJobsRequest, ListJobsResponse,
            ListSigningKeysRequest, ListSigningKeysResponse, StartJobRequest, StartJobResponse,
            job_service_server::JobService,
        },
    },
    timestamp::from_millis,
};
use time::{Duration, OffsetDateTime};
use tonic::{Request, Response, Status};

use super::{
    State,
    parameters::{invalid, invalid_value},
};
use crate::{
    allowlist::rules::Target,
    entity::job::Model,
    error::{Error, Result},
    job_token::token::{Claims, GRACE_SECONDS, JobToken},
    store::jobs::{self, JobFilter, NewJob},
};

/// The maximum length of a name, a stage and a ref, in characters.
const MAX_TEXT: usize = 255;

/// The default timeout of a job, in seconds.
const DEFAULT_TIMEOUT: i32 = 3600;

/// The maximum timeout of a job, in seconds: 30 days.
const MAX_TIMEOUT: i32 = 2_592_000;

/// The statuses of a job.
const STATUSES: [JobStatus; 3] = [JobStatus::Created, JobStatus::Running, JobStatus::Finished];

/// The service.
pub struct Jobs(pub State);

#[tonic::async_trait]
impl JobService for Jobs {
    async fn issue_job_token(
        &self,
        request: Request<IssueJobTokenRequest>,
    ) -> Result<Response<IssueJobTokenResponse>, Status> {
        let context = access::context(&request)?.clone();
        Ok(Response::new(self.0.create_job(request.into_inner(), &context).await?))
    }

    async fn start_job(&self, request: Request<StartJobRequest>) -> Result<Response<StartJobResponse>, Status> {
        let context = access::context(&request)?.clone();
        let id = request.get_ref().id;
        jobs::start(&self.0.database, id, self.0.clock.now()).await?;
        let job = self.0.changed_job(id).await?;
        if job.status() == JobStatus::Finished {
            return Err(Refusal::new(Reason::JobFinished).into());
        }
        let token = self.0.issue_token(&job)?;
        Ok(Response::new(StartJobResponse { job: Some(self.0.describe_one(job, &context).await?), token }))
    }

    async fn finish_job(&self, request: Request<FinishJobRequest>) -> Result<Response<FinishJobResponse>, Status> {
        let context = access::context(&request)?.clone();
        let id = request.get_ref().id;
        jobs::finish(&self.0.database, id, self.0.clock.now()).await?;
        let job = self.0.changed_job(id).await?;
        Ok(Response::new(FinishJobResponse { job: Some(self.0.describe_one(job, &context).await?) }))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let context = access::context(&request)?.clone();
        let request = request.into_inner();
        let window = Window::new(request.page, request.per_page)?;
        let status = request.status.map(|status| valid_status(status, &STATUSES)).transpose()?;
        let filter = JobFilter { status, project_id: request.project_id };
        let rows = jobs::list(&self.0.database, &filter, window).await?;
        let jobs = self.0.describe_jobs(rows.items, &context).await?;
        Ok(Response::new(ListJobsResponse { jobs, page: Some(rows.page) }))
    }

    async fn get_current_job(
        &self,
        request: Request<GetCurrentJobRequest>,
    ) -> Result<Response<GetCurrentJobResponse>, Status> {
        let context = access::context(&request)?.clone();
        let client = ResolvedClient::of(&request)?;
        let job = self.0.current_job(request.into_inner().token, &context, &client).await?;
        Ok(Response::new(GetCurrentJobResponse { job: Some(job) }))
    }

    async fn list_signing_keys(
        &self,
        _: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        Ok(Response::new(ListSigningKeysResponse { keys: self.0.signing.public() }))
    }
}

impl State {
    /// Creates a job and issues its token.
    async fn create_job(&self, request: IssueJobTokenRequest, context: &CallContext) -> Result<IssueJobTokenResponse> {
        let timeout = job_timeout(request.timeout)?;
        let initial_statuses = [JobStatus::Created, JobStatus::Running];
        let status = request.status.map(|status| valid_status(status, &initial_statuses)).transpose()?;
        for (name, text) in [("name", &request.name), ("stage", &request.stage), ("ref", &request.r#ref)] {
            check_text(name, text.as_deref())?;
        }
        let project = request.project_id.to_string();
        let access = self.directory.project(&project, Some(request.user_id), context).await?;
        if !access.user_exists {
            return Err(Refusal::new(Reason::UserNotFound).into());
        }
        let project = Target::try_from(&access)?;
        if !project.is_visible() {
            let detail = format!("user {} does not see project {}", request.user_id, project.id);
            return Err(Refusal::new(Reason::JobUserWithoutAccess).with_detail(detail).into());
        }
        let now = self.clock.now();
        let new = NewJob {
            project_id: project.id,
            user_id: request.user_id,
            status: status.unwrap_or(JobStatus::Running),
            name: request.name,
            stage: request.stage,
            r#ref: request.r#ref,
            token_expires_at: now + timeout + Duration::seconds(GRACE_SECONDS),
        };
        let tx = db::begin_write(&self.database).await?;
        let job = jobs::insert(&tx, new, now).await?;
        tx.commit().await?;
        self.known_projects.remember(project.id, &project.full_path).await;
        let token = self.issue_token(&job)?;
        Ok(IssueJobTokenResponse { job: Some(self.describe_one(job, context).await?), token })
    }

    /// Issues a token of the job that is valid from now on.
    fn issue_token(&self, job: &Model) -> Result<String> {
        let expires_at = OffsetDateTime::from_unix_timestamp(job.token_expires_at.div_euclid(1000));
        let expires_at = expires_at.map_err(Error::internal)?;
        let claims = Claims::new(job.id, job.project_id, job.user_id, self.clock.now(), expires_at);
        Ok(JobToken::issue(&self.signing, &claims)?.expose().to_owned())
    }

    async fn current_job(&self, token: String, context: &CallContext, client: &ResolvedClient) -> Result<Job> {
        let claims = self.decider.claims(JobToken::parse(token)?, client).await?;
        self.decider.job_state(&claims, context).await?.running(&claims)?;
        let job = jobs::find(&self.database, claims.job_id).await?;
        self.describe_one(job.ok_or_else(|| Refusal::new(Reason::JobTokenInvalid))?, context).await
    }

    /// Returns a job that this process has just started or finished.
    async fn changed_job(&self, id: i64) -> Result<Model> {
        self.decider.job_changed(id);
        let job = jobs::find(&self.database, id).await?;
        job.ok_or_else(|| Refusal::new(Reason::JobNotFound).into())
    }

    async fn describe_one(&self, job: Model, context: &CallContext) -> Result<Job> {
        let described = self.describe_jobs(vec![job], context).await?.pop();
        described.ok_or_else(|| Error::internal("a job has no description"))
    }

    /// Makes the messages of jobs, with the present names of users and projects.
    async fn describe_jobs(&self, jobs: Vec<Model>, context: &CallContext) -> Result<Vec<Job>> {
        let user_ids = unique_ids(jobs.iter().map(|job| job.user_id));
        let users = self.directory.users(&user_ids, context).await?;
        let project_ids = unique_ids(jobs.iter().map(|job| job.project_id));
        let projects = self.directory.projects(&project_ids, None, context).await?;
        Ok(jobs.into_iter().map(|job| job_message(job, &users, &projects)).collect())
    }
}

fn unique_ids(ids: impl Iterator<Item = i64>) -> Vec<i64> {
    ids.collect::<BTreeSet<_>>().into_iter().collect()
}

fn job_message(job: Model, users: &HashMap<i64, UserDescription>, projects: &HashMap<i64, ProjectDescription>) -> Job {
    let user = users.get(&job.user_id);
    let project = projects.get(&job.project_id).and_then(|found| found.project.as_ref());
    Job {
        id: job.id,
        status: job.status().into(),
        name: job.name,
        stage: job.stage,
        r#ref: job.r#ref,
        created_at: Some(from_millis(job.created_at)),
        started_at: job.started_at.map(from_millis),
        finished_at: job.finished_at.map(from_millis),
        token_expires_at: Some(from_millis(job.token_expires_at)),
        user: Some(JobUser {
            id: job.user_id,
            username: user.map(|user| user.username.clone()),
            name: user.map(|user| user.name.clone()),
        }),
        project: Some(JobProject {
            id: job.project_id,
            path_with_namespace: project.map(|project| project.path_with_namespace.clone()),
        }),
    }
}

fn valid_status(number: i32, valid: &[JobStatus]) -> Result<JobStatus, Refusal> {
    let status = JobStatus::try_from(number).ok().filter(|status| valid.contains(status));
    status.ok_or_else(|| invalid_value("status"))
}

fn job_timeout(seconds: Option<i32>) -> Result<Duration, Refusal> {
    let seconds = seconds.unwrap_or(DEFAULT_TIMEOUT);
    if (1..=MAX_TIMEOUT).contains(&seconds) {
        return Ok(Duration::seconds(seconds.into()));
    }
    Err(invalid(format!("timeout does not have a valid value: it is 1 to {MAX_TIMEOUT} seconds")))
}

fn check_text(name: &str, text: Option<&str>) -> Result<(), Refusal> {
    if text.is_none_or(|text| text.chars().count() <= MAX_TEXT && !text.contains('\0')) {
        return Ok(());
    }
    Err(invalid(format!("{name} is invalid")))
}

//! Jobs and their tokens.

use std::collections::HashMap;

use chassis::{
    access::{self, CallContext},
    db::paging::Window,
    status::Refusal,
};
use proto::paddock::{
    contract::v1::Reason,
    directory::v1::{ProjectDescription, UserDescription},
    job_token::v1::{
        FinishJobRequest, FinishJobResponse, GetCurrentJobRequest, GetCurrentJobResponse, IssueJobTokenRequest,
        IssueJobTokenResponse, Job, JobProject, JobStatus, JobUser, ListJobsRequest, ListJobsResponse,
        ListSigningKeysRequest, ListSigningKeysResponse, StartJobRequest, StartJobResponse,
        job_service_server::JobService,
    },
};
use time::{Duration, OffsetDateTime};
use tonic::{Request, Response, Status};

use super::State;
use proto::timestamp::from_millis;

use crate::{
    entity::job::Model,
    error::{Error, Result},
    scope::Target,
    store::jobs::{self, Filter, New},
    token::{Claims, GRACE, JobToken},
};

/// The greatest length of a name, a stage and a ref, in characters.
const MAX_TEXT: usize = 255;

/// How long a job may run when nothing is said, in seconds.
const DEFAULT_TIMEOUT: i32 = 3600;

/// How long a job may run at most, in seconds: a month.
const MAX_TIMEOUT: i32 = 2_592_000;

/// Where a job can stand.
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
        Ok(Response::new(self.0.issue(request.into_inner(), &context).await?))
    }

    async fn start_job(&self, request: Request<StartJobRequest>) -> Result<Response<StartJobResponse>, Status> {
        let (context, id) = (access::context(&request)?.clone(), request.get_ref().id);
        jobs::start(&self.0.database, id, self.0.clock.now()).await?;
        let job = self.0.changed(id).await?;
        if job.status() == JobStatus::Finished {
            return Err(Refusal::new(Reason::JobFinished).into());
        }
        let token = self.0.token(&job)?;
        Ok(Response::new(StartJobResponse { job: Some(self.0.describe_one(job, &context).await?), token }))
    }

    async fn finish_job(&self, request: Request<FinishJobRequest>) -> Result<Response<FinishJobResponse>, Status> {
        let (context, id) = (access::context(&request)?.clone(), request.get_ref().id);
        jobs::finish(&self.0.database, id, self.0.clock.now()).await?;
        let job = self.0.changed(id).await?;
        Ok(Response::new(FinishJobResponse { job: Some(self.0.describe_one(job, &context).await?) }))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let context = access::context(&request)?.clone();
        let request = request.into_inner();
        let window = Window::new(request.page, request.per_page)?;
        let status = request.status.map(|status| status_of(status, &STATUSES)).transpose()?;
        let filter = Filter { status, project_id: request.project_id };
        let rows = jobs::list(&self.0.database, &filter, window).await?;
        let jobs = self.0.describe(rows.items, &context).await?;
        Ok(Response::new(ListJobsResponse { jobs, page: Some(rows.page) }))
    }

    async fn get_current_job(
        &self,
        request: Request<GetCurrentJobRequest>,
    ) -> Result<Response<GetCurrentJobResponse>, Status> {
        let context = access::context(&request)?.clone();
        let job = self.0.current_job(request.into_inner().token, &context).await?;
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
    async fn issue(&self, request: IssueJobTokenRequest, context: &CallContext) -> Result<IssueJobTokenResponse> {
        let timeout = timeout(request.timeout)?;
        let at_first = [JobStatus::Created, JobStatus::Running];
        let status = request.status.map(|status| status_of(status, &at_first)).transpose()?;
        for (name, text) in [("name", &request.name), ("stage", &request.stage), ("ref", &request.r#ref)] {
            check_text(name, text.as_deref())?;
        }
        let project = request.project_id.to_string();
        let found = self.directory.project(&project, Some(request.user_id), context).await?;
        if !found.user_exists {
            return Err(Refusal::new(Reason::UserNotFound).into());
        }
        let project = Target::try_from(&found)?;
        if !project.is_visible() {
            let detail = format!("user {} does not see project {}", request.user_id, project.id);
            return Err(Refusal::new(Reason::JobUserWithoutAccess).with_detail(detail).into());
        }
        self.known.remember(project.id, &project.full_path).await;
        let now = self.clock.now();
        let new = New {
            project_id: project.id,
            user_id: request.user_id,
            status: status.unwrap_or(JobStatus::Running),
            name: request.name,
            stage: request.stage,
            r#ref: request.r#ref,
            token_expires_at: now + timeout + Duration::seconds(GRACE),
        };
        let job = jobs::insert(&self.database, new, now).await?;
        let token = self.token(&job)?;
        Ok(IssueJobTokenResponse { job: Some(self.describe_one(job, context).await?), token })
    }

    /// A token of the job that counts from now.
    fn token(&self, job: &Model) -> Result<String> {
        let expires_at = OffsetDateTime::from_unix_timestamp(job.token_expires_at.div_euclid(1000));
        let expires_at = expires_at.map_err(Error::internal)?;
        let claims = Claims::new(job.id, job.project_id, job.user_id, self.clock.now(), expires_at);
        Ok(JobToken::issue(&self.signing, &claims)?.expose().to_owned())
    }

    async fn current_job(&self, token: String, context: &CallContext) -> Result<Job> {
        let claims = self.facts.claims(JobToken::parse(token)?).await?;
        self.facts.bearing(&claims, context).await?.runner(&claims)?;
        let job = jobs::find(&self.database, claims.job_id).await?;
        self.describe_one(job.ok_or_else(|| Refusal::new(Reason::JobTokenInvalid))?, context).await
    }

    /// A job that was just started or finished.
    async fn changed(&self, id: i64) -> Result<Model> {
        self.facts.job_changed(id);
        let job = jobs::find(&self.database, id).await?;
        job.ok_or_else(|| Refusal::new(Reason::JobNotFound).into())
    }

    async fn describe_one(&self, job: Model, context: &CallContext) -> Result<Job> {
        let described = self.describe(vec![job], context).await?.pop();
        described.ok_or_else(|| Error::internal("a job has no description"))
    }

    /// Jobs as messages, with the names of users and projects as they are now.
    async fn describe(&self, jobs: Vec<Model>, context: &CallContext) -> Result<Vec<Job>> {
        let ids = |of: fn(&Model) -> i64| {
            let mut ids: Vec<_> = jobs.iter().map(of).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let users = self.directory.users(&ids(|job| job.user_id), context).await?;
        let projects = self.directory.projects(&ids(|job| job.project_id), None, context).await?;
        Ok(jobs.into_iter().map(|job| message(job, &users, &projects)).collect())
    }
}

fn message(job: Model, users: &HashMap<i64, UserDescription>, projects: &HashMap<i64, ProjectDescription>) -> Job {
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

fn invalid(text: String) -> Refusal {
    Refusal::new(Reason::ParameterInvalid).with_message(text)
}

fn status_of(number: i32, of: &[JobStatus]) -> Result<JobStatus, Refusal> {
    let status = JobStatus::try_from(number).ok().filter(|status| of.contains(status));
    status.ok_or_else(|| invalid("status does not have a valid value".to_owned()))
}

fn timeout(seconds: Option<i32>) -> Result<Duration, Refusal> {
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

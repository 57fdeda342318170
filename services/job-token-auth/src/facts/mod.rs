//! What a decision rests on: the job, its project, the project that it reaches, and that project's scope.
//!
//! The facts of one decision are asked for together and believed together, for at most the configured lag. So a decision is
//! always one that was right at some instant within the lag; facts of different ages could add up to one that never was.
//! What this process changes itself is seen at once.

mod believed;
mod live;
#[cfg(test)]
mod model;

use std::{future::Future, sync::Arc};

use chassis::{access::CallContext, clock::Clock, status::Refusal};
use proto::paddock::{
    contract::v1::Reason,
    directory::v1::GetProjectAccessResponse,
    job_token::v1::{JobStatus, JobTokenPolicy},
};

use self::believed::Believed;
pub use self::live::Live;
use crate::{
    config::Config,
    error::{Error, Result},
    keys::SigningKeys,
    scope::{self, Allowed, Denied, Origin, Scope, Target},
    token::{Claims, JobToken},
};

/// A longer text is no path; see the limit of runner-registry.
const MAX_REFERENCE: usize = 255;

/// A job, as far as its token is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Its project.
    pub project_id: i64,
    /// The user that it runs for.
    pub user_id: i64,
    /// Where it stands.
    pub status: JobStatus,
}

/// Where facts come from.
pub trait Sources: Send + Sync {
    /// The job; none if there is no such job.
    fn job(&self, id: i64) -> impl Future<Output = Result<Option<JobFacts>>> + Send;

    /// The project with an id or a full path, and what the user is to it; none if there is no such project.
    fn access(
        &self,
        project: &str,
        user_id: i64,
        context: &CallContext,
    ) -> impl Future<Output = Result<Option<GetProjectAccessResponse>>> + Send;

    /// The part of the scope of a project that matters for jobs of the origin.
    fn scope(&self, project_id: i64, origin: &Origin) -> impl Future<Output = Result<Scope>> + Send;
}

/// The facts, as far as this process knows them.
pub struct Facts<S> {
    sources: Arc<S>,
    keys: SigningKeys,
    clock: Clock,
    /// By the digest of the token.
    claims: Believed<[u8; 32], Arc<Claims>>,
    reaches: Believed<Question, Arc<Reach>>,
}

/// What facts were asked for. All that the token says of the job is part of it: ids come again when a database is restored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    job_id: i64,
    project_id: i64,
    user_id: i64,
    /// The project that is reached, as the request names it.
    target: String,
}

/// What is known of a job and a project that it reaches.
#[derive(Debug)]
struct Reach {
    /// If it does not run, nothing else is asked.
    job: Bearing,
    target: Option<(Arc<Target>, Scope)>,
}

/// What is known of a job.
#[derive(Clone, Debug)]
pub enum Bearing {
    /// There is no such job, or it is not the job that the token means.
    Unknown,
    /// It does not run.
    NotRunning,
    /// Its project was deleted.
    ProjectDeleted,
    /// Its user was deleted.
    UserDeleted,
    /// It runs.
    Running(Arc<Runner>),
}

/// A job that runs, and for whom.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Its project.
    pub origin: Origin,
    /// The username of its user.
    pub username: String,
}

/// A job that may reach a project.
#[derive(Debug)]
pub struct Granted {
    /// The job.
    pub runner: Arc<Runner>,
    /// The project.
    pub target: Arc<Target>,
    /// Why it may.
    pub allowed: Allowed,
}

impl<S: Sources + 'static> Facts<S> {
    /// Nothing is known yet.
    pub fn new(sources: S, keys: SigningKeys, clock: Clock, config: &Config) -> Self {
        let lag = config.max_lag();
        let (claims, reaches) = (Believed::new(clock.clone(), lag), Believed::new(clock.clone(), lag));
        Self { sources: Arc::new(sources), keys, clock, claims, reaches }
    }

    /// What a token says, if it was issued here and counts now.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_MALFORMED`, `JOB_TOKEN_INVALID` or `JOB_TOKEN_EXPIRED`.
    pub async fn claims(&self, token: JobToken) -> Result<Arc<Claims>> {
        let digest = <[u8; 32]>::try_from(token.digest().as_ref()).map_err(Error::internal)?;
        let verify = || {
            let keys = self.keys.clone();
            async move { Ok(Arc::new(token.verify(&keys)?)) }
        };
        let claims = self.claims.get(digest, digest, verify).await?;
        claims.check_times(self.clock.now())?;
        Ok(claims)
    }

    /// Decides whether the job may use a route that requires these policies on a project, given by its id or its full path.
    ///
    /// # Errors
    /// A refusal that says why not, or a fault.
    pub async fn decide(
        &self,
        claims: &Claims,
        project: &str,
        policies: &[JobTokenPolicy],
        context: &CallContext,
    ) -> Result<Granted> {
        let project = if project.len() <= MAX_REFERENCE { project } else { "" };
        let Claims { job_id, project_id, user_id, .. } = *claims;
        let question = Question { job_id, project_id, user_id, target: project.to_owned() };
        let ask = || {
            let (sources, context) = (Arc::clone(&self.sources), context.clone());
            let (claims, project) = (claims.clone(), project.to_owned());
            async move { Ok(Arc::new(Reach::ask(&*sources, &claims, &project, &context).await?)) }
        };
        let reach = self.reaches.get(job_id, question, ask).await?;
        let runner = reach.job.runner(claims)?;
        let nothing = || {
            let detail = format!("job {job_id} of project {project_id} reaches for a project that does not exist");
            Refusal::new(Reason::ProjectNotFound).with_detail(detail)
        };
        let (target, scope) = reach.target.as_ref().ok_or_else(nothing)?;
        match scope::decide(&runner.origin, target, scope, policies) {
            Ok(allowed) => Ok(Granted { runner: runner.clone(), target: target.clone(), allowed }),
            Err(denied) => Err(refusal(claims, &denied, &runner.origin, target).into()),
        }
    }

    /// What is known of the job of a token now.
    ///
    /// # Errors
    /// A fault.
    pub async fn bearing(&self, claims: &Claims, context: &CallContext) -> Result<Bearing> {
        Bearing::ask(&*self.sources, claims, context).await
    }

    /// This process changed the job.
    pub fn job_changed(&self, id: i64) {
        self.reaches.changed(id);
    }

    /// This process changed a scope or an allowlist. That is rare, so everything is asked again.
    pub fn scope_changed(&self) {
        self.reaches.all_changed();
    }
}

impl Reach {
    async fn ask(sources: &impl Sources, claims: &Claims, reference: &str, context: &CallContext) -> Result<Self> {
        let job = Bearing::ask(sources, claims, context).await?;
        let Bearing::Running(runner) = &job else { return Ok(Self { job, target: None }) };
        let access = match reference {
            "" => None,
            _ => sources.access(reference, claims.user_id, context).await?,
        };
        let Some(access) = access else { return Ok(Self { job, target: None }) };
        let target = Target::try_from(&access)?;
        let is_own = target.id == runner.origin.id;
        let scope = if is_own { Scope::closed() } else { sources.scope(target.id, &runner.origin).await? };
        Ok(Self { job, target: Some((Arc::new(target), scope)) })
    }
}

impl Bearing {
    async fn ask(sources: &impl Sources, claims: &Claims, context: &CallContext) -> Result<Self> {
        let Some(job) = sources.job(claims.job_id).await? else { return Ok(Self::Unknown) };
        if (job.project_id, job.user_id) != (claims.project_id, claims.user_id) {
            return Ok(Self::Unknown);
        }
        if job.status != JobStatus::Running {
            return Ok(Self::NotRunning);
        }
        let access = sources.access(&job.project_id.to_string(), job.user_id, context).await?;
        let Some(access) = access else { return Ok(Self::ProjectDeleted) };
        if !access.user_exists {
            return Ok(Self::UserDeleted);
        }
        let Target { id, full_path, .. } = Target::try_from(&access)?;
        let origin = Origin { id, full_path, ancestors: access.ancestor_group_ids };
        Ok(Self::Running(Arc::new(Runner { origin, username: access.username })))
    }

    /// The job, if its token is good.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_INVALID`, `JOB_NOT_RUNNING`, `JOB_PROJECT_DELETED` or `JOB_USER_DELETED`.
    pub fn runner(&self, claims: &Claims) -> Result<&Arc<Runner>, Refusal> {
        let (reason, why) = match self {
            Self::Running(runner) => return Ok(runner),
            Self::Unknown => (Reason::JobTokenInvalid, "does not exist as the token says"),
            Self::NotRunning => (Reason::JobNotRunning, "does not run"),
            Self::ProjectDeleted => (Reason::JobProjectDeleted, "has lost its project"),
            Self::UserDeleted => (Reason::JobUserDeleted, "has lost its user"),
        };
        let detail = format!("job {} of project {} {why}", claims.job_id, claims.project_id);
        Err(Refusal::new(reason).with_detail(detail))
    }
}

fn refusal(claims: &Claims, denied: &Denied, origin: &Origin, target: &Target) -> Refusal {
    let detail = format!("job {} of project {} reaches for project {}", claims.job_id, origin.id, target.id);
    denied.refusal(origin, target).with_detail(detail)
}

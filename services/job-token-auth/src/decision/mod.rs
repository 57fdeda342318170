//! Decides whether a job token may reach a project.
//!
//! One decision depends on the job, its project, the project that it reaches, and that project's scope. These are fetched and
//! cached together, for at most the configured lag. So a decision was right at some instant within the lag; values of different
//! ages could add up to a decision that was never right. Changes that this process makes apply at once.

mod cache;
mod job_state;
#[cfg(test)]
mod model;
mod sources;
mod upstream_identity;

use std::{future::Future, sync::Arc};

use chassis::{
    access::CallContext,
    client_id::{ClientId, ResolvedClient},
    clock::Clock,
    status::Refusal,
};
use proto::paddock::{contract::v1::Reason, job_token::v1::JobTokenPolicy};

use self::{cache::CoalescingCache, sources::Sources};
use crate::{
    allowlist::rules::{self, Allowed, Denied, Origin, Scope, Target},
    config::Config,
    error::{Error, Result},
    job_token::{
        keys::SigningKeys,
        token::{Claims, JobToken},
    },
};

pub use self::{
    job_state::{JobState, RunningJob},
    sources::LiveSources,
    upstream_identity::UpstreamIdentity,
};

/// The maximum length of a full path, in bytes; see the limit of runner-registry.
const MAX_PATH_LENGTH: usize = 255;

/// Makes decisions from its sources, with caches before them.
pub struct Decider<S> {
    sources: Arc<S>,
    keys: SigningKeys,
    clock: Clock,
    /// By the digest of the token.
    claims: CoalescingCache<[u8; 32], Arc<Claims>>,
    accesses: CoalescingCache<AccessKey, Arc<AccessState>>,
}

/// The key of an access. It has everything that the token says of the job, since a restored database gives ids again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AccessKey {
    job_id: i64,
    project_id: i64,
    user_id: i64,
    /// The project that the job reaches, as the request names it.
    target: String,
}

/// The state of a job and of the project that it reaches.
#[derive(Debug)]
struct AccessState {
    job: JobState,
    /// None: the job does not run, or the project does not exist.
    target: Option<(Arc<Target>, Scope)>,
}

/// A job that may reach a project.
#[derive(Debug)]
pub struct GrantedAccess {
    /// The job.
    pub job: Arc<RunningJob>,
    /// The project.
    pub target: Arc<Target>,
    /// Why the job may reach the project.
    pub allowed: Allowed,
}

impl<S: Sources + 'static> Decider<S> {
    /// Creates a decider with empty caches.
    pub fn new(sources: S, keys: SigningKeys, clock: Clock, config: &Config) -> Self {
        Self {
            sources: Arc::new(sources),
            keys,
            claims: CoalescingCache::new(clock.clone(), config.max_lag()),
            accesses: CoalescingCache::new(clock.clone(), config.max_lag()),
            clock,
        }
    }

    /// Returns the claims of a token that was issued here and is valid now. `client` gets the name of the job, also when the token
    /// is not valid now.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_MALFORMED`, `JOB_TOKEN_INVALID` or `JOB_TOKEN_EXPIRED`.
    pub async fn claims(&self, token: JobToken, client: &ResolvedClient) -> Result<Arc<Claims>> {
        let digest = <[u8; 32]>::try_from(token.digest().as_ref()).map_err(Error::internal)?;
        let claims = self.claims.get(digest, digest, || {
            let keys = self.keys.clone();
            async move { Ok(Arc::new(token.verify(&keys)?)) }
        });
        let claims = claims.await?;
        client.set(ClientId::new("job", claims.job_id));
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
    ) -> Result<GrantedAccess> {
        let project = if project.len() <= MAX_PATH_LENGTH { project } else { "" };
        let key = AccessKey {
            job_id: claims.job_id,
            project_id: claims.project_id,
            user_id: claims.user_id,
            target: project.to_owned(),
        };
        let access = self.accesses.get(claims.job_id, key, || self.read_access(claims, project, context)).await?;
        let job = access.job.running(claims)?;
        let (target, scope) = access.target.as_ref().ok_or_else(|| target_not_found(claims))?;
        match rules::decide(&job.origin, target, scope, policies) {
            Ok(allowed) => Ok(GrantedAccess { job: job.clone(), target: target.clone(), allowed }),
            Err(denied) => Err(access_refused(claims, &denied, &job.origin, target).into()),
        }
    }

    /// Reads the state of an access. The future owns what it needs, since several callers can wait for it.
    fn read_access(
        &self,
        claims: &Claims,
        project: &str,
        context: &CallContext,
    ) -> impl Future<Output = Result<Arc<AccessState>>> + Send + use<S> {
        let sources = Arc::clone(&self.sources);
        let claims = claims.clone();
        let project = project.to_owned();
        let context = context.clone();
        async move { Ok(Arc::new(AccessState::read(&*sources, &claims, &project, &context).await?)) }
    }

    /// Reads the state of the job of a token, past the cache.
    ///
    /// # Errors
    /// A fault.
    pub async fn job_state(&self, claims: &Claims, context: &CallContext) -> Result<JobState> {
        JobState::read(&*self.sources, claims, context).await
    }

    /// Call this after this process has changed a job.
    pub fn job_changed(&self, id: i64) {
        self.accesses.invalidate(id);
    }

    /// Call this after this process has changed a scope or an allowlist. That is rare, so the whole cache becomes stale.
    pub fn scope_changed(&self) {
        self.accesses.invalidate_all();
    }
}

impl AccessState {
    /// An empty `project` does not exist.
    async fn read(sources: &impl Sources, claims: &Claims, project: &str, context: &CallContext) -> Result<Self> {
        let state = JobState::read(sources, claims, context).await?;
        let JobState::Running(job) = &state else { return Ok(Self { job: state, target: None }) };
        let access = match project {
            "" => None,
            _ => sources.project_access(project, claims.user_id, context).await?,
        };
        let Some(access) = access else { return Ok(Self { job: state, target: None }) };
        let target = Target::try_from(&access)?;
        let is_own_project = target.id == job.origin.id;
        let scope = if is_own_project { Scope::closed() } else { sources.scope(target.id, &job.origin).await? };
        Ok(Self { job: state, target: Some((Arc::new(target), scope)) })
    }
}

fn target_not_found(claims: &Claims) -> Refusal {
    let detail =
        format!("job {} of project {} reaches for a project that does not exist", claims.job_id, claims.project_id);
    Refusal::new(Reason::ProjectNotFound).with_detail(detail)
}

fn access_refused(claims: &Claims, denied: &Denied, origin: &Origin, target: &Target) -> Refusal {
    let detail = format!("job {} of project {} reaches for project {}", claims.job_id, origin.id, target.id);
    denied.refusal(origin, target).with_detail(detail)
}

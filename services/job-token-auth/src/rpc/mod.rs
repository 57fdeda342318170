//! The services of the contract: complete? → convert → rules and store → convert back.

use std::sync::Arc;

use chassis::{
    access::{self, CallContext, User},
    clock::Clock,
};
use proto::{
    paddock::{contract::v1::Reason, directory::v1::GetProjectAccessResponse},
    role::Role,
};
use sea_orm::DatabaseConnection;
use tonic::{Request, Status};

use chassis::status::Refusal;

use crate::{
    Deps,
    capture::Captures,
    directory::Directory,
    error::Result,
    facts::{Facts, Live},
    keys::SigningKeys,
    store::known_projects::KnownProjects,
};

pub mod authorization;
pub mod jobs;
pub mod log;
pub mod scope;

/// What every handler stands on.
#[derive(Clone)]
pub struct State {
    /// Where jobs, allowlists and the log are.
    pub database: DatabaseConnection,
    /// What signs job tokens and the identities for upstreams.
    pub signing: SigningKeys,
    /// What runner-registry knows, always fresh.
    pub directory: Directory,
    /// What decisions rest on. Whoever changes a job, a scope or an allowlist tells it.
    pub facts: Arc<Facts<Live>>,
    /// The paths of projects, for lists that name them after their end.
    pub known: KnownProjects,
    /// The captures.
    pub captures: Captures,
    /// Tells the time.
    pub clock: Clock,
}

impl State {
    /// What handlers need of what the service stands on.
    pub fn new(deps: Deps, captures: Captures) -> Self {
        let Deps { config, database, signing, clock, .. } = deps;
        let directory = Directory::new(deps.registry);
        let live = Live { database: database.clone(), directory: directory.clone() };
        let facts = Facts::new(live, signing.clone(), clock.clone(), &config);
        Self {
            signing,
            directory,
            facts: Arc::new(facts),
            known: KnownProjects::new(database.clone(), clock.clone()),
            captures,
            database,
            clock,
        }
    }

    /// The project that an id or a full path means, for a user who administers it.
    ///
    /// # Errors
    /// A refusal with `PROJECT_NOT_FOUND` for a project that the user does not see, or with `ACCESS_DENIED`.
    pub async fn administered(
        &self,
        project: &str,
        user: &User,
        context: &CallContext,
    ) -> Result<GetProjectAccessResponse> {
        let access = self.directory.project(project, Some(user.id), context).await?;
        if user.admin || access.access_level.is_some_and(|role| role >= Role::Maintainer.number()) {
            return Ok(access);
        }
        let private = proto::paddock::directory::v1::Visibility::Private;
        let is_hidden = access.access_level.is_none()
            && access.project.as_ref().is_none_or(|project| project.visibility() == private);
        let reason = if is_hidden { Reason::ProjectNotFound } else { Reason::AccessDenied };
        Err(Refusal::new(reason).into())
    }
}

/// The calling user, the context of the call, and the message.
///
/// # Errors
/// A fault for a caller that the access table keeps away.
pub fn by_user<T>(request: Request<T>) -> Result<(User, CallContext, T), Status> {
    let context = access::context(&request)?.clone();
    let user = context.user()?.clone();
    Ok((user, context, request.into_inner()))
}

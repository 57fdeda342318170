//! What all handlers share.

use std::sync::Arc;

use chassis::{
    access::{self, CallContext, User},
    clock::Clock,
    status::Refusal,
};
use proto::{
    paddock::{
        contract::v1::Reason,
        directory::v1::{GetProjectAccessResponse, Project, Visibility},
    },
    role::Role,
};
use sea_orm::DatabaseConnection;
use tonic::{Request, Status};

use crate::{
    capture::Captures,
    decision::{Decider, LiveSources},
    deps::Deps,
    directory::Directory,
    error::{Error, Result},
    export::jsonl::LineWriters,
    job_token::keys::SigningKeys,
    store::known_projects::KnownProjects,
};

/// What all handlers share. Clones share it.
#[derive(Clone)]
pub struct State {
    /// The database with jobs, allowlists and the log.
    pub database: DatabaseConnection,
    /// The keys that sign job tokens and the identities for upstreams.
    pub signing: SigningKeys,
    /// The look-ups in runner-registry, without a cache.
    pub directory: Directory,
    /// Decides on accesses. A handler that changes a job, a scope or an allowlist must notify it.
    pub decider: Arc<Decider<LiveSources>>,
    /// The paths of projects, for lists that name deleted projects.
    pub known_projects: KnownProjects,
    /// The writers of JSON Lines.
    pub line_writers: Arc<LineWriters>,
    /// The captures.
    pub captures: Captures,
    /// The clock.
    pub clock: Clock,
}

/// A call by a user.
pub struct UserCall {
    /// The user.
    pub user: User,
    /// The context of the call.
    pub context: CallContext,
}

impl UserCall {
    /// Splits a request of a user into the call and its message.
    ///
    /// # Errors
    /// A fault for a caller that the access table does not accept.
    pub fn read<T>(request: Request<T>) -> Result<(Self, T), Status> {
        let context = access::context(&request)?.clone();
        let user = context.user()?.clone();
        Ok((Self { user, context }, request.into_inner()))
    }
}

impl State {
    /// Makes the state from the dependencies of the service.
    ///
    /// # Errors
    /// A fault if the contract has a field that JSON cannot show.
    pub fn new(deps: Deps, captures: Captures) -> Result<Self> {
        let line_writers = LineWriters::new().map_err(Error::internal)?;
        let directory = Directory::new(deps.registry);
        let sources = LiveSources { database: deps.database.clone(), directory: directory.clone() };
        let decider = Decider::new(sources, deps.signing.clone(), deps.clock.clone(), &deps.config);
        Ok(Self {
            signing: deps.signing,
            directory,
            decider: Arc::new(decider),
            known_projects: KnownProjects::new(deps.database.clone(), deps.clock.clone()),
            line_writers: Arc::new(line_writers),
            captures,
            database: deps.database,
            clock: deps.clock,
        })
    }

    /// Returns the project with an id or a full path, for a user who administers it.
    ///
    /// # Errors
    /// A refusal with `PROJECT_NOT_FOUND` for a project that the user does not see, or with `ACCESS_DENIED`.
    pub async fn administered_access(&self, project: &str, call: &UserCall) -> Result<GetProjectAccessResponse> {
        let access = self.directory.project(project, Some(call.user.id), &call.context).await?;
        if call.user.admin || access.access_level.is_some_and(|role| role >= Role::Maintainer.number()) {
            return Ok(access);
        }
        let is_hidden = access.access_level.is_none()
            && access.project.as_ref().is_none_or(|project| project.visibility() == Visibility::Private);
        let reason = if is_hidden { Reason::ProjectNotFound } else { Reason::AccessDenied };
        Err(Refusal::new(reason).into())
    }

    /// As [`Self::administered_access`], without the access of the user.
    ///
    /// # Errors
    /// As [`Self::administered_access`].
    pub async fn administered_project(&self, project: &str, call: &UserCall) -> Result<Project> {
        let project = self.administered_access(project, call).await?.project;
        project.ok_or_else(|| Error::internal("an answer on a project is without the project"))
    }
}

//! The calls of a step, made through real clients.

use std::collections::BTreeMap;

use chassis::status::Rejection;
use proto::paddock::{
    directory::v1::{DeleteProjectRequest, Group, Project, Settings},
    runner::v1::{
        AssignRunnerRequest, CreateRunnerResponse, DeleteRunnerRequest, RegisterRunnerRequest, RequestJobRequest,
        ResetAuthenticationTokenRequest, ResetRunnerAuthenticationTokenRequest, UnregisterRunnerManagerRequest,
        UnregisterRunnerRequest, VerifyRunnerRequest,
    },
};
use tonic::{Response, Status};

use super::{
    super::{after, instance, of_project, seconds},
    oracle::{Call, Generation, Method},
    steps::NewRunner,
};
use crate::support::{Actor, Answer as _, Registry};

/// A token as a response has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Returned {
    pub text: String,
    pub expires_at: Option<i64>,
}

/// The token that a call returned, if it returns one, or the reason of its refusal.
pub type Answer = Result<Option<Returned>, &'static str>;

/// The clients of one life of the service, and the runner that they call for.
pub struct Callers {
    pub runner_id: i64,
    pub group: Group,
    pub texts: BTreeMap<Generation, String>,
    bearer: Actor,
    root: Actor,
}

impl Callers {
    pub async fn new(registry: &Registry) -> Self {
        let group = registry.group("model", None).await;
        let texts = BTreeMap::new();
        Self { runner_id: 0, group, texts, bearer: registry.runner(), root: registry.root() }
    }

    /// Connects to a service that was started again.
    pub fn reconnect(&mut self, registry: &Registry) {
        self.bearer = registry.runner();
        self.root = registry.root();
    }

    pub async fn make(&self, call: &Call) -> Answer {
        let mut tokens = self.bearer.runner_tokens();
        let id = self.runner_id;
        match *call {
            Call::Poll { manager, token, method } => self.poll(manager, token, method).await,
            Call::Rotate { token } => {
                let request = ResetAuthenticationTokenRequest { token: self.texts[&token].clone() };
                let response = returned(tokens.reset_authentication_token(request).await)?;
                Ok(Some(Returned { text: response.token, expires_at: seconds(response.token_expires_at) }))
            }
            Call::Leave { manager, token } => {
                let token = self.texts[&token].clone();
                let request = UnregisterRunnerManagerRequest { token, system_id: manager.to_owned() };
                returned(tokens.unregister_runner_manager(request).await).map(|_| None)
            }
            Call::Delete { token } => {
                let request = UnregisterRunnerRequest { token: self.texts[&token].clone() };
                returned(tokens.unregister_runner(request).await).map(|_| None)
            }
            Call::ResetById => {
                let request = ResetRunnerAuthenticationTokenRequest { id };
                let response = returned(self.root.runners().reset_runner_authentication_token(request).await)?;
                Ok(Some(Returned { text: response.token, expires_at: seconds(response.token_expires_at) }))
            }
            Call::DeleteById => {
                returned(self.root.runners().delete_runner(DeleteRunnerRequest { id }).await).map(|_| None)
            }
        }
    }

    async fn poll(&self, manager: Option<&str>, token: Generation, method: Method) -> Answer {
        let mut tokens = self.bearer.runner_tokens();
        let system_id = manager.map(str::to_owned);
        let token = self.texts[&token].clone();
        match method {
            Method::Register => {
                let request = RegisterRunnerRequest { token, system_id, ..Default::default() };
                returned(tokens.register_runner(request).await).map(|_| None)
            }
            Method::RequestJob => {
                let request = RequestJobRequest { token, system_id, ..Default::default() };
                returned(tokens.request_job(request).await).map(|_| None)
            }
            Method::Verify => {
                let request = VerifyRunnerRequest { token, system_id, ..Default::default() };
                returned(tokens.verify_runner(request).await).map(|_| None)
            }
        }
    }

    /// Creates a runner, for a project if there is one, and calls for it from now on.
    pub async fn create(&mut self, new: NewRunner, project: Option<&Project>) -> CreateRunnerResponse {
        let mut request = project.map_or_else(instance, of_project);
        request.token_expires_at = new.expires_at.map(after);
        request.token_rotation_deadline = new.deadline.map(after);
        let created = self.root.runners().create_runner(request).await.answer();
        self.runner_id = created.id;
        created
    }

    pub async fn assign(&self, project: &Project) {
        let request = AssignRunnerRequest { id: project.id.to_string(), runner_id: self.runner_id };
        self.root.runners().assign_runner(request).await.answer();
    }

    pub async fn delete_project(&self, project: &Project) {
        let request = DeleteProjectRequest { id: project.id.to_string() };
        self.root.projects().delete_project(request).await.answer();
    }
}

/// Sets how long every new token lives.
pub async fn set_life(registry: &Registry, life: Option<i64>) {
    let settings = Settings {
        runner_token_expiration_interval: life,
        project_runner_token_expiration_interval: life,
        ..Default::default()
    };
    registry.set_intervals(settings).await;
}

fn returned<T>(answer: Result<Response<T>, Status>) -> Result<T, &'static str> {
    match answer {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => match Rejection::from(status) {
            Rejection::Refusal(refusal) => Err(refusal.spec().code),
            Rejection::Fault(fault) => Err(fault.spec().code),
        },
    }
}

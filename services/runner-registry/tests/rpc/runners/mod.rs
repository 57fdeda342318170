//! Runners and their tokens. The helpers create runners as root, and call as the holder of a token.

use proto::paddock::{
    directory::v1::{Group, Project, Settings, UpdateSettingsRequest},
    runner::v1::{
        CreateRunnerRequest, CreateRunnerResponse, GetRunnerRequest, RequestJobRequest, RequestJobResponse,
        ResetAuthenticationTokenRequest, ResetAuthenticationTokenResponse, RunnerDetails, RunnerType,
        VerifyRunnerRequest, VerifyRunnerResponse,
    },
};
use time::{Duration, OffsetDateTime};
use tonic::{Response, Status};

use crate::support::{Actor, Answer as _, Registry, START};

mod assignment;
mod creation;
mod events;
mod expiry_and_deadline;
mod fleet_cases;
mod lists;
mod managers;
mod model;
mod owners;
mod permissions;
mod races;
mod removal;
mod reset_by_id;
mod rotation;
mod spread;
mod unassigned;
mod update;

fn instance() -> CreateRunnerRequest {
    CreateRunnerRequest { runner_type: RunnerType::InstanceType.into(), ..Default::default() }
}

fn of_group(group: &Group) -> CreateRunnerRequest {
    let runner_type = RunnerType::GroupType.into();
    CreateRunnerRequest { runner_type, group_id: Some(group.id), ..Default::default() }
}

fn of_project(project: &Project) -> CreateRunnerRequest {
    let runner_type = RunnerType::ProjectType.into();
    CreateRunnerRequest { runner_type, project_id: Some(project.id), ..Default::default() }
}

/// The time that is this many seconds after [`START`], as a client writes it.
fn after(seconds: i64) -> String {
    let time = START + Duration::seconds(seconds);
    let (hour, minute, second) = time.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date())
}

/// The seconds between [`START`] and a time in a response.
fn seconds(time: Option<prost_types::Timestamp>) -> Option<i64> {
    time.map(|time| time.seconds - START.unix_timestamp())
}

impl Registry {
    async fn create(&self, request: CreateRunnerRequest) -> CreateRunnerResponse {
        self.root().runners().create_runner(request).await.answer()
    }

    async fn verify(&self, token: &str) -> Result<Response<VerifyRunnerResponse>, Status> {
        let request = VerifyRunnerRequest { token: token.to_owned(), ..Default::default() };
        self.runner().runner_tokens().verify_runner(request).await
    }

    async fn rotate(&self, token: &str) -> Result<Response<ResetAuthenticationTokenResponse>, Status> {
        let request = ResetAuthenticationTokenRequest { token: token.to_owned() };
        self.runner().runner_tokens().reset_authentication_token(request).await
    }

    async fn request_job(&self, token: &str) -> Result<Response<RequestJobResponse>, Status> {
        let request = RequestJobRequest { token: token.to_owned(), ..Default::default() };
        self.runner().runner_tokens().request_job(request).await
    }

    async fn details(&self, id: i64) -> RunnerDetails {
        details(&self.root(), id).await
    }

    /// Sets the three intervals of the instance.
    async fn set_intervals(&self, settings: Settings) {
        let request = UpdateSettingsRequest {
            runner_token_expiration_interval: settings.runner_token_expiration_interval,
            group_runner_token_expiration_interval: settings.group_runner_token_expiration_interval,
            project_runner_token_expiration_interval: settings.project_runner_token_expiration_interval,
            update_mask: Some(prost_types::FieldMask {
                paths: ["runner", "group_runner", "project_runner"]
                    .map(|kind| format!("{kind}_token_expiration_interval"))
                    .to_vec(),
            }),
        };
        self.root().instance().update_settings(request).await.answer();
    }

    /// Sets the clock to this many seconds after [`START`].
    fn set_clock(&self, seconds: i64) {
        self.clock.set(at(seconds));
    }
}

fn at(seconds: i64) -> OffsetDateTime {
    START + Duration::seconds(seconds)
}

async fn details(actor: &Actor, id: i64) -> RunnerDetails {
    let request = GetRunnerRequest { id, include_projects: None };
    actor.runners().get_runner(request).await.answer().runner.unwrap()
}

//! Settings and version of the instance.

use proto::paddock::directory::v1::{
    GetMetadataRequest, GetMetadataResponse, GetSettingsRequest, GetSettingsResponse, GetVersionRequest,
    GetVersionResponse, Kas, Settings, UpdateSettingsRequest, UpdateSettingsResponse,
    instance_service_server::InstanceService,
};
use tonic::{Request, Response, Status};

use super::{State, by_user, convert::changed_interval, mask::Mask};
use crate::{
    entity::application_settings::Model,
    error::{FieldErrors, Result},
    store::settings::{self, Changes},
};

/// The GitLab release whose runner API this instance serves. Clients derive from it which features they can use.
const GITLAB_VERSION: &str = "18.10.0";

/// The value of the field in which GitLab names its commit.
const REVISION: &str = concat!("paddock-", env!("CARGO_PKG_VERSION"));

/// The service.
pub struct Instance(pub State);

#[tonic::async_trait]
impl InstanceService for Instance {
    async fn get_settings(&self, _: Request<GetSettingsRequest>) -> Result<Response<GetSettingsResponse>, Status> {
        let row = settings::get(&self.0.database).await?;
        Ok(Response::new(GetSettingsResponse { settings: Some(settings_message(row)) }))
    }

    async fn update_settings(
        &self,
        request: Request<UpdateSettingsRequest>,
    ) -> Result<Response<UpdateSettingsResponse>, Status> {
        let (_, request) = by_user(request)?;
        let row = settings::update(&self.0.database, settings_changes(request)?).await?;
        Ok(Response::new(UpdateSettingsResponse { settings: Some(settings_message(row)) }))
    }

    async fn get_version(&self, _: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(GetVersionResponse { version: GITLAB_VERSION.to_owned(), revision: REVISION.to_owned() }))
    }

    async fn get_metadata(&self, _: Request<GetMetadataRequest>) -> Result<Response<GetMetadataResponse>, Status> {
        Ok(Response::new(GetMetadataResponse {
            version: GITLAB_VERSION.to_owned(),
            revision: REVISION.to_owned(),
            kas: Some(Kas { enabled: false }),
            enterprise: false,
        }))
    }
}

fn settings_changes(request: UpdateSettingsRequest) -> Result<Changes> {
    let mut errors = FieldErrors::default();
    let mask = Mask::new(request.update_mask);
    let changes = Changes {
        runner_token_expiration_interval: changed_interval(
            &mut errors,
            &mask,
            "runner_token_expiration_interval",
            request.runner_token_expiration_interval,
        ),
        group_runner_token_expiration_interval: changed_interval(
            &mut errors,
            &mask,
            "group_runner_token_expiration_interval",
            request.group_runner_token_expiration_interval,
        ),
        project_runner_token_expiration_interval: changed_interval(
            &mut errors,
            &mask,
            "project_runner_token_expiration_interval",
            request.project_runner_token_expiration_interval,
        ),
    };
    errors.check()?;
    Ok(changes)
}

fn settings_message(row: Model) -> Settings {
    Settings {
        runner_token_expiration_interval: row.runner_token_expiration_interval,
        group_runner_token_expiration_interval: row.group_runner_token_expiration_interval,
        project_runner_token_expiration_interval: row.project_runner_token_expiration_interval,
    }
}

//! The calls of runner programs. Each authenticates with the runner token in its message.

use chassis::{access, client_id::ResolvedClient};
use proto::{
    paddock::runner::v1::{self as message, runner_token_service_server::RunnerTokenService},
    timestamp,
};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use self::{
    authenticate::{Authenticated, Purpose},
    contact::{Contact, Origin},
};
use crate::{
    entity::runner,
    error::{Error, Result},
    rpc::State,
    store,
};

mod authenticate;
mod contact;
mod heartbeat;
mod rotate;

pub use rotate::describe_metrics;

/// The HTTP status of a response without a job.
const NO_JOB: i32 = 204;

/// Serves `RunnerTokenService`.
#[derive(Clone)]
pub struct RunnerTokens(pub State);

impl RunnerTokens {
    /// Authenticates a token and records the contact.
    async fn record_contact(
        &self,
        token: &str,
        system_id: Option<String>,
        info: Option<message::RunnerInfo>,
        origin: Origin,
    ) -> Result<Authenticated> {
        let contact = Contact::new(system_id, info, origin)?;
        let authenticated = authenticate::authenticate(&self.0, token, &contact, Purpose::ManagerCall).await?;
        heartbeat::record(&self.0, &authenticated, &contact).await;
        Ok(authenticated)
    }
}

#[tonic::async_trait]
impl RunnerTokenService for RunnerTokens {
    async fn register_runner(
        &self,
        request: Request<message::RegisterRunnerRequest>,
    ) -> Result<Response<message::RegisterRunnerResponse>, Status> {
        let (origin, request) = split_request(request)?;
        authenticate::refuse_registration_token(&request.token)?;
        let authenticated = self.record_contact(&request.token, request.system_id, request.info, origin).await?;
        Ok(Response::new(message::RegisterRunnerResponse {
            id: authenticated.runner.id,
            token: request.token,
            token_expires_at: authenticated.token.expires_at.map(timestamp::from_millis),
        }))
    }

    async fn verify_runner(
        &self,
        request: Request<message::VerifyRunnerRequest>,
    ) -> Result<Response<message::VerifyRunnerResponse>, Status> {
        let (origin, request) = split_request(request)?;
        let authenticated = self.record_contact(&request.token, request.system_id, request.info, origin).await?;
        Ok(Response::new(message::VerifyRunnerResponse {
            id: authenticated.runner.id,
            token: request.token,
            token_expires_at: authenticated.token.expires_at.map(timestamp::from_millis),
        }))
    }

    async fn reset_authentication_token(
        &self,
        request: Request<message::ResetAuthenticationTokenRequest>,
    ) -> Result<Response<message::ResetAuthenticationTokenResponse>, Status> {
        let (origin, request) = split_request(request)?;
        let contact = Contact::of_no_manager(origin);
        let rotated = rotate::rotate(&self.0, &request.token, &contact).await?;
        Ok(Response::new(message::ResetAuthenticationTokenResponse {
            token: rotated.text.expose().to_owned(),
            token_expires_at: rotated.expires_at.map(timestamp::from_time),
        }))
    }

    async fn unregister_runner(
        &self,
        request: Request<message::UnregisterRunnerRequest>,
    ) -> Result<Response<message::UnregisterRunnerResponse>, Status> {
        let (origin, request) = split_request(request)?;
        let contact = Contact::of_no_manager(origin);
        let purpose = Purpose::RunnerUnregistration;
        let authenticated = authenticate::authenticate(&self.0, &request.token, &contact, purpose).await?;
        store::runners::delete(&self.0.database, authenticated.runner.id, authenticated.now).await?;
        Ok(Response::new(message::UnregisterRunnerResponse {}))
    }

    async fn unregister_runner_manager(
        &self,
        request: Request<message::UnregisterRunnerManagerRequest>,
    ) -> Result<Response<message::UnregisterRunnerManagerResponse>, Status> {
        let (origin, request) = split_request(request)?;
        if request.system_id.is_empty() {
            return Err(Error::ParameterMissing(vec!["system_id"]).into());
        }
        let contact = Contact::new(Some(request.system_id), None, origin)?;
        let authenticated =
            authenticate::authenticate(&self.0, &request.token, &contact, Purpose::ManagerUnregistration).await?;
        store::managers::delete(&self.0.database, authenticated.runner.id, &contact.system_id).await?;
        Ok(Response::new(message::UnregisterRunnerManagerResponse {}))
    }

    async fn request_job(
        &self,
        request: Request<message::RequestJobRequest>,
    ) -> Result<Response<message::RequestJobResponse>, Status> {
        let (origin, request) = split_request(request)?;
        let authenticated = self.record_contact(&request.token, request.system_id, request.info, origin).await?;
        let last_update = queue_value(&authenticated.runner);
        Ok(Response::new(message::RequestJobResponse { status: NO_JOB, last_update }))
    }
}

/// Returns where the call comes from, and the message.
fn split_request<T>(request: Request<T>) -> Result<(Origin, T), Status> {
    let context = access::context(&request)?;
    let address = context.peer_address;
    let user_agent = context.user_agent.clone();
    let client = ResolvedClient::of(&request)?;
    Ok((Origin { address, user_agent, client }, request.into_inner()))
}

/// Returns the queue value of a runner. Every process returns the same value; it changes with each field that decides
/// which jobs the runner takes.
fn queue_value(runner: &runner::Model) -> String {
    let decides = (
        runner.id,
        runner.created_at,
        runner.paused,
        runner.locked,
        runner.access_level,
        runner.run_untagged,
        runner.maximum_timeout,
        &runner.tag_list,
    );
    hex::encode(&Sha256::digest(format!("{decides:?}"))[..16])
}

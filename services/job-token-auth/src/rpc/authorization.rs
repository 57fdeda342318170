//! The decision on an access, and the verdict on it.

use proto::paddock::job_token::v1::{
    AuthorizeRequest, AuthorizeResponse, DiscardRequest, DiscardResponse, FlushRequest, FlushResponse,
    authorization_service_server::AuthorizationService,
};
use tonic::{Request, Response, Status};

use super::State;

/// The service.
pub struct Authorization(pub State);

#[tonic::async_trait]
impl AuthorizationService for Authorization {
    async fn authorize(&self, _request: Request<AuthorizeRequest>) -> Result<Response<AuthorizeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn flush(&self, _request: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn discard(&self, _request: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

//! The authentication log.

use proto::paddock::job_token::v1::{
    AutopopulateAllowlistRequest, AutopopulateAllowlistResponse, ExportAuthenticationLogCsvRequest,
    ExportAuthenticationLogCsvResponse, ExportAuthenticationLogJsonLinesRequest,
    ExportAuthenticationLogJsonLinesResponse, ListAccessEventsRequest, ListAccessEventsResponse,
    ListAuthenticationLogRequest, ListAuthenticationLogResponse, RehearseAllowlistRequest, RehearseAllowlistResponse,
    authentication_log_service_server::AuthenticationLogService,
};
use tonic::{Request, Response, Status};

use super::State;

/// The service.
pub struct AuthenticationLog(pub State);

#[tonic::async_trait]
impl AuthenticationLogService for AuthenticationLog {
    async fn list_authentication_log(
        &self,
        _request: Request<ListAuthenticationLogRequest>,
    ) -> Result<Response<ListAuthenticationLogResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_access_events(
        &self,
        _request: Request<ListAccessEventsRequest>,
    ) -> Result<Response<ListAccessEventsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn export_authentication_log_csv(
        &self,
        _request: Request<ExportAuthenticationLogCsvRequest>,
    ) -> Result<Response<ExportAuthenticationLogCsvResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn export_authentication_log_json_lines(
        &self,
        _request: Request<ExportAuthenticationLogJsonLinesRequest>,
    ) -> Result<Response<ExportAuthenticationLogJsonLinesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn rehearse_allowlist(
        &self,
        _request: Request<RehearseAllowlistRequest>,
    ) -> Result<Response<RehearseAllowlistResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn autopopulate_allowlist(
        &self,
        _request: Request<AutopopulateAllowlistRequest>,
    ) -> Result<Response<AutopopulateAllowlistResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

//! Jobs and their tokens.

use proto::paddock::job_token::v1::{
    FinishJobRequest, FinishJobResponse, GetCurrentJobRequest, GetCurrentJobResponse, IssueJobTokenRequest,
    IssueJobTokenResponse, ListJobsRequest, ListJobsResponse, ListSigningKeysRequest, ListSigningKeysResponse,
    StartJobRequest, StartJobResponse, job_service_server::JobService,
};
use tonic::{Request, Response, Status};

use super::State;

/// The service.
pub struct Jobs(pub State);

#[tonic::async_trait]
impl JobService for Jobs {
    async fn issue_job_token(
        &self,
        _request: Request<IssueJobTokenRequest>,
    ) -> Result<Response<IssueJobTokenResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn start_job(&self, _request: Request<StartJobRequest>) -> Result<Response<StartJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn finish_job(&self, _request: Request<FinishJobRequest>) -> Result<Response<FinishJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_jobs(&self, _request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_current_job(
        &self,
        _request: Request<GetCurrentJobRequest>,
    ) -> Result<Response<GetCurrentJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_signing_keys(
        &self,
        _request: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

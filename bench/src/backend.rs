//! A backend that answers at once with the same message, so that what is measured is what stands in front of it.

use std::net::SocketAddr;

use proto::contract::DIGEST;
use proto::paddock::contract::v1::{
    GetContractRequest, GetContractResponse,
    contract_service_server::{ContractService, ContractServiceServer},
};
use proto::paddock::runner::v1::{
    RegisterRunnerRequest, RegisterRunnerResponse, RequestJobRequest, RequestJobResponse,
    ResetAuthenticationTokenRequest, ResetAuthenticationTokenResponse, UnregisterRunnerManagerRequest,
    UnregisterRunnerManagerResponse, UnregisterRunnerRequest, UnregisterRunnerResponse, VerifyRunnerRequest,
    VerifyRunnerResponse,
    runner_token_service_server::{RunnerTokenService, RunnerTokenServiceServer},
};
use tonic::{Request, Response, Status, transport::Server};

pub async fn serve(address: SocketAddr) {
    Server::builder()
        .tcp_nodelay(true)
        .add_service(RunnerTokenServiceServer::new(Constant))
        .add_service(ContractServiceServer::new(Constant))
        .serve(address)
        .await
        .expect("the backend serves");
}

struct Constant;

#[tonic::async_trait]
impl ContractService for Constant {
    async fn get_contract(&self, _: Request<GetContractRequest>) -> Result<Response<GetContractResponse>, Status> {
        let contract = GetContractResponse { digest: DIGEST.into(), ..Default::default() };
        Ok(Response::new(contract))
    }
}

#[tonic::async_trait]
impl RunnerTokenService for Constant {
    async fn verify_runner(
        &self,
        request: Request<VerifyRunnerRequest>,
    ) -> Result<Response<VerifyRunnerResponse>, Status> {
        let token = request.into_inner().token;
        let token_expires_at = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
        Ok(Response::new(VerifyRunnerResponse { id: 42, token, token_expires_at }))
    }

    async fn register_runner(
        &self,
        _: Request<RegisterRunnerRequest>,
    ) -> Result<Response<RegisterRunnerResponse>, Status> {
        Err(not_measured())
    }

    async fn reset_authentication_token(
        &self,
        _: Request<ResetAuthenticationTokenRequest>,
    ) -> Result<Response<ResetAuthenticationTokenResponse>, Status> {
        Err(not_measured())
    }

    async fn unregister_runner(
        &self,
        _: Request<UnregisterRunnerRequest>,
    ) -> Result<Response<UnregisterRunnerResponse>, Status> {
        Err(not_measured())
    }

    async fn unregister_runner_manager(
        &self,
        _: Request<UnregisterRunnerManagerRequest>,
    ) -> Result<Response<UnregisterRunnerManagerResponse>, Status> {
        Err(not_measured())
    }

    async fn request_job(&self, _: Request<RequestJobRequest>) -> Result<Response<RequestJobResponse>, Status> {
        Err(not_measured())
    }
}

fn not_measured() -> Status {
    Status::unimplemented("this method is not measured")
}

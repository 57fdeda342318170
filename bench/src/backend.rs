//! A backend that answers every call at once with the same message, so that its own cost stays small.

use std::net::SocketAddr;

use proto::{
    contract::DIGEST,
    paddock::{
        contract::v1::{
            GetContractRequest, GetContractResponse,
            contract_service_server::{ContractService, ContractServiceServer},
        },
        directory::v1::{
            DescribeGroupsRequest, DescribeGroupsResponse, DescribeProjectsRequest, DescribeProjectsResponse,
            DescribeUsersRequest, DescribeUsersResponse, GetProjectAccessRequest, GetProjectAccessResponse, Project,
            ProjectDescription, UserDescription, Visibility,
            directory_service_server::{DirectoryService, DirectoryServiceServer},
        },
        job_token::v1::{
            AuthorizeRequest, AuthorizeResponse, Capture, DiscardRequest, DiscardResponse, FlushRequest, FlushResponse,
            authorization_service_server::{AuthorizationService, AuthorizationServiceServer},
        },
        runner::v1::{
            RegisterRunnerRequest, RegisterRunnerResponse, RequestJobRequest, RequestJobResponse,
            ResetAuthenticationTokenRequest, ResetAuthenticationTokenResponse, UnregisterRunnerManagerRequest,
            UnregisterRunnerManagerResponse, UnregisterRunnerRequest, UnregisterRunnerResponse, VerifyRunnerRequest,
            VerifyRunnerResponse,
            runner_token_service_server::{RunnerTokenService, RunnerTokenServiceServer},
        },
    },
};
use tonic::{Request, Response, Status, transport::Server};

pub async fn serve(address: SocketAddr) {
    Server::builder()
        .tcp_nodelay(true)
        .add_service(RunnerTokenServiceServer::new(Constant))
        .add_service(ContractServiceServer::new(Constant))
        .add_service(AuthorizationServiceServer::new(Constant))
        .add_service(DirectoryServiceServer::new(Constant))
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

/// Every project exists, and every user is a developer of it.
#[tonic::async_trait]
impl DirectoryService for Constant {
    async fn get_project_access(
        &self,
        request: Request<GetProjectAccessRequest>,
    ) -> Result<Response<GetProjectAccessResponse>, Status> {
        let id = request.into_inner().project.parse().unwrap_or_default();
        Ok(Response::new(GetProjectAccessResponse {
            project: Some(project(id)),
            access_level: Some(30),
            user_exists: true,
            username: "bench".into(),
            ..GetProjectAccessResponse::default()
        }))
    }

    async fn describe_projects(
        &self,
        request: Request<DescribeProjectsRequest>,
    ) -> Result<Response<DescribeProjectsResponse>, Status> {
        let mut projects = Vec::new();
        for id in request.into_inner().ids {
            projects.push(ProjectDescription { project: Some(project(id)), visible: true, ..Default::default() });
        }
        Ok(Response::new(DescribeProjectsResponse { projects }))
    }

    async fn describe_groups(
        &self,
        _: Request<DescribeGroupsRequest>,
    ) -> Result<Response<DescribeGroupsResponse>, Status> {
        Err(not_measured())
    }

    async fn describe_users(
        &self,
        request: Request<DescribeUsersRequest>,
    ) -> Result<Response<DescribeUsersResponse>, Status> {
        let mut users = Vec::new();
        for id in request.into_inner().ids {
            users.push(UserDescription { id, username: "bench".into(), name: "Bench".into(), is_admin: false });
        }
        Ok(Response::new(DescribeUsersResponse { users }))
    }
}

fn project(id: i64) -> Project {
    let path_with_namespace = format!("bench/{id}");
    Project {
        id,
        path: id.to_string(),
        path_with_namespace,
        visibility: Visibility::Private.into(),
        ..Project::default()
    }
}

/// Allows every access, and accepts every capture. An access to project 1, the own project of the job, has no capture.
#[tonic::async_trait]
impl AuthorizationService for Constant {
    async fn authorize(&self, request: Request<AuthorizeRequest>) -> Result<Response<AuthorizeResponse>, Status> {
        let request = request.into_inner();
        let target: i64 = request.projects.first().and_then(|id| id.parse().ok()).unwrap_or_default();
        let capture = (target != 1).then(|| Capture {
            id: request.capture_id,
            origin_project_id: 1,
            target_project_ids: vec![target],
            job_id: 7,
            user_id: 3,
            route: request.route,
            policies: request.policies,
            mode: request.mode,
            ..Capture::default()
        });
        Ok(Response::new(AuthorizeResponse {
            capture,
            job_id: 7,
            user_id: 3,
            username: "bench".into(),
            origin_project_id: 1,
            target_project_ids: vec![target],
            upstream_identity: "i".repeat(400),
        }))
    }

    async fn flush(&self, _: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        Ok(Response::new(FlushResponse {}))
    }

    async fn discard(&self, _: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        Ok(Response::new(DiscardResponse {}))
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

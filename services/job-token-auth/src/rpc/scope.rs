//! The scope of a project and its allowlists.

use proto::paddock::job_token::v1::{
    AllowGroupRequest, AllowGroupResponse, AllowProjectRequest, AllowProjectResponse, DisallowGroupRequest,
    DisallowGroupResponse, DisallowProjectRequest, DisallowProjectResponse, GetScopeRequest, GetScopeResponse,
    ListAllowedGroupsRequest, ListAllowedGroupsResponse, ListAllowedProjectsRequest, ListAllowedProjectsResponse,
    UpdateAllowedGroupRequest, UpdateAllowedGroupResponse, UpdateAllowedProjectRequest, UpdateAllowedProjectResponse,
    UpdateScopeRequest, UpdateScopeResponse, scope_service_server::ScopeService,
};
use tonic::{Request, Response, Status};

use super::State;

/// The service.
pub struct Scope(pub State);

#[tonic::async_trait]
impl ScopeService for Scope {
    async fn get_scope(&self, _request: Request<GetScopeRequest>) -> Result<Response<GetScopeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_scope(
        &self,
        _request: Request<UpdateScopeRequest>,
    ) -> Result<Response<UpdateScopeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_allowed_projects(
        &self,
        _request: Request<ListAllowedProjectsRequest>,
    ) -> Result<Response<ListAllowedProjectsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_allowed_groups(
        &self,
        _request: Request<ListAllowedGroupsRequest>,
    ) -> Result<Response<ListAllowedGroupsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn allow_project(
        &self,
        _request: Request<AllowProjectRequest>,
    ) -> Result<Response<AllowProjectResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn allow_group(&self, _request: Request<AllowGroupRequest>) -> Result<Response<AllowGroupResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_allowed_project(
        &self,
        _request: Request<UpdateAllowedProjectRequest>,
    ) -> Result<Response<UpdateAllowedProjectResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_allowed_group(
        &self,
        _request: Request<UpdateAllowedGroupRequest>,
    ) -> Result<Response<UpdateAllowedGroupResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn disallow_project(
        &self,
        _request: Request<DisallowProjectRequest>,
    ) -> Result<Response<DisallowProjectResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn disallow_group(
        &self,
        _request: Request<DisallowGroupRequest>,
    ) -> Result<Response<DisallowGroupResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

//! The scope of a project and its allowlists.

use chassis::db::paging::{Paged, Window};
use proto::paddock::job_token::v1::{
    AllowGroupRequest, AllowGroupResponse, AllowProjectRequest, AllowProjectResponse, DisallowGroupRequest,
    DisallowGroupResponse, DisallowProjectRequest, DisallowProjectResponse, GetScopeRequest, GetScopeResponse,
    ListAllowedGroupsRequest, ListAllowedGroupsResponse, ListAllowedProjectsRequest, ListAllowedProjectsResponse,
    UpdateAllowedGroupRequest, UpdateAllowedGroupResponse, UpdateAllowedProjectRequest, UpdateAllowedProjectResponse,
    UpdateScopeRequest, UpdateScopeResponse, scope_service_server::ScopeService,
};
use tonic::{Request, Response, Status};

use super::{State, state::UserCall};
use crate::store::allowlists;

mod entries;
mod grant_request;
mod lists;
mod messages;

/// The service.
pub struct Scope(pub State);

#[tonic::async_trait]
impl ScopeService for Scope {
    async fn get_scope(&self, request: Request<GetScopeRequest>) -> Result<Response<GetScopeResponse>, Status> {
        let (call, request) = UserCall::read(request)?;
        let project_id = self.0.administered_project(&request.id, &call).await?.id;
        let inbound_enabled = allowlists::is_enabled(&self.0.database, project_id).await?;
        Ok(Response::new(GetScopeResponse { inbound_enabled, outbound_enabled: false }))
    }

    async fn update_scope(
        &self,
        request: Request<UpdateScopeRequest>,
    ) -> Result<Response<UpdateScopeResponse>, Status> {
        let (call, request) = UserCall::read(request)?;
        let project_id = self.0.administered_project(&request.id, &call).await?.id;
        allowlists::set_enabled(&self.0.database, project_id, request.enabled).await?;
        self.0.decider.scope_changed();
        let user_id = call.user.id;
        tracing::info!(project_id, user_id, inbound_enabled = request.enabled, "changed a job token scope");
        Ok(Response::new(UpdateScopeResponse {}))
    }

    async fn list_allowed_projects(
        &self,
        request: Request<ListAllowedProjectsRequest>,
    ) -> Result<Response<ListAllowedProjectsResponse>, Status> {
        let (call, request) = UserCall::read(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let Paged { items, page } = self.0.allowed_projects(&request.id, window, &call).await?;
        Ok(Response::new(ListAllowedProjectsResponse { projects: items, page: Some(page) }))
    }

    async fn list_allowed_groups(
        &self,
        request: Request<ListAllowedGroupsRequest>,
    ) -> Result<Response<ListAllowedGroupsResponse>, Status> {
        let (call, request) = UserCall::read(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let Paged { items, page } = self.0.allowed_groups(&request.id, window, &call).await?;
        Ok(Response::new(ListAllowedGroupsResponse { groups: items, page: Some(page) }))
    }

    async fn allow_project(
        &self,
        request: Request<AllowProjectRequest>,
    ) -> Result<Response<AllowProjectResponse>, Status> {
        Ok(Response::new(self.0.add_entry(request).await?.into()))
    }

    async fn allow_group(&self, request: Request<AllowGroupRequest>) -> Result<Response<AllowGroupResponse>, Status> {
        Ok(Response::new(self.0.add_entry(request).await?.into()))
    }

    async fn update_allowed_project(
        &self,
        request: Request<UpdateAllowedProjectRequest>,
    ) -> Result<Response<UpdateAllowedProjectResponse>, Status> {
        Ok(Response::new(self.0.change_entry(request).await?.into()))
    }

    async fn update_allowed_group(
        &self,
        request: Request<UpdateAllowedGroupRequest>,
    ) -> Result<Response<UpdateAllowedGroupResponse>, Status> {
        Ok(Response::new(self.0.change_entry(request).await?.into()))
    }

    async fn disallow_project(
        &self,
        request: Request<DisallowProjectRequest>,
    ) -> Result<Response<DisallowProjectResponse>, Status> {
        self.0.remove_entry(request).await?;
        Ok(Response::new(DisallowProjectResponse {}))
    }

    async fn disallow_group(
        &self,
        request: Request<DisallowGroupRequest>,
    ) -> Result<Response<DisallowGroupResponse>, Status> {
        self.0.remove_entry(request).await?;
        Ok(Response::new(DisallowGroupResponse {}))
    }
}

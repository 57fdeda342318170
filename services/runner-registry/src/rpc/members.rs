//! Members of projects and groups. A maintainer of a project and an owner of a group decide who is a member, up to
//! their own role. Every member may leave.

use chassis::{access::User, db::paging::Window};
use proto::{
    paddock::directory::v1::{
        AddGroupMemberRequest, AddGroupMemberResponse, AddProjectMemberRequest, AddProjectMemberResponse,
        GetGroupMemberRequest, GetGroupMemberResponse, GetProjectMemberRequest, GetProjectMemberResponse,
        ListAllGroupMembersRequest, ListAllGroupMembersResponse, ListAllProjectMembersRequest,
        ListAllProjectMembersResponse, ListGroupMembersRequest, ListGroupMembersResponse, ListProjectMembersRequest,
        ListProjectMembersResponse, Member, RemoveGroupMemberRequest, RemoveGroupMemberResponse,
        RemoveProjectMemberRequest, RemoveProjectMemberResponse, UpdateGroupMemberRequest, UpdateGroupMemberResponse,
        UpdateProjectMemberRequest, UpdateProjectMemberResponse, member_service_server::MemberService,
    },
    role::Role,
};
use sea_orm::DatabaseConnection;
use tonic::{Request, Response, Status};

use super::{State, by_user, objects};
use crate::{
    directory::permission::Permissions,
    error::{Error, Result},
    store::{
        members::{self, Membership},
        roles::{self, MemberSource},
    },
};

/// The service.
pub struct Members(pub State);

#[tonic::async_trait]
impl MemberService for Members {
    async fn list_project_members(
        &self,
        request: Request<ListProjectMembersRequest>,
    ) -> Result<Response<ListProjectMembersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let project = objects::project(self.db(), &user, &request.id).await?.model;
        let listed = members::list(self.db(), MemberSource::Project(project.id).direct(), None, window)
            .await?
            .map(member_message);
        Ok(Response::new(ListProjectMembersResponse { members: listed.items, page: Some(listed.page) }))
    }

    async fn list_all_project_members(
        &self,
        request: Request<ListAllProjectMembersRequest>,
    ) -> Result<Response<ListAllProjectMembersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let project = objects::project(self.db(), &user, &request.id).await?.model;
        let rows = roles::in_project(&project);
        let listed = members::list(self.db(), rows, project.owner_id, window).await?.map(member_message);
        Ok(Response::new(ListAllProjectMembersResponse { members: listed.items, page: Some(listed.page) }))
    }

    async fn get_project_member(
        &self,
        request: Request<GetProjectMemberRequest>,
    ) -> Result<Response<GetProjectMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let project = objects::project(self.db(), &user, &request.id).await?.model;
        let member = members::find(self.db(), MemberSource::Project(project.id), request.user_id).await?;
        Ok(Response::new(GetProjectMemberResponse { member: Some(member_message(member)) }))
    }

    async fn add_project_member(
        &self,
        request: Request<AddProjectMemberRequest>,
    ) -> Result<Response<AddProjectMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let role = role_from_level(request.access_level)?;
        let editor = self.project_editor(&user, &request.id).await?;
        let member = editor.add(self.db(), request.user_id, role).await?;
        Ok(Response::new(AddProjectMemberResponse { member: Some(member) }))
    }

    async fn update_project_member(
        &self,
        request: Request<UpdateProjectMemberRequest>,
    ) -> Result<Response<UpdateProjectMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let role = role_from_level(request.access_level)?;
        let editor = self.project_editor(&user, &request.id).await?;
        let member = editor.update(self.db(), request.user_id, role).await?;
        Ok(Response::new(UpdateProjectMemberResponse { member: Some(member) }))
    }

    async fn remove_project_member(
        &self,
        request: Request<RemoveProjectMemberRequest>,
    ) -> Result<Response<RemoveProjectMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let editor = self.project_editor(&user, &request.id).await?;
        editor.remove(self.db(), request.user_id, request.user_id == user.id).await?;
        Ok(Response::new(RemoveProjectMemberResponse {}))
    }

    async fn list_group_members(
        &self,
        request: Request<ListGroupMembersRequest>,
    ) -> Result<Response<ListGroupMembersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let group = objects::group(self.db(), &user, &request.id).await?.model;
        let listed =
            members::list(self.db(), MemberSource::Group(group.id).direct(), None, window).await?.map(member_message);
        Ok(Response::new(ListGroupMembersResponse { members: listed.items, page: Some(listed.page) }))
    }

    async fn list_all_group_members(
        &self,
        request: Request<ListAllGroupMembersRequest>,
    ) -> Result<Response<ListAllGroupMembersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let group = objects::group(self.db(), &user, &request.id).await?.model;
        let listed = members::list(self.db(), roles::in_group(group.id), None, window).await?.map(member_message);
        Ok(Response::new(ListAllGroupMembersResponse { members: listed.items, page: Some(listed.page) }))
    }

    async fn get_group_member(
        &self,
        request: Request<GetGroupMemberRequest>,
    ) -> Result<Response<GetGroupMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let group = objects::group(self.db(), &user, &request.id).await?.model;
        let member = members::find(self.db(), MemberSource::Group(group.id), request.user_id).await?;
        Ok(Response::new(GetGroupMemberResponse { member: Some(member_message(member)) }))
    }

    async fn add_group_member(
        &self,
        request: Request<AddGroupMemberRequest>,
    ) -> Result<Response<AddGroupMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let role = role_from_level(request.access_level)?;
        let editor = self.group_editor(&user, &request.id).await?;
        let member = editor.add(self.db(), request.user_id, role).await?;
        Ok(Response::new(AddGroupMemberResponse { member: Some(member) }))
    }

    async fn update_group_member(
        &self,
        request: Request<UpdateGroupMemberRequest>,
    ) -> Result<Response<UpdateGroupMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let role = role_from_level(request.access_level)?;
        let editor = self.group_editor(&user, &request.id).await?;
        let member = editor.update(self.db(), request.user_id, role).await?;
        Ok(Response::new(UpdateGroupMemberResponse { member: Some(member) }))
    }

    async fn remove_group_member(
        &self,
        request: Request<RemoveGroupMemberRequest>,
    ) -> Result<Response<RemoveGroupMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let editor = self.group_editor(&user, &request.id).await?;
        editor.remove(self.db(), request.user_id, request.user_id == user.id).await?;
        Ok(Response::new(RemoveGroupMemberResponse {}))
    }
}

impl Members {
    fn db(&self) -> &DatabaseConnection {
        &self.0.database
    }

    async fn project_editor(&self, user: &User, id: &str) -> Result<MemberEditor> {
        let seen = objects::project(self.db(), user, id).await?;
        let may_change = seen.permissions.may_maintain_project();
        Ok(MemberEditor { source: MemberSource::Project(seen.model.id), permissions: seen.permissions, may_change })
    }

    async fn group_editor(&self, user: &User, id: &str) -> Result<MemberEditor> {
        let seen = objects::group(self.db(), user, id).await?;
        let may_change = seen.permissions.may_own_group();
        Ok(MemberEditor { source: MemberSource::Group(seen.model.id), permissions: seen.permissions, may_change })
    }
}

/// A caller who wants to change the members of a group or project that it sees.
struct MemberEditor {
    source: MemberSource,
    permissions: Permissions,
    may_change: bool,
}

impl MemberEditor {
    async fn add(&self, db: &DatabaseConnection, user_id: i64, role: Role) -> Result<Member> {
        self.check_role(role)?;
        Ok(member_message(members::add(db, self.source, user_id, role).await?))
    }

    async fn update(&self, db: &DatabaseConnection, user_id: i64, role: Role) -> Result<Member> {
        self.check_role(role)?;
        members::change(db, self.source, user_id, Some(role), |held| self.check_role(held)).await?;
        Ok(member_message(members::find(db, self.source, user_id).await?))
    }

    async fn remove(&self, db: &DatabaseConnection, user_id: i64, leaves: bool) -> Result<()> {
        if !leaves && !self.may_change {
            return Err(Error::AccessDenied);
        }
        members::change(db, self.source, user_id, None, |held| if leaves { Ok(()) } else { self.check_role(held) })
            .await
    }

    /// Checks that the caller may give this role and take it away.
    fn check_role(&self, role: Role) -> Result<()> {
        if self.may_change && self.permissions.may_hand_out(role) { Ok(()) } else { Err(Error::AccessDenied) }
    }
}

/// The role of a number. Source: <https://docs.gitlab.com/api/members/#roles>
fn role_from_level(access_level: i32) -> Result<Role> {
    Role::from_number(access_level)
        .ok_or_else(|| Error::ParameterInvalid("access_level does not have a valid value".to_owned()))
}

fn member_message(membership: Membership) -> Member {
    let Membership { user, role } = membership;
    Member {
        id: user.id,
        username: user.username,
        name: user.name,
        state: "active".to_owned(),
        avatar_url: None,
        web_url: None,
        access_level: role.number(),
        expires_at: None,
        membership_state: "active".to_owned(),
    }
}

//! Members of projects and groups. A maintainer of a project and an owner of a group decide who is a member, up to their own
//! role; everybody may leave.

use chassis::{access::User, db::paging::Window};
use proto::paddock::directory::v1::{
    AddGroupMemberRequest, AddGroupMemberResponse, AddProjectMemberRequest, AddProjectMemberResponse,
    GetGroupMemberRequest, GetGroupMemberResponse, GetProjectMemberRequest, GetProjectMemberResponse,
    ListAllGroupMembersRequest, ListAllGroupMembersResponse, ListAllProjectMembersRequest,
    ListAllProjectMembersResponse, ListGroupMembersRequest, ListGroupMembersResponse, ListProjectMembersRequest,
    ListProjectMembersResponse, Member, RemoveGroupMemberRequest, RemoveGroupMemberResponse,
    RemoveProjectMemberRequest, RemoveProjectMemberResponse, UpdateGroupMemberRequest, UpdateGroupMemberResponse,
    UpdateProjectMemberRequest, UpdateProjectMemberResponse, member_service_server::MemberService,
};
use sea_orm::{ActiveEnum as _, DatabaseConnection};
use tonic::{Request, Response, Status};

use super::{State, by_user, objects};
use crate::{
    entity::member::AccessLevel,
    error::{Error, Result},
    permission::Standing,
    store::{
        members,
        memberships::{self, Membership, Place},
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
        let listed =
            memberships::list(self.db(), Place::Project(project.id).direct(), None, window).await?.map(message);
        Ok(Response::new(ListProjectMembersResponse { members: listed.items, page: Some(listed.page) }))
    }

    async fn list_all_project_members(
        &self,
        request: Request<ListAllProjectMembersRequest>,
    ) -> Result<Response<ListAllProjectMembersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let project = objects::project(self.db(), &user, &request.id).await?.model;
        let rows = members::in_project(&project);
        let listed = memberships::list(self.db(), rows, project.owner_id, window).await?.map(message);
        Ok(Response::new(ListAllProjectMembersResponse { members: listed.items, page: Some(listed.page) }))
    }

    async fn get_project_member(
        &self,
        request: Request<GetProjectMemberRequest>,
    ) -> Result<Response<GetProjectMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let project = objects::project(self.db(), &user, &request.id).await?.model;
        let member = memberships::find(self.db(), Place::Project(project.id), request.user_id).await?;
        Ok(Response::new(GetProjectMemberResponse { member: Some(message(member)) }))
    }

    async fn add_project_member(
        &self,
        request: Request<AddProjectMemberRequest>,
    ) -> Result<Response<AddProjectMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let role = role(request.access_level)?;
        let changer = self.project(&user, &request.id).await?;
        let member = changer.add(self.db(), request.user_id, role).await?;
        Ok(Response::new(AddProjectMemberResponse { member: Some(member) }))
    }

    async fn update_project_member(
        &self,
        request: Request<UpdateProjectMemberRequest>,
    ) -> Result<Response<UpdateProjectMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let role = role(request.access_level)?;
        let changer = self.project(&user, &request.id).await?;
        let member = changer.update(self.db(), request.user_id, role).await?;
        Ok(Response::new(UpdateProjectMemberResponse { member: Some(member) }))
    }

    async fn remove_project_member(
        &self,
        request: Request<RemoveProjectMemberRequest>,
    ) -> Result<Response<RemoveProjectMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let changer = self.project(&user, &request.id).await?;
        changer.remove(self.db(), request.user_id, request.user_id == user.id).await?;
        Ok(Response::new(RemoveProjectMemberResponse {}))
    }

    async fn list_group_members(
        &self,
        request: Request<ListGroupMembersRequest>,
    ) -> Result<Response<ListGroupMembersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let group = objects::group(self.db(), &user, &request.id).await?.model;
        let listed = memberships::list(self.db(), Place::Group(group.id).direct(), None, window).await?.map(message);
        Ok(Response::new(ListGroupMembersResponse { members: listed.items, page: Some(listed.page) }))
    }

    async fn list_all_group_members(
        &self,
        request: Request<ListAllGroupMembersRequest>,
    ) -> Result<Response<ListAllGroupMembersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let group = objects::group(self.db(), &user, &request.id).await?.model;
        let listed = memberships::list(self.db(), members::in_group(group.id), None, window).await?.map(message);
        Ok(Response::new(ListAllGroupMembersResponse { members: listed.items, page: Some(listed.page) }))
    }

    async fn get_group_member(
        &self,
        request: Request<GetGroupMemberRequest>,
    ) -> Result<Response<GetGroupMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let group = objects::group(self.db(), &user, &request.id).await?.model;
        let member = memberships::find(self.db(), Place::Group(group.id), request.user_id).await?;
        Ok(Response::new(GetGroupMemberResponse { member: Some(message(member)) }))
    }

    async fn add_group_member(
        &self,
        request: Request<AddGroupMemberRequest>,
    ) -> Result<Response<AddGroupMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let role = role(request.access_level)?;
        let changer = self.group(&user, &request.id).await?;
        let member = changer.add(self.db(), request.user_id, role).await?;
        Ok(Response::new(AddGroupMemberResponse { member: Some(member) }))
    }

    async fn update_group_member(
        &self,
        request: Request<UpdateGroupMemberRequest>,
    ) -> Result<Response<UpdateGroupMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let role = role(request.access_level)?;
        let changer = self.group(&user, &request.id).await?;
        let member = changer.update(self.db(), request.user_id, role).await?;
        Ok(Response::new(UpdateGroupMemberResponse { member: Some(member) }))
    }

    async fn remove_group_member(
        &self,
        request: Request<RemoveGroupMemberRequest>,
    ) -> Result<Response<RemoveGroupMemberResponse>, Status> {
        let (user, request) = by_user(request)?;
        let changer = self.group(&user, &request.id).await?;
        changer.remove(self.db(), request.user_id, request.user_id == user.id).await?;
        Ok(Response::new(RemoveGroupMemberResponse {}))
    }
}

impl Members {
    fn db(&self) -> &DatabaseConnection {
        &self.0.database
    }

    async fn project(&self, user: &User, id: &str) -> Result<Changer> {
        let seen = objects::project(self.db(), user, id).await?;
        let may_change = seen.standing.may_maintain_project();
        Ok(Changer { place: Place::Project(seen.model.id), standing: seen.standing, may_change })
    }

    async fn group(&self, user: &User, id: &str) -> Result<Changer> {
        let seen = objects::group(self.db(), user, id).await?;
        let may_change = seen.standing.may_own_group();
        Ok(Changer { place: Place::Group(seen.model.id), standing: seen.standing, may_change })
    }
}

/// A caller who wants to change the members of a place that it sees.
struct Changer {
    place: Place,
    standing: Standing,
    may_change: bool,
}

impl Changer {
    async fn add(&self, db: &DatabaseConnection, user_id: i64, role: AccessLevel) -> Result<Member> {
        self.check(role)?;
        Ok(message(memberships::add(db, self.place, user_id, role).await?))
    }

    async fn update(&self, db: &DatabaseConnection, user_id: i64, role: AccessLevel) -> Result<Member> {
        self.check(role)?;
        memberships::change(db, self.place, user_id, Some(role), |held| self.check(held)).await?;
        Ok(message(memberships::find(db, self.place, user_id).await?))
    }

    async fn remove(&self, db: &DatabaseConnection, user_id: i64, leaves: bool) -> Result<()> {
        if !leaves && !self.may_change {
            return Err(Error::AccessDenied);
        }
        memberships::change(db, self.place, user_id, None, |held| if leaves { Ok(()) } else { self.check(held) }).await
    }

    /// The caller decides who has this role.
    fn check(&self, role: AccessLevel) -> Result<()> {
        if self.may_change && self.standing.may_hand_out(role) { Ok(()) } else { Err(Error::AccessDenied) }
    }
}

/// The role of a number. Source: <https://docs.gitlab.com/api/members/#roles>
fn role(access_level: i32) -> Result<AccessLevel> {
    let role = i16::try_from(access_level).ok().and_then(|level| AccessLevel::try_from_value(&level).ok());
    role.ok_or_else(|| Error::ParameterInvalid("access_level does not have a valid value".to_owned()))
}

fn message(membership: Membership) -> Member {
    let Membership { user, access_level } = membership;
    Member {
        id: user.id,
        username: user.username,
        name: user.name,
        state: "active".to_owned(),
        avatar_url: None,
        web_url: None,
        access_level: access_level.to_value().into(),
        expires_at: None,
        membership_state: "active".to_owned(),
    }
}

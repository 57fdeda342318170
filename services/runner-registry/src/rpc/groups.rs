//! Groups.

use chassis::{access::User, db::paging::Paged};
use proto::{
    paddock::directory::v1::{
        CreateGroupRequest, CreateGroupResponse, DeleteGroupRequest, DeleteGroupResponse, GetGroupRequest,
        GetGroupResponse, Group, ListGroupsRequest, ListGroupsResponse, UpdateGroupRequest, UpdateGroupResponse,
        group_service_server::GroupService,
    },
    timestamp,
};
use tonic::{Request, Response, Status};

use super::{
    State, by_user,
    convert::{
        changed_interval, changed_visibility, check_interval, check_texts, listing, visibility, visibility_message,
    },
    mask::Mask,
    objects,
};
use crate::{
    directory::permission::Permissions,
    entity::{Visibility, group::Model},
    error::{Error, FieldErrors, Result},
    store::groups::{self, Changes, New},
};

/// The greatest length of a description.
const MAX_DESCRIPTION: usize = 500;

/// The service.
pub struct Groups(pub State);

#[tonic::async_trait]
impl GroupService for Groups {
    async fn list_groups(&self, request: Request<ListGroupsRequest>) -> Result<Response<ListGroupsResponse>, Status> {
        let (user, request) = by_user(request)?;
        let listing = listing(&user, request.page, request.per_page, request.search.as_deref())?;
        let Paged { items, page } = groups::list(&self.0.database, listing).await?;
        Ok(Response::new(ListGroupsResponse { groups: self.group_messages(items).await?, page: Some(page) }))
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Result<Response<GetGroupResponse>, Status> {
        let (user, request) = by_user(request)?;
        let group = objects::group(&self.0.database, &user, &request.id).await?.model;
        Ok(Response::new(GetGroupResponse { group: Some(self.group_message(group).await?) }))
    }

    async fn create_group(
        &self,
        request: Request<CreateGroupRequest>,
    ) -> Result<Response<CreateGroupResponse>, Status> {
        let (user, request) = by_user(request)?;
        let group = self.insert_group(&user, request).await?;
        Ok(Response::new(CreateGroupResponse { group: Some(self.group_message(group).await?) }))
    }

    async fn update_group(
        &self,
        request: Request<UpdateGroupRequest>,
    ) -> Result<Response<UpdateGroupResponse>, Status> {
        let (user, request) = by_user(request)?;
        let db = &self.0.database;
        let group = objects::group(db, &user, &request.id).await?.check(Permissions::may_own_group)?;
        let group = groups::update(db, group.id, group_changes(request)?).await?;
        Ok(Response::new(UpdateGroupResponse { group: Some(self.group_message(group).await?) }))
    }

    async fn delete_group(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        let (user, request) = by_user(request)?;
        let db = &self.0.database;
        let group = objects::group(db, &user, &request.id).await?.check(Permissions::may_own_group)?;
        groups::delete(db, group.id, self.0.clock.now()).await?;
        Ok(Response::new(DeleteGroupResponse {}))
    }
}

impl Groups {
    async fn insert_group(&self, user: &User, request: CreateGroupRequest) -> Result<Model> {
        let db = &self.0.database;
        if let Some(parent_id) = request.parent_id {
            let parent = objects::group_by_number(db, user, parent_id).await?;
            parent.check_creation(Permissions::may_create_in_group)?;
        }
        groups::create(db, new_group(request)?, user.id, self.0.clock.now()).await
    }

    async fn group_messages(&self, groups: Vec<Model>) -> Result<Vec<Group>> {
        let ids = groups.iter().map(|group| group.id).collect();
        let mut names = groups::full_names(&self.0.database, ids).await?;
        // A group that was deleted in the meantime has no full name.
        Ok(groups.into_iter().filter_map(|group| Some(message(names.remove(&group.id)?, group))).collect())
    }

    async fn group_message(&self, group: Model) -> Result<Group> {
        self.group_messages(vec![group]).await?.pop().ok_or(Error::GroupNotFound)
    }
}

fn new_group(request: CreateGroupRequest) -> Result<New> {
    let visibility = request.visibility.map_or(Ok(Visibility::Private), visibility)?;
    let mut errors = FieldErrors::default();
    let description = request.description.as_deref();
    check_texts(&mut errors, Some(&request.name), Some(&request.path), description, MAX_DESCRIPTION);
    let intervals = [
        ("runner_token_expiration_interval", request.runner_token_expiration_interval),
        ("subgroup_runner_token_expiration_interval", request.subgroup_runner_token_expiration_interval),
        ("project_runner_token_expiration_interval", request.project_runner_token_expiration_interval),
    ];
    for (field, interval) in intervals {
        check_interval(&mut errors, field, interval);
    }
    errors.check()?;
    Ok(New {
        parent_id: request.parent_id,
        name: request.name,
        path: request.path,
        description: request.description,
        visibility,
        runner_token_expiration_interval: request.runner_token_expiration_interval,
        subgroup_runner_token_expiration_interval: request.subgroup_runner_token_expiration_interval,
        project_runner_token_expiration_interval: request.project_runner_token_expiration_interval,
    })
}

fn group_changes(request: UpdateGroupRequest) -> Result<Changes> {
    let mask = Mask::new(request.update_mask);
    let mut errors = FieldErrors::default();
    let changes = Changes {
        name: mask.value("name", request.name),
        path: mask.value("path", request.path),
        description: mask.clearable("description", request.description),
        visibility: changed_visibility(&mask, request.visibility)?,
        runner_token_expiration_interval: changed_interval(
            &mut errors,
            &mask,
            "runner_token_expiration_interval",
            request.runner_token_expiration_interval,
        ),
        subgroup_runner_token_expiration_interval: changed_interval(
            &mut errors,
            &mask,
            "subgroup_runner_token_expiration_interval",
            request.subgroup_runner_token_expiration_interval,
        ),
        project_runner_token_expiration_interval: changed_interval(
            &mut errors,
            &mask,
            "project_runner_token_expiration_interval",
            request.project_runner_token_expiration_interval,
        ),
    };
    let description = changes.description.as_ref().and_then(Option::as_deref);
    check_texts(&mut errors, changes.name.as_deref(), changes.path.as_deref(), description, MAX_DESCRIPTION);
    errors.check()?;
    Ok(changes)
}

/// The group as messages carry it.
pub fn message(full_name: String, group: Model) -> Group {
    Group {
        id: group.id,
        name: group.name,
        path: group.path,
        description: group.description,
        visibility: visibility_message(group.visibility),
        full_name,
        full_path: group.full_path,
        parent_id: group.parent_id,
        created_at: Some(timestamp::from_millis(group.created_at)),
        web_url: None,
        runner_token_expiration_interval: group.runner_token_expiration_interval,
        subgroup_runner_token_expiration_interval: group.subgroup_runner_token_expiration_interval,
        project_runner_token_expiration_interval: group.project_runner_token_expiration_interval,
    }
}

//! Projects, in a group or in the personal namespace of a user. The locks are those of [`super::groups`]; a personal
//! namespace is locked by the row of its user.

use std::collections::{BTreeSet, HashMap};

use chassis::db::paging::Paged;
use proto::timestamp::millis;
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, ConnectionTrait, DatabaseConnection, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::LockType,
};
use time::OffsetDateTime;

use super::{
    groups,
    roles::{self, MemberSource},
    routes::{self, PathOwner},
    search::Listing,
    set_if_given, users,
};
use crate::{
    directory::paths::{self, ObjectId},
    entity::{
        Visibility, group,
        project::{self, Column, Entity, Model},
        route, user,
    },
    error::{Error, Result},
};

/// The namespace of a project, by id.
#[derive(Clone, Copy, Debug)]
pub enum NamespaceId {
    /// In a group.
    Group(i64),
    /// In the personal namespace of a user.
    User(i64),
}

/// A project to create; its texts are checked.
#[derive(Debug)]
pub struct New {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// See the column.
    pub name: String,
    /// See the column.
    pub path: String,
    /// See the column.
    pub description: Option<String>,
    /// See the column.
    pub visibility: Visibility,
    /// See the column.
    pub runner_token_expiration_interval: Option<i64>,
}

/// The columns to change, each with its new value; the texts are checked.
#[derive(Debug, Default)]
pub struct Changes {
    /// See the column.
    pub name: Option<String>,
    /// See the column.
    pub path: Option<String>,
    /// See the column.
    pub description: Option<Option<String>>,
    /// See the column.
    pub visibility: Option<Visibility>,
    /// See the column.
    pub runner_token_expiration_interval: Option<Option<i64>>,
}

/// A project and its namespace.
#[derive(Clone, Debug)]
pub struct LocatedProject {
    /// The project.
    pub project: Model,
    /// Its namespace.
    pub namespace: Namespace,
}

/// A group or a user that has projects.
#[derive(Clone, Debug)]
pub enum Namespace {
    /// A group, and its name with those of all its ancestors.
    Group(group::Model, String),
    /// A user.
    User(user::Model),
}

impl LocatedProject {
    /// Returns the name of the project after the names of everything above it.
    pub fn name_with_namespace(&self) -> String {
        let above = match &self.namespace {
            Namespace::Group(_, full_name) => full_name,
            Namespace::User(user) => &user.name,
        };
        format!("{above} / {}", self.project.name)
    }
}

/// The project with the id.
pub async fn find(db: &impl ConnectionTrait, id: &ObjectId) -> Result<Option<Model>> {
    routes::find::<Entity>(db, id, Column::Id, route::Column::ProjectId).await
}

/// A page of projects, the newest first.
pub async fn list(db: &impl ConnectionTrait, listing: Listing<'_>) -> Result<Paged<Model>> {
    let condition = listing.condition(roles::visible_projects, &[Column::Name, Column::Path]);
    Ok(listing.window.fetch(Entity::find().filter(condition).order_by_desc(Column::Id), db).await?)
}

/// Adds its namespace to each project. A project whose namespace no longer exists is being deleted, and left out.
pub async fn locate(db: &impl ConnectionTrait, projects: Vec<Model>) -> Result<Vec<LocatedProject>> {
    // Each id once: a runner can serve every project of a group, and a statement takes a limited number of parameters.
    let group_ids: BTreeSet<i64> = projects.iter().filter_map(|project| project.group_id).collect();
    let user_ids: BTreeSet<i64> = projects.iter().filter_map(|project| project.owner_id).collect();
    let mut full_names = groups::full_names(db, group_ids.iter().copied().collect()).await?;
    let groups = group::Entity::find().filter(group::Column::Id.is_in(group_ids)).all(db).await?;
    let users = user::Entity::find().filter(user::Column::Id.is_in(user_ids)).all(db).await?;
    let groups = groups.into_iter().filter_map(|group| {
        let full_name = full_names.remove(&group.id)?;
        Some((group.id, Namespace::Group(group, full_name)))
    });
    let groups: HashMap<i64, Namespace> = groups.collect();
    let users: HashMap<i64, Namespace> = users.into_iter().map(|user| (user.id, Namespace::User(user))).collect();
    let located = projects.into_iter().filter_map(|project| {
        let namespace = match (project.group_id, project.owner_id) {
            (Some(group_id), _) => groups.get(&group_id),
            (None, owner_id) => owner_id.and_then(|user_id| users.get(&user_id)),
        };
        Some(LocatedProject { namespace: namespace?.clone(), project })
    });
    Ok(located.collect())
}

/// Creates a project that the user owns.
pub async fn create(database: &DatabaseConnection, new: New, user_id: i64, now: OffsetDateTime) -> Result<Model> {
    let tx = super::begin(database).await?;
    let (group_id, owner_id, namespace_path) = match new.namespace {
        NamespaceId::Group(id) => (Some(id), None, lock_group(&tx, id, new.visibility).await?),
        NamespaceId::User(id) => (None, Some(id), users::lock(&tx, id, LockType::Share).await?.username),
    };
    let full_path = paths::join(&namespace_path, &new.path);
    routes::check_length(full_path.len(), "path")?;
    let row = project::ActiveModel {
        id: NotSet,
        group_id: Set(group_id),
        owner_id: Set(owner_id),
        name: Set(new.name),
        path: Set(new.path),
        full_path: Set(full_path.clone()),
        description: Set(new.description),
        visibility: Set(new.visibility),
        creator_id: Set(Some(user_id)),
        runner_token_expiration_interval: Set(new.runner_token_expiration_interval),
        created_at: Set(millis(now)),
    };
    let gone = if group_id.is_some() { Error::GroupNotFound } else { Error::UserNotFound };
    let project = row.insert(&tx).await.map_err(|error| Error::on_gone(error, gone))?;
    routes::take(&tx, &full_path, PathOwner::Project(project.id), "path").await?;
    roles::add_owner(&tx, MemberSource::Project(project.id), user_id).await?;
    tx.commit().await?;
    Ok(project)
}

/// Locks the group that gets a project, and returns its full path.
async fn lock_group(tx: &DatabaseTransaction, group_id: i64, visibility: Visibility) -> Result<String> {
    groups::lock_tree(tx, group_id, LockType::Share).await?;
    let group = group::Entity::find_by_id(group_id).one(tx).await?.ok_or(Error::GroupNotFound)?;
    check_visibility(&group, visibility)?;
    Ok(group.full_path)
}

/// Checks that a project is at most as visible as its group.
fn check_visibility(group: &group::Model, visibility: Visibility) -> Result<()> {
    if visibility <= group.visibility {
        return Ok(());
    }
    let why = format!("in a {} group", group.visibility.name());
    Err(groups::visibility_refused(visibility, &why))
}

/// Changes a project.
pub async fn update(database: &DatabaseConnection, project: Model, changes: Changes) -> Result<Model> {
    let tx = super::begin(database).await?;
    let id = project.id;
    lock_namespace(&tx, &project).await?;
    let project = Entity::find_by_id(id).lock_exclusive().one(&tx).await?.ok_or(Error::ProjectNotFound)?;
    if let (Some(visibility), Some(group_id)) = (changes.visibility, project.group_id) {
        let group = group::Entity::find_by_id(group_id).one(&tx).await?.ok_or(Error::ProjectNotFound)?;
        check_visibility(&group, visibility)?;
    }
    if let Some(path) = changes.path.as_ref().filter(|path| **path != project.path) {
        let new = paths::with_last_segment(&project.full_path, path);
        routes::rename(&tx, &project.full_path, &new, PathOwner::Project(id), "path").await?;
    }
    let mut row = project.into_active_model();
    set_if_given(&mut row.name, changes.name);
    set_if_given(&mut row.path, changes.path);
    set_if_given(&mut row.description, changes.description);
    set_if_given(&mut row.visibility, changes.visibility);
    set_if_given(&mut row.runner_token_expiration_interval, changes.runner_token_expiration_interval);
    row.update(&tx).await?;
    let project = Entity::find_by_id(id).one(&tx).await?.ok_or(Error::ProjectNotFound)?;
    tx.commit().await?;
    Ok(project)
}

/// Deletes a project. Its runners stay.
pub async fn delete(database: &DatabaseConnection, project: &Model) -> Result<()> {
    let tx = super::begin(database).await?;
    lock_namespace(&tx, project).await?;
    Entity::delete_by_id(project.id).exec(&tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Locks the namespace against a rename, which would change the same rows in another order, and the path meanwhile. If
/// the namespace no longer exists, neither does the project; the caller finds that out.
async fn lock_namespace(tx: &DatabaseTransaction, project: &Model) -> Result<()> {
    if let Some(group_id) = project.group_id {
        groups::lock_tree(tx, group_id, LockType::Share).await?;
    }
    if let Some(user_id) = project.owner_id {
        match users::lock(tx, user_id, LockType::Share).await {
            Ok(_) | Err(Error::UserNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

//! Groups and their tree. Each transaction that gives something below a top-level group a path locks the row of that
//! group: shared to add, exclusive to rename. So a rename sees everything that it has to move.

use std::collections::HashMap;

use chassis::db::paging::Paged;
use proto::timestamp::millis;
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, ConnectionTrait, DatabaseConnection, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    JoinType, QueryFilter as _, QueryOrder as _, QuerySelect as _, RelationTrait as _,
    sea_query::{LockType, Query, SelectStatement},
};
use time::OffsetDateTime;

use super::{
    removed_tokens,
    roles::{self, MemberSource},
    routes::{self, PathOwner},
    search::Listing,
    set_if_given,
};
use crate::{
    directory::paths::{self, ObjectId},
    entity::{
        Visibility,
        group::{self, Column, Entity, Model},
        group_ancestor, project, route, runner,
    },
    error::{Error, Result},
};

/// A group to create; its texts are checked.
#[derive(Debug)]
pub struct New {
    /// See the column.
    pub parent_id: Option<i64>,
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
    /// See the column.
    pub subgroup_runner_token_expiration_interval: Option<i64>,
    /// See the column.
    pub project_runner_token_expiration_interval: Option<i64>,
}

/// The columns to change, each with its new value; the texts are checked.
#[derive(Debug, Default)]
pub struct Changes {
    /// See the column.
    pub name: Option<String>,
    /// See the column; the paths below follow.
    pub path: Option<String>,
    /// See the column.
    pub description: Option<Option<String>>,
    /// See the column.
    pub visibility: Option<Visibility>,
    /// See the column.
    pub runner_token_expiration_interval: Option<Option<i64>>,
    /// See the column.
    pub subgroup_runner_token_expiration_interval: Option<Option<i64>>,
    /// See the column.
    pub project_runner_token_expiration_interval: Option<Option<i64>>,
}

/// The group with the id.
pub async fn find(db: &impl ConnectionTrait, id: &ObjectId) -> Result<Option<Model>> {
    routes::find::<Entity>(db, id, Column::Id, route::Column::GroupId).await
}

/// A page of groups, by name.
pub async fn list(db: &impl ConnectionTrait, listing: Listing<'_>) -> Result<Paged<Model>> {
    let condition = listing.condition(roles::visible_groups, &[Column::Name, Column::Path]);
    let query = Entity::find().filter(condition).order_by_asc(Column::Name).order_by_asc(Column::Id);
    Ok(listing.window.fetch(query, db).await?)
}

/// Returns the full names of groups by their ids: the names of all ancestors, then the name of the group.
pub async fn full_names(db: &impl ConnectionTrait, ids: Vec<i64>) -> Result<HashMap<i64, String>> {
    let rows: Vec<(i64, String)> = group_ancestor::Entity::find()
        .join(JoinType::InnerJoin, group_ancestor::Relation::Ancestor.def())
        .filter(group_ancestor::Column::GroupId.is_in(ids))
        .order_by_desc(group_ancestor::Column::Distance)
        .select_only()
        .column(group_ancestor::Column::GroupId)
        .column(Column::Name)
        .into_tuple()
        .all(db)
        .await?;
    let mut names = HashMap::<i64, String>::new();
    for (id, name) in rows {
        names.entry(id).and_modify(|full| *full = format!("{full} / {name}")).or_insert(name);
    }
    Ok(names)
}

/// Creates a group that the user owns.
pub async fn create(database: &DatabaseConnection, new: New, user_id: i64, now: OffsetDateTime) -> Result<Model> {
    let tx = super::begin(database).await?;
    let (full_path, ancestor_ids) = match new.parent_id {
        None => (new.path.clone(), Vec::new()),
        Some(parent_id) => path_below(&tx, parent_id, &new).await?,
    };
    let row = group::ActiveModel {
        id: NotSet,
        parent_id: Set(new.parent_id),
        name: Set(new.name),
        path: Set(new.path),
        full_path: Set(full_path.clone()),
        description: Set(new.description),
        visibility: Set(new.visibility),
        runner_token_expiration_interval: Set(new.runner_token_expiration_interval),
        subgroup_runner_token_expiration_interval: Set(new.subgroup_runner_token_expiration_interval),
        project_runner_token_expiration_interval: Set(new.project_runner_token_expiration_interval),
        created_at: Set(millis(now)),
    };
    routes::check_length(full_path.len(), "path")?;
    let group = row.insert(&tx).await.map_err(|error| Error::on_gone(error, Error::GroupNotFound))?;
    routes::take(&tx, &full_path, PathOwner::Group(group.id), "path").await?;
    insert_ancestors(&tx, group.id, ancestor_ids).await?;
    roles::add_owner(&tx, MemberSource::Group(group.id), user_id).await?;
    tx.commit().await?;
    Ok(group)
}

/// The full path of a new group, and its ancestors from the parent upwards.
async fn path_below(tx: &DatabaseTransaction, parent_id: i64, new: &New) -> Result<(String, Vec<i64>)> {
    lock_tree(tx, parent_id, LockType::Share).await?;
    let parent = Entity::find_by_id(parent_id).one(tx).await?.ok_or(Error::GroupNotFound)?;
    check_below_parent(&parent, new.visibility)?;
    let ancestor_ids: Vec<i64> = group_ancestor::Entity::find()
        .filter(group_ancestor::Column::GroupId.eq(parent_id))
        .order_by_asc(group_ancestor::Column::Distance)
        .select_only()
        .column(group_ancestor::Column::AncestorId)
        .into_tuple()
        .all(tx)
        .await?;
    if ancestor_ids.len() >= paths::MAX_DEPTH {
        return Err(Error::invalid("parent_id", "has too deep level of nesting"));
    }
    Ok((paths::join(&parent.full_path, &new.path), ancestor_ids))
}

async fn insert_ancestors(tx: &DatabaseTransaction, group_id: i64, ancestor_ids: Vec<i64>) -> Result<()> {
    let rows = std::iter::once(group_id).chain(ancestor_ids).zip(0..).map(|(ancestor_id, distance)| {
        group_ancestor::ActiveModel { group_id: Set(group_id), ancestor_id: Set(ancestor_id), distance: Set(distance) }
    });
    let inserted = group_ancestor::Entity::insert_many(rows).exec_without_returning(tx).await;
    inserted.map_err(|error| Error::on_gone(error, Error::GroupNotFound))?;
    Ok(())
}

/// Changes a group.
pub async fn update(database: &DatabaseConnection, id: i64, changes: Changes) -> Result<Model> {
    let tx = super::begin(database).await?;
    lock_tree(&tx, id, LockType::Update).await?;
    let group = Entity::find_by_id(id).one(&tx).await?.ok_or(Error::GroupNotFound)?;
    if let Some(visibility) = changes.visibility {
        check_visibility(&tx, &group, visibility).await?;
    }
    if let Some(path) = changes.path.as_ref().filter(|path| **path != group.path) {
        let new = paths::with_last_segment(&group.full_path, path);
        routes::rename(&tx, &group.full_path, &new, PathOwner::Group(id), "path").await?;
    }
    let mut row = group.into_active_model();
    set_if_given(&mut row.name, changes.name);
    set_if_given(&mut row.path, changes.path);
    set_if_given(&mut row.description, changes.description);
    set_if_given(&mut row.visibility, changes.visibility);
    set_if_given(&mut row.runner_token_expiration_interval, changes.runner_token_expiration_interval);
    set_if_given(&mut row.subgroup_runner_token_expiration_interval, changes.subgroup_runner_token_expiration_interval);
    set_if_given(&mut row.project_runner_token_expiration_interval, changes.project_runner_token_expiration_interval);
    row.update(&tx).await?;
    let group = Entity::find_by_id(id).one(&tx).await?.ok_or(Error::GroupNotFound)?;
    tx.commit().await?;
    Ok(group)
}

/// Checks that a group is at most as visible as its parent, and at least as visible as everything in it.
async fn check_visibility(tx: &DatabaseTransaction, group: &Model, visibility: Visibility) -> Result<()> {
    if let Some(parent_id) = group.parent_id {
        let parent = Entity::find_by_id(parent_id).one(tx).await?.ok_or(Error::GroupNotFound)?;
        check_below_parent(&parent, visibility)?;
    }
    let more_visible_project = project::Entity::find()
        .filter(project::Column::GroupId.eq(group.id))
        .filter(project::Column::Visibility.gt(visibility));
    if more_visible_project.one(tx).await?.is_some() {
        return Err(visibility_refused(visibility, "since this group contains projects with higher visibility"));
    }
    let more_visible_group =
        Entity::find().filter(Column::ParentId.eq(group.id)).filter(Column::Visibility.gt(visibility));
    if more_visible_group.one(tx).await?.is_some() {
        return Err(visibility_refused(visibility, "since there are sub-groups with higher visibility"));
    }
    Ok(())
}

/// Checks that a group is at most as visible as its parent.
fn check_below_parent(parent: &Model, visibility: Visibility) -> Result<()> {
    if visibility <= parent.visibility {
        return Ok(());
    }
    let why = format!("since the parent group has a {} visibility", parent.visibility.name());
    Err(visibility_refused(visibility, &why))
}

/// The refusal of a visibility, of a group or of a project.
pub fn visibility_refused(visibility: Visibility, why: &str) -> Error {
    Error::invalid("visibility_level", format!("{} is not allowed {why}", visibility.name()))
}

/// Deletes a group with everything below it.
pub async fn delete(database: &DatabaseConnection, id: i64, now: OffsetDateTime) -> Result<()> {
    let tx = super::begin(database).await?;
    lock_tree(&tx, id, LockType::Update).await?;
    // A runner that is being created in one of the groups is there before the tokens are noted, or is refused.
    let below = Entity::find().filter(Column::Id.in_subquery(descendants(id))).order_by_asc(Column::Id);
    below.lock(LockType::Update).all(&tx).await?;
    removed_tokens::note(&tx, runner::Column::GroupId.in_subquery(descendants(id)).into(), now).await?;
    Entity::delete_by_id(id).exec(&tx).await?;
    tx.commit().await?;
    Ok(())
}

/// The ids of a group and of all groups below it.
fn descendants(group_id: i64) -> SelectStatement {
    Query::select()
        .column(group_ancestor::Column::GroupId)
        .from(group_ancestor::Entity)
        .and_where(group_ancestor::Column::AncestorId.eq(group_id))
        .to_owned()
}

/// Locks the top-level group above, which never changes. Returns false if the group does not exist. SQLite has one
/// writer at a time anyway.
pub async fn lock_tree(tx: &DatabaseTransaction, group_id: i64, lock: LockType) -> Result<bool> {
    let top: Option<i64> = group_ancestor::Entity::find()
        .filter(group_ancestor::Column::GroupId.eq(group_id))
        .order_by_desc(group_ancestor::Column::Distance)
        .select_only()
        .column(group_ancestor::Column::AncestorId)
        .into_tuple()
        .one(tx)
        .await?;
    let Some(top) = top else { return Ok(false) };
    Ok(Entity::find_by_id(top).lock(lock).one(tx).await?.is_some())
}

//! Groups and their tree. Whatever gives something below a top-level group a path holds a lock on that group's row:
//! shared to add, exclusive to rename. So a rename sees everything that it has to move.

use std::collections::HashMap;

use chassis::db::paging::{Paged, Window};
use proto::timestamp::millis;
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseConnection, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, JoinType, QueryFilter as _, QueryOrder as _, QuerySelect as _, RelationTrait as _,
    sea_query::LockType,
};
use time::OffsetDateTime;

use super::{
    change,
    roles::{self, MemberSource},
    routes::{self, Holder},
    search,
};
use crate::{
    directory::paths::{self, ObjectId},
    entity::{
        Visibility,
        group::{self, Column, Entity, Model},
        group_ancestor, project, route,
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
    let query = match id {
        ObjectId::Number(number) => Entity::find_by_id(*number),
        ObjectId::Path(key) => Entity::find().filter(Column::Id.in_subquery(routes::held(route::Column::GroupId, key))),
    };
    Ok(query.one(db).await?)
}

/// A page of groups, by name. Only those that the user sees, unless there is none given.
pub async fn list(
    db: &impl ConnectionTrait,
    seen_by: Option<i64>,
    search: Option<&str>,
    window: Window,
) -> Result<Paged<Model>> {
    let condition = Condition::all()
        .add_option(seen_by.map(roles::visible_groups))
        .add_option(search.map(|text| search::contains(&[Column::Name, Column::Path], text)));
    let query = Entity::find().filter(condition).order_by_asc(Column::Name).order_by_asc(Column::Id);
    Ok(window.fetch(query, db).await?)
}

/// The names of the groups with those of all their ancestors before them, by group id.
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
    let (full_path, above) = match new.parent_id {
        None => (new.path.clone(), Vec::new()),
        Some(parent_id) => place_below(&tx, parent_id, &new).await?,
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
    paths::check_length(full_path.len()).map_err(|text| Error::invalid("path", text))?;
    let group = row.insert(&tx).await.map_err(|error| Error::on_gone(error, Error::GroupNotFound))?;
    routes::take(&tx, &full_path, Holder::Group(group.id), "path").await?;
    insert_ancestors(&tx, group.id, above).await?;
    roles::add_owner(&tx, MemberSource::Group(group.id), user_id).await?;
    tx.commit().await?;
    Ok(group)
}

/// The full path of a new group, and its ancestors from the parent upwards.
async fn place_below(tx: &DatabaseTransaction, parent_id: i64, new: &New) -> Result<(String, Vec<i64>)> {
    lock_tree(tx, parent_id, LockType::Share).await?;
    let parent = Entity::find_by_id(parent_id).one(tx).await?.ok_or(Error::GroupNotFound)?;
    if new.visibility > parent.visibility {
        let text = format!(
            "{} is not allowed since the parent group has a {} visibility",
            new.visibility.name(),
            parent.visibility.name()
        );
        return Err(Error::invalid("visibility_level", text));
    }
    let above: Vec<i64> = group_ancestor::Entity::find()
        .filter(group_ancestor::Column::GroupId.eq(parent_id))
        .order_by_asc(group_ancestor::Column::Distance)
        .select_only()
        .column(group_ancestor::Column::AncestorId)
        .into_tuple()
        .all(tx)
        .await?;
    if above.len() >= paths::MAX_DEPTH {
        return Err(Error::invalid("parent_id", "has too deep level of nesting"));
    }
    Ok((paths::join(&parent.full_path, &new.path), above))
}

async fn insert_ancestors(tx: &DatabaseTransaction, group_id: i64, above: Vec<i64>) -> Result<()> {
    let rows = std::iter::once(group_id).chain(above).zip(0..).map(|(ancestor_id, distance)| {
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
        let new = match group.full_path.rsplit_once('/') {
            Some((above, _)) => paths::join(above, path),
            None => path.clone(),
        };
        routes::rename(&tx, &group.full_path, &new, Holder::Group(id), "path").await?;
    }
    let mut row = group.into_active_model();
    change(&mut row.name, changes.name);
    change(&mut row.path, changes.path);
    change(&mut row.description, changes.description);
    change(&mut row.visibility, changes.visibility);
    change(&mut row.runner_token_expiration_interval, changes.runner_token_expiration_interval);
    change(&mut row.subgroup_runner_token_expiration_interval, changes.subgroup_runner_token_expiration_interval);
    change(&mut row.project_runner_token_expiration_interval, changes.project_runner_token_expiration_interval);
    row.update(&tx).await?;
    let group = Entity::find_by_id(id).one(&tx).await?.ok_or(Error::GroupNotFound)?;
    tx.commit().await?;
    Ok(group)
}

/// A group may be seen by no more callers than its parent, and by no fewer than what it holds.
async fn check_visibility(tx: &DatabaseTransaction, group: &Model, visibility: Visibility) -> Result<()> {
    let refuse =
        |why: String| Err(Error::invalid("visibility_level", format!("{} is not allowed {why}", visibility.name())));
    if let Some(parent_id) = group.parent_id {
        let parent = Entity::find_by_id(parent_id).one(tx).await?.ok_or(Error::GroupNotFound)?;
        if visibility > parent.visibility {
            return refuse(format!("since the parent group has a {} visibility", parent.visibility.name()));
        }
    }
    let more_visible_project = project::Entity::find()
        .filter(project::Column::GroupId.eq(group.id))
        .filter(project::Column::Visibility.gt(visibility));
    if more_visible_project.one(tx).await?.is_some() {
        return refuse("since this group contains projects with higher visibility".to_owned());
    }
    let more_visible_group =
        Entity::find().filter(Column::ParentId.eq(group.id)).filter(Column::Visibility.gt(visibility));
    if more_visible_group.one(tx).await?.is_some() {
        return refuse("since there are sub-groups with higher visibility".to_owned());
    }
    Ok(())
}

/// Deletes a group with everything below it.
pub async fn delete(database: &DatabaseConnection, id: i64) -> Result<()> {
    let tx = super::begin(database).await?;
    lock_tree(&tx, id, LockType::Update).await?;
    Entity::delete_by_id(id).exec(&tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Locks the top-level group above, which never changes; false if the group is gone. SQLite has one writer at a time
/// anyway.
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

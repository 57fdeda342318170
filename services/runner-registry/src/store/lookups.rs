//! Look-ups for other processes, in as few statements as possible: each access of a job waits for some of them.

use std::collections::{HashMap, HashSet};

use proto::role::Role;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait, JoinType, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, RelationTrait as _,
    sea_query::{Expr, Query},
};

use super::{
    projects::{self, LocatedProject, Namespace},
    roles,
};
use crate::{
    directory::paths::ObjectId,
    entity::{Visibility, group, group_ancestor, member, project, user},
    error::Result,
};

/// Who asks which objects are visible.
#[derive(Clone, Copy, Debug)]
pub enum Viewer {
    /// A caller who is not signed in.
    SignedOut,
    /// A user who is not an administrator.
    User(i64),
    /// An administrator.
    Admin,
}

/// A project with the ids of the groups above it, the nearest first.
pub async fn project(db: &impl ConnectionTrait, id: &ObjectId) -> Result<Option<(LocatedProject, Vec<i64>)>> {
    let Some(project) = projects::find(db, id).await? else { return Ok(None) };
    let Some(group_id) = project.group_id else {
        let owner = user::Entity::find().filter(user::Column::Id.eq(project.owner_id)).one(db).await?;
        return Ok(owner.map(|user| (LocatedProject { project, namespace: Namespace::User(user) }, Vec::new())));
    };
    let mut above = group::Entity::find()
        .join_rev(JoinType::InnerJoin, group_ancestor::Relation::Ancestor.def())
        .filter(group_ancestor::Column::GroupId.eq(group_id))
        .order_by_asc(group_ancestor::Column::Distance)
        .all(db)
        .await?;
    let ids = above.iter().map(|group| group.id).collect();
    let full_name = above.iter().rev().map(|group| group.name.as_str()).collect::<Vec<_>>().join(" / ");
    let nearest = above.drain(..).next();
    Ok(nearest.map(|group| (LocatedProject { project, namespace: Namespace::Group(group, full_name) }, ids)))
}

/// A user, and the greatest role that it has in a project.
pub async fn user_in_project(
    db: &impl ConnectionTrait,
    user_id: i64,
    project: &project::Model,
) -> Result<Option<(user::Model, Option<Role>)>> {
    let role = Query::select()
        .expr(member::Column::AccessLevel.max())
        .from(member::Entity)
        .and_where(member::Column::UserId.eq(user_id))
        .cond_where(roles::in_project(project))
        .to_owned();
    let found = user::Entity::find_by_id(user_id).expr_as(Expr::from(role), "role").into_model::<WithRole>();
    let found = found.one(db).await?;
    Ok(found.map(|WithRole { user, role }| {
        let is_owner = project.owner_id == Some(user.id);
        let role = if is_owner { Some(Role::Owner) } else { role.and_then(Role::from_number) };
        (user, role)
    }))
}

#[derive(sea_orm::FromQueryResult)]
struct WithRole {
    #[sea_orm(nested)]
    user: user::Model,
    role: Option<i32>,
}

/// The projects with these ids, and the ids of those that the viewer sees.
pub async fn projects(
    db: &impl ConnectionTrait,
    ids: &[i64],
    viewer: Viewer,
) -> Result<(Vec<LocatedProject>, HashSet<i64>)> {
    let found = project::Entity::find().filter(project::Column::Id.is_in(ids.iter().copied())).all(db).await?;
    let objects = found.iter().map(|project| (project.id, project.visibility)).collect();
    let visible =
        visible_ids::<project::Entity>(db, objects, viewer, project::Column::Id, roles::visible_projects).await?;
    Ok((projects::locate(db, found).await?, visible))
}

/// The groups with these ids, and the ids of those that the viewer sees.
pub async fn groups(
    db: &impl ConnectionTrait,
    ids: &[i64],
    viewer: Viewer,
) -> Result<(Vec<group::Model>, HashSet<i64>)> {
    let found = group::Entity::find().filter(group::Column::Id.is_in(ids.iter().copied())).all(db).await?;
    let objects = found.iter().map(|group| (group.id, group.visibility)).collect();
    let visible = visible_ids::<group::Entity>(db, objects, viewer, group::Column::Id, roles::visible_groups).await?;
    Ok((found, visible))
}

/// The ids of those objects that the viewer sees. Roles are read only if visibility alone does not show everything.
async fn visible_ids<E: EntityTrait>(
    db: &impl ConnectionTrait,
    objects: Vec<(i64, Visibility)>,
    viewer: Viewer,
    id_column: E::Column,
    visible_to: fn(i64) -> Condition,
) -> Result<HashSet<i64>> {
    let open: HashSet<i64> =
        objects.iter().filter(|(_, visibility)| is_open(*visibility, viewer)).map(|(id, _)| *id).collect();
    let Viewer::User(user_id) = viewer else { return Ok(open) };
    if open.len() == objects.len() {
        return Ok(open);
    }
    let ids = objects.into_iter().map(|(id, _)| id);
    let seen = E::find().filter(id_column.is_in(ids)).filter(visible_to(user_id)).select_only().column(id_column);
    Ok(seen.into_tuple::<i64>().all(db).await?.into_iter().collect())
}

/// Reports whether the viewer sees such an object without a role in it.
fn is_open(visibility: Visibility, viewer: Viewer) -> bool {
    match viewer {
        Viewer::SignedOut => visibility == Visibility::Public,
        Viewer::User(_) => visibility != Visibility::Private,
        Viewer::Admin => true,
    }
}

/// The ids of each of the groups and of all groups above it, the nearest first.
pub async fn ancestors(db: &impl ConnectionTrait, group_ids: HashSet<i64>) -> Result<HashMap<i64, Vec<i64>>> {
    let rows: Vec<(i64, i64)> = group_ancestor::Entity::find()
        .filter(group_ancestor::Column::GroupId.is_in(group_ids))
        .order_by_asc(group_ancestor::Column::Distance)
        .select_only()
        .column(group_ancestor::Column::GroupId)
        .column(group_ancestor::Column::AncestorId)
        .into_tuple()
        .all(db)
        .await?;
    let mut ancestors = HashMap::<i64, Vec<i64>>::new();
    for (group_id, ancestor_id) in rows {
        ancestors.entry(group_id).or_default().push(ancestor_id);
    }
    Ok(ancestors)
}

/// The users with these ids.
pub async fn users(db: &impl ConnectionTrait, ids: &[i64]) -> Result<Vec<user::Model>> {
    Ok(user::Entity::find().filter(user::Column::Id.is_in(ids.iter().copied())).all(db).await?)
}

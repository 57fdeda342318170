//! Roles. A role in a group holds in everything below it, so every query here goes through the closure of the group
//! tree.

use proto::role::Role;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter as _, QuerySelect as _,
    sea_query::{Expr, ExprTrait as _, Query, SelectStatement},
};

use crate::{
    entity::{Visibility, group, group_ancestor, member, project},
    error::{Error, Result},
};

/// What has members.
#[derive(Clone, Copy, Debug)]
pub enum MemberSource {
    /// A group.
    Group(i64),
    /// A project.
    Project(i64),
}

impl MemberSource {
    /// The rows of its direct members.
    pub fn direct(self) -> Condition {
        Condition::all().add(match self {
            Self::Group(id) => member::Column::GroupId.eq(id),
            Self::Project(id) => member::Column::ProjectId.eq(id),
        })
    }

    /// A row that makes a user a direct member.
    pub fn member(self, user_id: i64, role: Role) -> member::ActiveModel {
        let (group_id, project_id) = match self {
            Self::Group(id) => (Some(id), None),
            Self::Project(id) => (None, Some(id)),
        };
        member::ActiveModel {
            id: NotSet,
            user_id: Set(user_id),
            group_id: Set(group_id),
            project_id: Set(project_id),
            access_level: Set(role.number()),
        }
    }

    /// The error for a group or a project that no longer exists.
    pub fn gone(self) -> Error {
        match self {
            Self::Group(_) => Error::GroupNotFound,
            Self::Project(_) => Error::ProjectNotFound,
        }
    }
}

/// The role of a user in a group.
pub async fn role_in_group(db: &impl ConnectionTrait, user_id: i64, group_id: i64) -> Result<Option<Role>> {
    greatest_role(db, user_id, in_group(group_id)).await
}

/// The role of a user in a project: the owner of the namespace it lives in owns it.
pub async fn role_in_project(
    db: &impl ConnectionTrait,
    user_id: i64,
    project: &project::Model,
) -> Result<Option<Role>> {
    if project.owner_id == Some(user_id) {
        return Ok(Some(Role::Owner));
    }
    greatest_role(db, user_id, in_project(project)).await
}

/// The rows that give a role in a group.
pub fn in_group(group_id: i64) -> Condition {
    Condition::all().add(member::Column::GroupId.in_subquery(ancestors(group_id)))
}

/// The rows that give a role in a project.
pub fn in_project(project: &project::Model) -> Condition {
    let through = project.group_id.map(|group_id| member::Column::GroupId.in_subquery(ancestors(group_id)));
    Condition::any().add(member::Column::ProjectId.eq(project.id)).add_option(through)
}

/// The ids of the groups in which the user has at least the role.
pub fn groups_with_role(user_id: i64, least: Role) -> SelectStatement {
    Query::select()
        .distinct()
        .column((group_ancestor::Entity, group_ancestor::Column::GroupId))
        .from(group_ancestor::Entity)
        .inner_join(
            member::Entity,
            Expr::col((member::Entity, member::Column::GroupId))
                .equals((group_ancestor::Entity, group_ancestor::Column::AncestorId)),
        )
        .and_where(member::Column::UserId.eq(user_id))
        .and_where(member::Column::AccessLevel.gte(least.number()))
        .to_owned()
}

/// The projects in which the user has at least the role.
pub fn projects_with_role(user_id: i64, least: Role) -> Condition {
    let direct = Query::select()
        .column(member::Column::ProjectId)
        .from(member::Entity)
        .and_where(member::Column::UserId.eq(user_id))
        .and_where(member::Column::ProjectId.is_not_null())
        .and_where(member::Column::AccessLevel.gte(least.number()))
        .to_owned();
    Condition::any()
        .add(project::Column::OwnerId.eq(user_id))
        .add(project::Column::Id.in_subquery(direct))
        .add(project::Column::GroupId.in_subquery(groups_with_role(user_id, least)))
}

/// The groups that a user who is not an administrator sees.
pub fn visible_groups(user_id: i64) -> Condition {
    Condition::any()
        .add(group::Column::Visibility.ne(Visibility::Private))
        .add(group::Column::Id.in_subquery(groups_with_role(user_id, Role::Guest)))
}

/// The projects that a user who is not an administrator sees.
pub fn visible_projects(user_id: i64) -> Condition {
    projects_with_role(user_id, Role::Guest).add(project::Column::Visibility.ne(Visibility::Private))
}

/// Makes the creator of a group or a project its owner.
pub async fn add_owner(tx: &DatabaseTransaction, source: MemberSource, user_id: i64) -> Result<()> {
    let owner = source.member(user_id, Role::Owner);
    let inserted = member::Entity::insert(owner).exec_without_returning(tx).await;
    inserted.map_err(|error| Error::on_gone(error, Error::UserNotFound))?;
    Ok(())
}

/// The ids of a group and of all groups above it.
pub fn ancestors(group_id: i64) -> SelectStatement {
    Query::select()
        .column(group_ancestor::Column::AncestorId)
        .from(group_ancestor::Entity)
        .and_where(group_ancestor::Column::GroupId.eq(group_id))
        .to_owned()
}

async fn greatest_role(db: &impl ConnectionTrait, user_id: i64, rows: Condition) -> Result<Option<Role>> {
    let number: Option<Option<i32>> = member::Entity::find()
        .filter(member::Column::UserId.eq(user_id))
        .filter(rows)
        .select_only()
        .column_as(member::Column::AccessLevel.max(), "role")
        .into_tuple()
        .one(db)
        .await?;
    Ok(number.flatten().and_then(Role::from_number))
}

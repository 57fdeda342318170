//! Who is a member of one group or project: the rows themselves, where `members` answers which role follows from them.

use std::collections::HashMap;

use chassis::db::paging::{Paged, Window};
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseConnection, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, ModelTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::{LockType, Query},
};

use super::{groups, members, users};
use crate::{
    entity::{
        member::{self, AccessLevel, Column, Entity, Model},
        user,
    },
    error::{Error, Result},
};

/// Where somebody is a member.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// In a group.
    Group(i64),
    /// In a project.
    Project(i64),
}

/// A user with a role.
#[derive(Debug)]
pub struct Membership {
    /// The user.
    pub user: user::Model,
    /// The role.
    pub access_level: AccessLevel,
}

impl Place {
    /// The rows of the place itself.
    pub fn direct(self) -> Condition {
        Condition::all().add(match self {
            Self::Group(id) => Column::GroupId.eq(id),
            Self::Project(id) => Column::ProjectId.eq(id),
        })
    }

    fn gone(self) -> Error {
        match self {
            Self::Group(_) => Error::GroupNotFound,
            Self::Project(_) => Error::ProjectNotFound,
        }
    }
}

/// A page of the users that these rows, or the ownership of a personal namespace, give a role, each with the greatest one,
/// by id.
pub async fn list(
    db: &impl ConnectionTrait,
    rows: Condition,
    namespace_owner: Option<i64>,
    window: Window,
) -> Result<Paged<Membership>> {
    let ids = Query::select().column(Column::UserId).from(Entity).cond_where(rows.clone()).to_owned();
    let condition = Condition::any()
        .add(user::Column::Id.in_subquery(ids))
        .add_option(namespace_owner.map(|id| user::Column::Id.eq(id)));
    let query = user::Entity::find().filter(condition).order_by_asc(user::Column::Id);
    let Paged { items, page } = window.fetch(query, db).await?;
    let roles = greatest(db, rows, items.iter().map(|user| user.id).collect()).await?;
    let items = items.into_iter().filter_map(|user| {
        let owns = (namespace_owner == Some(user.id)).then_some(AccessLevel::Owner);
        let access_level = owns.or_else(|| roles.get(&user.id).copied())?;
        Some(Membership { user, access_level })
    });
    Ok(Paged { items: items.collect(), page })
}

async fn greatest(db: &impl ConnectionTrait, rows: Condition, user_ids: Vec<i64>) -> Result<HashMap<i64, AccessLevel>> {
    let roles: Vec<(i64, AccessLevel)> = Entity::find()
        .filter(rows)
        .filter(Column::UserId.is_in(user_ids))
        .select_only()
        .column(Column::UserId)
        .column_as(Column::AccessLevel.max(), "role")
        .group_by(Column::UserId)
        .into_tuple()
        .all(db)
        .await?;
    Ok(roles.into_iter().collect())
}

/// A direct member.
pub async fn find(db: &impl ConnectionTrait, place: Place, user_id: i64) -> Result<Membership> {
    let row = Entity::find().filter(place.direct()).filter(Column::UserId.eq(user_id)).one(db).await?;
    let access_level = row.ok_or(Error::MemberNotFound)?.access_level;
    Ok(Membership { user: users::find(db, user_id).await?, access_level })
}

/// Gives a user a role. The unique index decides between two calls at the same moment.
pub async fn add(
    database: &DatabaseConnection,
    place: Place,
    user_id: i64,
    access_level: AccessLevel,
) -> Result<Membership> {
    let tx = super::begin(database).await?;
    // With the user kept in place, a missing reference below can only be the group or the project.
    let user = users::lock(&tx, user_id, LockType::Share).await?;
    let (group_id, project_id) = match place {
        Place::Group(id) => (Some(id), None),
        Place::Project(id) => (None, Some(id)),
    };
    let row = member::ActiveModel {
        id: NotSet,
        user_id: Set(user_id),
        group_id: Set(group_id),
        project_id: Set(project_id),
        access_level: Set(access_level),
    };
    row.insert(&tx).await.map_err(|error| match Error::on_unique(error, Error::MemberExists) {
        Error::Database(error) => Error::on_gone(error, place.gone()),
        error => error,
    })?;
    tx.commit().await?;
    Ok(Membership { user, access_level })
}

/// Changes the role of a direct member, or takes it away. `check` is asked about the role that the member has.
pub async fn change(
    database: &DatabaseConnection,
    place: Place,
    user_id: i64,
    to: Option<AccessLevel>,
    check: impl FnOnce(AccessLevel) -> Result<()>,
) -> Result<()> {
    let tx = super::begin(database).await?;
    if let Place::Group(id) = place {
        // Two owners who remove each other take turns, so that the second one is seen to be the last.
        groups::lock_tree(&tx, id, LockType::Update).await?;
    }
    let query = Entity::find().filter(place.direct()).filter(Column::UserId.eq(user_id));
    let row = query.lock_exclusive().one(&tx).await?.ok_or(Error::MemberNotFound)?;
    check(row.access_level)?;
    if row.access_level == AccessLevel::Owner && to != Some(AccessLevel::Owner) {
        check_other_owner(&tx, &row).await?;
    }
    match to {
        Some(access_level) => {
            let mut row = row.into_active_model();
            row.access_level = Set(access_level);
            row.update(&tx).await?;
        }
        None => {
            row.delete(&tx).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// A group keeps an owner, in itself or above. A project needs none of its own: its namespace has one.
async fn check_other_owner(tx: &DatabaseTransaction, row: &Model) -> Result<()> {
    let Some(group_id) = row.group_id else { return Ok(()) };
    let others = Entity::find()
        .filter(members::in_group(group_id))
        .filter(Column::AccessLevel.eq(AccessLevel::Owner))
        .filter(Column::Id.ne(row.id));
    if others.count(tx).await? == 0 {
        return Err(Error::LastOwner);
    }
    Ok(())
}

//! The direct members of a group or a project. `roles` says which role follows from them, here and above.

use std::collections::HashMap;

use chassis::db::paging::{Paged, Window};
use proto::role::Role;
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::Set,
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseConnection, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, ModelTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::{LockType, Query},
};

use super::{
    groups,
    roles::{self, MemberSource},
    users,
};
use crate::{
    entity::{
        member::{Column, Entity, Model},
        user,
    },
    error::{Error, Result},
};

/// A user with a role.
#[derive(Debug)]
pub struct Membership {
    /// The user.
    pub user: user::Model,
    /// The role.
    pub role: Role,
}

/// A page of the users that these rows, or the ownership of a personal namespace, give a role, each with the greatest
/// one, by id.
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
    let roles = greatest_roles(db, rows, items.iter().map(|user| user.id).collect()).await?;
    let items = items.into_iter().filter_map(|user| {
        let role = if namespace_owner == Some(user.id) { Some(Role::Owner) } else { roles.get(&user.id).copied() };
        Some(Membership { user, role: role? })
    });
    Ok(Paged { items: items.collect(), page })
}

async fn greatest_roles(db: &impl ConnectionTrait, rows: Condition, user_ids: Vec<i64>) -> Result<HashMap<i64, Role>> {
    let numbers: Vec<(i64, i32)> = Entity::find()
        .filter(rows)
        .filter(Column::UserId.is_in(user_ids))
        .select_only()
        .column(Column::UserId)
        .column_as(Column::AccessLevel.max(), "role")
        .group_by(Column::UserId)
        .into_tuple()
        .all(db)
        .await?;
    Ok(numbers.into_iter().filter_map(|(user_id, number)| Some((user_id, Role::from_number(number)?))).collect())
}

/// A direct member.
pub async fn find(db: &impl ConnectionTrait, source: MemberSource, user_id: i64) -> Result<Membership> {
    let row = Entity::find().filter(source.direct()).filter(Column::UserId.eq(user_id)).one(db).await?;
    let role = known_role(&row.ok_or(Error::MemberNotFound)?)?;
    Ok(Membership { user: users::find(db, user_id).await?, role })
}

/// Gives a user a role. The unique index decides between two calls at the same moment.
pub async fn add(database: &DatabaseConnection, source: MemberSource, user_id: i64, role: Role) -> Result<Membership> {
    let tx = super::begin(database).await?;
    // While the user is locked, a missing reference below can only be the group or the project.
    let user = users::lock(&tx, user_id, LockType::Share).await?;
    source.member(user_id, role).insert(&tx).await.map_err(|error| {
        match Error::on_unique(error, Error::MemberExists) {
            Error::Database(error) => Error::on_gone(error, source.gone()),
            error => error,
        }
    })?;
    tx.commit().await?;
    Ok(Membership { user, role })
}

/// Changes the role of a direct member, or takes it away. `check` decides about the role that the member has.
pub async fn change(
    database: &DatabaseConnection,
    source: MemberSource,
    user_id: i64,
    to: Option<Role>,
    check: impl FnOnce(Role) -> Result<()>,
) -> Result<()> {
    let tx = super::begin(database).await?;
    if let MemberSource::Group(id) = source {
        // Two owners who remove each other take turns, so that the second one is recognized as the last.
        groups::lock_tree(&tx, id, LockType::Update).await?;
    }
    let query = Entity::find().filter(source.direct()).filter(Column::UserId.eq(user_id));
    let row = query.lock_exclusive().one(&tx).await?.ok_or(Error::MemberNotFound)?;
    let role = known_role(&row)?;
    check(role)?;
    if role == Role::Owner && to != Some(Role::Owner) {
        check_other_owner(&tx, &row).await?;
    }
    match to {
        Some(role) => {
            let mut row = row.into_active_model();
            row.access_level = Set(role.number());
            row.update(&tx).await?;
        }
        None => {
            row.delete(&tx).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

fn known_role(row: &Model) -> Result<Role> {
    row.role().ok_or_else(|| Error::internal(format!("member {} has no known role", row.id)))
}

/// Checks that a group keeps an owner, itself or from above. A project needs no owner, because its namespace has one.
async fn check_other_owner(tx: &DatabaseTransaction, row: &Model) -> Result<()> {
    let Some(group_id) = row.group_id else { return Ok(()) };
    let others = Entity::find()
        .filter(roles::in_group(group_id))
        .filter(Column::AccessLevel.eq(Role::Owner.number()))
        .filter(Column::Id.ne(row.id));
    if others.count(tx).await? == 0 {
        return Err(Error::LastOwner);
    }
    Ok(())
}

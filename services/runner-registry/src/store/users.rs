//! Users. The username is the path of the personal namespace, so it is unique among users and groups.

use chassis::db::paging::{Paged, Window};
use proto::timestamp::millis;
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::LockType,
};
use time::OffsetDateTime;

use super::{
    routes::{self, PathOwner},
    search, set_if_given,
};
use crate::{
    entity::user::{self, Column, Entity, Model},
    error::{Error, Result},
};

/// A user to create; its texts are checked, its e-mail address is in lower case.
#[derive(Debug)]
pub struct New {
    /// See the column.
    pub username: String,
    /// See the column.
    pub name: String,
    /// See the column.
    pub email: String,
    /// See the column.
    pub admin: bool,
}

/// The columns to change, each with its new value; the texts are checked.
#[derive(Debug, Default)]
pub struct Changes {
    /// See the column; the paths of the personal projects follow.
    pub username: Option<String>,
    /// See the column.
    pub name: Option<String>,
    /// See the column.
    pub email: Option<String>,
    /// See the column.
    pub admin: Option<bool>,
}

/// The user with the id.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Model> {
    Entity::find_by_id(id).one(db).await?.ok_or(Error::UserNotFound)
}

/// The administrator with the smallest id.
pub async fn first_admin(db: &impl ConnectionTrait) -> Result<Option<Model>> {
    Ok(Entity::find().filter(Column::Admin.eq(true)).order_by_asc(Column::Id).one(db).await?)
}

/// Reports whether there is any user.
pub async fn is_any(db: &impl ConnectionTrait) -> Result<bool> {
    Ok(Entity::find().count(db).await? > 0)
}

/// A page of users, the newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    username: Option<&str>,
    search: Option<&str>,
    window: Window,
) -> Result<Paged<Model>> {
    let condition = Condition::all()
        .add_option(username.map(|username| search::equals(Column::Username, username)))
        .add_option(search.map(|text| search::contains(&[Column::Name, Column::Username], text)));
    Ok(window.fetch(Entity::find().filter(condition).order_by_desc(Column::Id), db).await?)
}

/// Reads a user and keeps others from changing the username until the transaction ends.
pub async fn lock(tx: &DatabaseTransaction, id: i64, lock: LockType) -> Result<Model> {
    Entity::find_by_id(id).lock(lock).one(tx).await?.ok_or(Error::UserNotFound)
}

/// Creates a user.
pub async fn create(tx: &DatabaseTransaction, new: New, now: OffsetDateTime) -> Result<Model> {
    let row = user::ActiveModel {
        id: NotSet,
        username: Set(new.username),
        name: Set(new.name),
        email: Set(new.email),
        admin: Set(new.admin),
        created_at: Set(millis(now)),
    };
    let user = row.insert(tx).await.map_err(email_taken)?;
    routes::take(tx, &user.username, PathOwner::User(user.id), "username").await?;
    Ok(user)
}

/// Changes a user.
pub async fn update(database: &DatabaseConnection, id: i64, changes: Changes) -> Result<Model> {
    let tx = super::begin(database).await?;
    let user = lock(&tx, id, LockType::Update).await?;
    if let Some(username) = changes.username.as_ref().filter(|username| **username != user.username) {
        routes::rename(&tx, &user.username, username, PathOwner::User(id), "username").await?;
    }
    let mut row = user.into_active_model();
    set_if_given(&mut row.username, changes.username);
    set_if_given(&mut row.name, changes.name);
    set_if_given(&mut row.email, changes.email);
    set_if_given(&mut row.admin, changes.admin);
    let user = row.update(&tx).await.map_err(email_taken)?;
    tx.commit().await?;
    Ok(user)
}

/// Deletes a user with the tokens and the personal projects.
pub async fn delete(db: &impl ConnectionTrait, id: i64) -> Result<()> {
    let deleted = Entity::delete_by_id(id).exec(db).await?;
    if deleted.rows_affected == 0 { Err(Error::UserNotFound) } else { Ok(()) }
}

/// The e-mail address is the one unique column of the table.
fn email_taken(error: DbErr) -> Error {
    Error::on_unique(error, Error::invalid("email", "has already been taken"))
}

//! Personal access tokens, by their digests.

use proto::{paddock::contract::v1::TokenScope, timestamp::millis};
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, QueryFilter as _,
    sea_query::Expr,
};
use time::OffsetDateTime;
use token::Digest;

use crate::{
    entity::{
        StringList,
        personal_access_token::{self, Column, Entity, Model},
        user,
    },
    error::{Error, Result},
};

/// A token to create.
#[derive(Debug)]
pub struct New<'a> {
    /// See the column.
    pub user_id: i64,
    /// See the column.
    pub name: String,
    /// The digest of the token.
    pub digest: Digest,
    /// See the column.
    pub scopes: &'a [TokenScope],
    /// See the column.
    pub expires_at: Option<OffsetDateTime>,
}

/// The token with the digest, and its user.
pub async fn find(db: &impl ConnectionTrait, digest: &Digest) -> Result<Option<(Model, user::Model)>> {
    let query = Entity::find().filter(Column::Digest.eq(digest.as_bytes().to_vec())).find_also_related(user::Entity);
    Ok(query.one(db).await?.and_then(|(token, user)| Some((token, user?))))
}

/// Creates a token.
pub async fn create(tx: &DatabaseTransaction, new: New<'_>, now: OffsetDateTime) -> Result<Model> {
    let row = personal_access_token::ActiveModel {
        id: NotSet,
        user_id: Set(new.user_id),
        name: Set(new.name),
        digest: Set(new.digest.as_bytes().to_vec()),
        scopes: Set(StringList(new.scopes.iter().map(|scope| scope.name().to_owned()).collect())),
        expires_at: Set(new.expires_at.map(millis)),
        revoked_at: Set(None),
        created_at: Set(millis(now)),
        last_used_at: Set(None),
    };
    row.insert(tx).await.map_err(|error| Error::on_gone(error, Error::UserNotFound))
}

/// Records that a token authenticated.
pub async fn touch(db: &impl ConnectionTrait, id: i64, now: OffsetDateTime) -> Result<()> {
    let update = Entity::update_many().col_expr(Column::LastUsedAt, Expr::val(millis(now))).filter(Column::Id.eq(id));
    update.exec(db).await?;
    Ok(())
}

/// Revokes every token of a user that has this name.
pub async fn revoke_named(db: &impl ConnectionTrait, user_id: i64, name: &str, now: OffsetDateTime) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::RevokedAt, Expr::val(millis(now)))
        .filter(Column::UserId.eq(user_id))
        .filter(Column::Name.eq(name))
        .filter(Column::RevokedAt.is_null())
        .exec(db)
        .await?;
    Ok(())
}

//! The first user. A new instance has nobody who could create one, so the process that owns the data does.

use chassis::clock::Clock;
use proto::paddock::contract::v1::TokenScope;
use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::{
    error::{Error, Result},
    migration,
    store::{self, access_tokens, users},
    token::UserToken,
};

/// The username of the first administrator.
const USERNAME: &str = "root";

/// What the tokens of the first administrator are for.
const TOKEN_NAME: &str = "first start";

/// When there is no user: brings the schema up to date, creates the administrator `root`, and returns a personal access
/// token with every scope that never expires. None: there are users, nothing was done.
///
/// # Errors
/// Those of the database.
pub async fn bootstrap_root(database: &DatabaseConnection, clock: &Clock) -> Result<Option<UserToken>> {
    migration::up(database).await?;
    let tx = store::begin(database).await?;
    if users::is_any(&tx).await? {
        return Ok(None);
    }
    let root = users::New {
        username: USERNAME.to_owned(),
        name: "Administrator".to_owned(),
        email: "root@localhost".to_owned(),
        admin: true,
    };
    let user = match users::create(&tx, root, clock.now()).await {
        // Another process was faster.
        Err(Error::ValidationFailed(_)) => return Ok(None),
        user => user?,
    };
    let token = issue(&tx, user.id, clock).await?;
    tx.commit().await?;
    Ok(Some(token))
}

/// A further personal access token, as [`bootstrap_root`] makes it, for the administrator with the smallest id. It
/// replaces one that was lost.
///
/// # Errors
/// [`Error::UserNotFound`] if there is no administrator, or those of the database.
pub async fn issue_root_token(database: &DatabaseConnection, clock: &Clock) -> Result<UserToken> {
    let admin = users::first_admin(database).await?.ok_or(Error::UserNotFound)?;
    issue(database, admin.id, clock).await
}

async fn issue(db: &impl ConnectionTrait, user_id: i64, clock: &Clock) -> Result<UserToken> {
    let token = UserToken::generate().map_err(Error::internal)?;
    let new = access_tokens::New {
        user_id,
        name: TOKEN_NAME.to_owned(),
        digest: token.digest(),
        scopes: &TokenScope::ALL,
        expires_at: None,
    };
    access_tokens::create(db, new, clock.now()).await?;
    Ok(token)
}

//! The first user. A new instance has no user who could create another one, so the process that owns the data does it.

use std::{io, path::Path};

use chassis::{clock::Clock, secrets::write_private};
use proto::paddock::contract::v1::TokenScope;
use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::{
    directory::user_token::UserToken,
    error::{Error, Result},
    migration,
    store::{self, access_tokens, users},
};

/// The username of the first administrator.
const USERNAME: &str = "root";

/// The name of the tokens of the first administrator.
const TOKEN_NAME: &str = "first start";

/// Brings the schema up to date. If there is no user, creates the administrator `root` with a personal access token
/// that has every scope and never expires, and returns true. `keep` stores the token. It is called before the user is
/// committed, so that a crash cannot leave a user whose token is lost.
///
/// # Errors
/// Those of the database, and that of `keep`.
pub async fn bootstrap_root(
    database: &DatabaseConnection,
    clock: &Clock,
    keep: impl FnOnce(&UserToken) -> io::Result<()>,
) -> Result<bool> {
    migration::up(database).await?;
    let tx = store::begin(database).await?;
    if users::is_any(&tx).await? {
        return Ok(false);
    }
    let root = users::New {
        username: USERNAME.to_owned(),
        name: "Administrator".to_owned(),
        email: "root@localhost".to_owned(),
        admin: true,
    };
    let user = match users::create(&tx, root, clock.now()).await {
        // Another process created the user first.
        Err(Error::ValidationFailed(_)) => return Ok(false),
        user => user?,
    };
    let token = issue_root_token(&tx, user.id, clock).await?;
    keep(&token).map_err(|error| Error::internal(format!("cannot keep the token of {USERNAME}: {error}")))?;
    tx.commit().await?;
    Ok(true)
}

/// Does the same as [`bootstrap_root`], and keeps the token in a file that only its owner can read.
///
/// # Errors
/// Those of the database, and if the file cannot be written.
pub async fn bootstrap_root_into(database: &DatabaseConnection, clock: &Clock, file: &Path) -> Result<()> {
    if bootstrap_root(database, clock, |token| write_private(file, token.expose().as_bytes())).await? {
        tracing::info!(file = %file.display(), "created the user root and wrote its token");
    }
    Ok(())
}

/// Issues another root token to the administrator with the smallest id, and revokes those that this function and
/// [`bootstrap_root`] issued to it before.
///
/// # Errors
/// [`Error::UserNotFound`] if there is no administrator, or those of the database.
pub async fn replace_root_token(database: &DatabaseConnection, clock: &Clock) -> Result<UserToken> {
    let tx = store::begin(database).await?;
    let admin = users::first_admin(&tx).await?.ok_or(Error::UserNotFound)?;
    access_tokens::revoke_named(&tx, admin.id, TOKEN_NAME, clock.now()).await?;
    let token = issue_root_token(&tx, admin.id, clock).await?;
    tx.commit().await?;
    Ok(token)
}

async fn issue_root_token(tx: &DatabaseTransaction, user_id: i64, clock: &Clock) -> Result<UserToken> {
    let token = UserToken::generate().map_err(Error::internal)?;
    let new = access_tokens::New {
        user_id,
        name: TOKEN_NAME.to_owned(),
        digest: token.digest(),
        scopes: &TokenScope::ALL,
        expires_at: None,
    };
    access_tokens::create(tx, new, clock.now()).await?;
    Ok(token)
}

//! The services of the contract: complete? → convert → one store call → convert back. What a caller may do with an
//! object is decided here, by the rules of `permission`.

use std::sync::Arc;

use chassis::{access, clock::Clock};
use sea_orm::DatabaseConnection;
use tonic::{Request, Status};

use crate::{config::Config, runner::seal::SealKeys};

mod access_tokens;
pub mod convert;
pub mod directory;
pub mod groups;
pub mod instance;
pub mod mask;
pub mod members;
pub mod objects;
pub mod projects;
pub mod runner_tokens;
pub mod runners;
pub mod users;

/// What every handler stands on.
#[derive(Clone)]
pub struct State {
    /// The settings.
    pub config: Arc<Config>,
    /// Where the records are.
    pub database: DatabaseConnection,
    /// What seals the successor of a runner token.
    pub seal: Arc<SealKeys>,
    /// Tells the time.
    pub clock: Clock,
}

/// The calling user and the message.
///
/// # Errors
/// A fault for a caller that the access table keeps away.
pub fn by_user<T>(request: Request<T>) -> Result<(access::User, T), Status> {
    let user = access::context(&request)?.user()?.clone();
    Ok((user, request.into_inner()))
}

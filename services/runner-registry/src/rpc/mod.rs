//! The services of the contract. Each handler checks the request, converts it, calls the store, and converts the
//! result. The rules of `permission` decide here what a caller may do with an object.

use std::sync::Arc;

use chassis::{access, clock::Clock};
use sea_orm::DatabaseConnection;
use tokio::sync::Semaphore;
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
pub mod token_events;
pub mod users;

/// What every handler needs.
#[derive(Clone)]
pub struct State {
    /// The settings.
    pub config: Arc<Config>,
    /// The database of the records.
    pub database: DatabaseConnection,
    /// The keys that seal the successor of a runner token.
    pub seal: Arc<SealKeys>,
    /// The clock.
    pub clock: Clock,
    /// How many more events of runner tokens may be recorded at the moment; see [`token_events`].
    pub event_permits: Arc<Semaphore>,
}

/// Returns the calling user and the message.
///
/// # Errors
/// A fault for a caller that is not a user; the access table refuses it before.
pub fn by_user<T>(request: Request<T>) -> Result<(access::User, T), Status> {
    let user = access::context(&request)?.user()?.clone();
    Ok((user, request.into_inner()))
}

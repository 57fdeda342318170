//! The dependencies of the service.

use chassis::{client::PeerChannel, clock::Clock, identity::IdentityKeys, secrets::SecretBytes, server::ServerConfig};
use sea_orm::DatabaseConnection;

use crate::{config::Config, job_token::keys::SigningKeys};

/// The dependencies of the service.
pub struct Deps {
    /// The settings of the service.
    pub config: Config,
    /// The settings of its server.
    pub server: ServerConfig,
    /// The database with jobs, allowlists and the log.
    pub database: DatabaseConnection,
    /// The keys that verify the identity of callers.
    pub keys: IdentityKeys,
    /// The keys that sign job tokens and the identities for upstreams.
    pub signing: SigningKeys,
    /// The channel to runner-registry.
    pub registry: PeerChannel,
    /// The URL of the Redis that holds captures; none when the database holds them.
    pub redis_url: Option<SecretBytes>,
    /// The clock.
    pub clock: Clock,
}

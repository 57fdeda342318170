//! Decides what a CI job token may reach in another project, and keeps the log of every such access. It is a process of its
//! own and a function, so that a test or `paddock serve` runs the same thing.

use chassis::{
    client::PeerChannel,
    clock::Clock,
    db,
    identity::IdentityKeys,
    secrets::SecretBytes,
    server::{GrpcServer, ServerConfig},
};
use proto::paddock::{
    contract::v1::Process,
    job_token::v1::{
        authentication_log_service_server::AuthenticationLogServiceServer,
        authorization_service_server::AuthorizationServiceServer, job_service_server::JobServiceServer,
        scope_service_server::ScopeServiceServer,
    },
};
use sea_orm::DatabaseConnection;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod capture;
pub mod config;
pub mod directory;
pub mod entity;
pub mod error;
pub mod facts;
pub mod keys;
mod log;
pub mod migration;
pub mod policy;
mod rpc;
pub mod scope;
mod store;
#[cfg(test)]
mod tests;
pub mod token;
mod upstream;

pub use config::Config;
pub use error::Error;

/// What the service stands on.
pub struct Deps {
    /// The settings of the service.
    pub config: Config,
    /// The settings of its server.
    pub server: ServerConfig,
    /// Where jobs, allowlists and the log are.
    pub database: DatabaseConnection,
    /// What verifies who calls.
    pub keys: IdentityKeys,
    /// What signs job tokens and the identities for upstreams.
    pub signing: keys::SigningKeys,
    /// The channel to runner-registry.
    pub registry: PeerChannel,
    /// The URL of the Redis that holds captures; none when the database holds them.
    pub redis_url: Option<SecretBytes>,
    /// Tells the time.
    pub clock: Clock,
}

/// The service, with everything that it needs at hand.
pub struct Service {
    server: GrpcServer,
    database: DatabaseConnection,
    captures: capture::Captures,
    stopped: CancellationToken,
}

/// Prepares the service and serves until shutdown.
///
/// # Errors
/// As [`Service::prepare`] and [`Service::serve`].
pub async fn run(deps: Deps, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    Service::prepare(deps).await?.serve(listener, shutdown).await
}

impl Service {
    /// Brings the schema up to date and starts what moves captures on.
    ///
    /// # Errors
    /// If the schema cannot be brought up to date, or the store of captures cannot be used.
    pub async fn prepare(deps: Deps) -> Result<Self, Error> {
        migration::up(&deps.database).await?;
        let server = GrpcServer::new(Process::JobTokenAuth, deps.server.clone(), deps.keys.clone(), deps.clock.clone());
        let stopped = CancellationToken::new();
        let captures = capture::Captures::start(
            &deps.config.captures,
            deps.redis_url.as_ref(),
            capture::LogDatabase::new(deps.database.clone(), deps.config.max_connections),
            deps.clock.clone(),
            stopped.clone(),
        )
        .await?;
        rpc::authorization::describe_metrics();
        let database = deps.database.clone();
        let state = rpc::State::new(deps, captures.clone());
        let server = server
            .add_service(JobServiceServer::new(rpc::jobs::Jobs(state.clone())))
            .add_service(AuthorizationServiceServer::new(rpc::authorization::Authorization(state.clone())))
            .add_service(ScopeServiceServer::new(rpc::scope::Scope(state.clone())))
            .add_service(AuthenticationLogServiceServer::new(rpc::log::AuthenticationLog(state)));
        Ok(Self { server, database, captures, stopped })
    }

    /// Serves until shutdown, or until a background task of captures fails. It then writes the captures that calls left, and closes
    /// the database.
    ///
    /// # Errors
    /// If the listener, or a background task of captures fails.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let stop_serving = shutdown.child_token();
        let mut serving = std::pin::pin!(self.server.serve(listener, stop_serving.clone()));
        let served = tokio::select! {
            served = &mut serving => served,
            () = self.captures.failed() => {
                stop_serving.cancel();
                serving.await
            }
        };
        self.stopped.cancel();
        let captures_stopped = self.captures.stopped().await;
        db::close(&self.database).await;
        served.map_err(Error::internal)?;
        captures_stopped
    }
}

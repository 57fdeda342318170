//! Decides what a CI job token may reach in another project, and logs every such access. The service is a process and also a function,
//! so that tests and `paddock serve` run the same code.

use chassis::{
    db::{self, DatabaseConnection},
    server::GrpcServer,
};
use proto::paddock::{
    contract::v1::Process,
    job_token::v1::{
        authentication_log_service_server::AuthenticationLogServiceServer,
        authorization_service_server::AuthorizationServiceServer, job_service_server::JobServiceServer,
        scope_service_server::ScopeServiceServer,
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod allowlist;
pub mod capture;
pub mod config;
mod decision;
mod deps;
mod directory;
pub mod entity;
pub mod error;
mod export;
pub mod job_token;
pub mod migration;
mod rpc;
mod store;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use deps::Deps;
pub use error::Error;

/// The prepared service.
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
    /// Migrates the schema, and starts the tasks that move captures to the log.
    ///
    /// # Errors
    /// If the migration fails, or the store of captures cannot be used.
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
        let state = rpc::State::new(deps, captures.clone())?;
        let server = server
            .add_service(JobServiceServer::new(rpc::jobs::Jobs(state.clone())))
            .add_service(AuthorizationServiceServer::new(rpc::authorization::Authorization(state.clone())))
            .add_service(ScopeServiceServer::new(rpc::scope::Scope(state.clone())))
            .add_service(AuthenticationLogServiceServer::new(rpc::authentication_log::AuthenticationLog(state)));
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
            () = self.captures.wait_for_failure() => {
                stop_serving.cancel();
                serving.await
            }
        };
        self.stopped.cancel();
        let captures_stopped = self.captures.wait_until_stopped().await;
        db::close(&self.database).await;
        served.map_err(Error::internal)?;
        captures_stopped
    }
}

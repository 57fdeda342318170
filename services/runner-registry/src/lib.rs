//! Owns runner records and their tokens, and the directory they belong to: users, groups, projects, the settings of the
//! instance. The process `runner-registry`, `paddock serve` and the tests all call [`run`].

use std::sync::Arc;

use chassis::{
    clock::Clock,
    db,
    identity::IdentityKeys,
    server::{GrpcServer, ServerConfig},
};
use proto::paddock::{
    contract::v1::Process,
    directory::v1::{
        directory_service_server::DirectoryServiceServer, group_service_server::GroupServiceServer,
        instance_service_server::InstanceServiceServer, member_service_server::MemberServiceServer,
        project_service_server::ProjectServiceServer, user_service_server::UserServiceServer,
    },
    runner::v1::{runner_service_server::RunnerServiceServer, runner_token_service_server::RunnerTokenServiceServer},
};
use sea_orm::DatabaseConnection;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

mod bootstrap;
pub mod config;
pub mod directory;
pub mod entity;
pub mod error;
pub mod migration;
mod rpc;
pub mod runner;
mod store;

pub use bootstrap::{bootstrap_root, bootstrap_root_into, replace_root_token};
pub use config::Config;
pub use directory::user_token::UserToken;
pub use error::Error;
pub use runner::seal::SealKeys;

/// What the service needs to run.
pub struct Deps {
    /// The settings of the service.
    pub config: Config,
    /// The settings of its server.
    pub server: ServerConfig,
    /// The database of the records.
    pub database: DatabaseConnection,
    /// The keys that verify the identity of callers.
    pub keys: IdentityKeys,
    /// The keys that seal the successor of a runner token.
    pub seal: SealKeys,
    /// The clock.
    pub clock: Clock,
}

/// Brings the schema up to date, serves until shutdown, and closes the database.
///
/// # Errors
/// If the schema cannot be brought up to date, or the listener fails.
pub async fn run(deps: Deps, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let database = deps.database.clone();
    let served = serve_grpc(deps, listener, shutdown).await;
    db::close(&database).await;
    served
}

/// Migrates the database, and serves all services until shutdown.
async fn serve_grpc(deps: Deps, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    migration::up(&deps.database).await?;
    let server = GrpcServer::new(Process::RunnerRegistry, deps.server.clone(), deps.keys.clone(), deps.clock.clone());
    rpc::runner_tokens::describe_metrics();
    rpc::token_events::describe_metrics();
    let state = rpc::State {
        config: Arc::new(deps.config),
        database: deps.database,
        seal: Arc::new(deps.seal),
        clock: deps.clock,
        event_permits: Arc::new(Semaphore::new(rpc::token_events::MAX_CONCURRENT)),
    };
    server
        .add_service(UserServiceServer::new(rpc::users::Users(state.clone())))
        .add_service(GroupServiceServer::new(rpc::groups::Groups(state.clone())))
        .add_service(ProjectServiceServer::new(rpc::projects::Projects(state.clone())))
        .add_service(MemberServiceServer::new(rpc::members::Members(state.clone())))
        .add_service(DirectoryServiceServer::new(rpc::directory::Directory(state.clone())))
        .add_service(InstanceServiceServer::new(rpc::instance::Instance(state.clone())))
        .add_service(RunnerServiceServer::new(rpc::runners::Runners(state.clone())))
        .add_service(RunnerTokenServiceServer::new(rpc::runner_tokens::RunnerTokens(state)))
        .serve(listener, shutdown)
        .await
        .map_err(Error::internal)
}

//! The gateway: GitLab's REST API outside, gRPC inside. It has no handler per endpoint. At start it reads the contract
//! into a route table, which tells how to translate every request and every response.

mod answer;
mod config;
mod connection;
mod contract;
mod credential;
mod error;
mod guard;
mod handler;
mod health;
mod input;
mod observe;
mod openapi;
mod output;
mod path;
mod peers;
mod proxy;
mod request;
mod rest;
mod routing;
mod server;

use std::sync::Arc;

use chassis::clock::Clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use crate::config::{Config, DEFAULTS, ProcessConfig};
pub use crate::contract::ContractError;
pub use crate::peers::Peers;
pub use crate::proxy::table::TableError;

use crate::handler::Gateway;
use crate::observe::metrics;
use crate::proxy::table::Table;
use crate::rest::routes::Routes;

/// The dependencies of the gateway.
pub struct Deps {
    /// Its settings.
    pub config: Config,
    /// The channels to the services.
    pub peers: Peers,
    /// The clock.
    pub clock: Clock,
}

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The contract asks for something that the gateway does not serve.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The table of protected routes has a mistake.
    #[error(transparent)]
    ProtectedRoutes(#[from] TableError),
}

/// The gateway, ready to serve.
pub struct Service {
    gateway: Arc<Gateway>,
    max_connections: usize,
    config: Config,
}

/// Prepares the gateway and serves REST on the listener until shutdown.
///
/// # Errors
/// As [`Service::prepare`].
pub async fn run(deps: Deps, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    Service::prepare(deps)?.serve(listener, shutdown).await;
    Ok(())
}

impl Service {
    /// Reads the routes of the contract and the table of protected ones.
    ///
    /// # Errors
    /// Fails if the contract of this build, or the table of protected routes, cannot be served.
    pub fn prepare(Deps { config, peers, clock }: Deps) -> Result<Self, Error> {
        metrics::describe();
        let routes = Routes::load()?;
        let protected = load_protected_routes(&config, &routes)?;
        let max_connections = server::max_connections(&config, &protected);
        tracing::info!(routes = protected.len(), upstream = config.upstream, "loaded the table of protected routes");
        if protected.left_out() > 0 {
            tracing::warn!(
                routes = protected.left_out(),
                "no upstream is set: these protected routes are not served, requests for them are answered 404; set \
                 gateway.upstream, or PADDOCK_UPSTREAM for `paddock serve`"
            );
        }
        let gateway = Gateway::new(config.clone(), routes, protected, peers, clock);
        Ok(Self { gateway: Arc::new(gateway), max_connections, config })
    }

    /// Serves until shutdown, then drains.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "serving REST");
        }
        let reporting = Arc::clone(&self.gateway);
        let stopped = shutdown.clone();
        let reporting = tokio::spawn(async move { reporting.guard().report_until(stopped).await });
        server::serve(Arc::clone(&self.gateway), &self.config, self.max_connections, listener, shutdown).await;
        self.gateway.finish().await;
        // It ends at shutdown, and has nothing to fail with.
        let _ = reporting.await;
        self.gateway.guard().write_report();
        tracing::info!("stopped");
    }
}

/// Returns how many protected routes these settings serve, and how many they leave out because no upstream is set.
///
/// # Errors
/// As [`Service::prepare`].
pub fn protected_routes(config: &Config) -> Result<(usize, usize), Error> {
    let table = load_protected_routes(config, &Routes::load()?)?;
    Ok((table.len(), table.left_out()))
}

fn load_protected_routes(config: &Config, contract: &Routes) -> Result<Table, TableError> {
    Table::load(&config.protected_routes_file, &config.upstream, &config.upstream_settings(), contract)
}

/// Returns why a text is not the address of an upstream, or none if it is one.
#[must_use]
pub fn upstream_problem(url: &str) -> Option<String> {
    proxy::upstream::parse_address(url).err()
}

/// Returns the OpenAPI document of the contract, as the gateway serves it, for the reference pages.
///
/// # Errors
/// Fails if the contract of this build cannot be served.
pub fn openapi_document() -> Result<Vec<u8>, Error> {
    Ok(openapi::document(&Routes::load()?).to_vec())
}

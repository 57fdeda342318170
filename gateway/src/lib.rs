//! The gateway: REST as GitLab speaks it outside, gRPC inside. It has no handler per endpoint; it reads the contract at
//! start into a route table, and translates every request and every answer by it.

mod access_log;
mod answer;
mod call;
mod config;
mod contract;
mod credentials;
mod error;
mod exchange;
mod handler;
mod health;
mod input;
mod metrics;
mod openapi;
mod output;
mod path;
mod peers;
mod proxy;
mod redact;
mod request;
mod routes;
mod server;

use std::sync::Arc;

use chassis::clock::Clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{Config, DEFAULTS, ProcessConfig};
pub use contract::ContractError;
pub use peers::Peers;
use proxy::table::Table;
pub use proxy::table::TableError;
use proxy::upstream::Terms;

/// What the gateway stands on.
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
    /// The contract asks for what the gateway does not serve.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The table of protected routes makes no sense.
    #[error(transparent)]
    ProtectedRoutes(#[from] TableError),
}

/// The gateway, with everything that it needs at hand.
pub struct Service {
    gateway: Arc<handler::Gateway>,
    places: usize,
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
    /// If the contract that this program was built with, or the table of protected routes, cannot be served.
    pub fn prepare(Deps { config, peers, clock }: Deps) -> Result<Self, Error> {
        metrics::describe();
        let routes = routes::Routes::load()?;
        let terms = Terms::new(&config);
        let protected = Table::load(&config.protected_routes_file, &config.upstream, &terms, &routes)?;
        let places = server::places(&config, &protected);
        tracing::info!(routes = protected.len(), upstream = config.upstream, "loaded the table of protected routes");
        if protected.left_out() > 0 {
            tracing::warn!(
                routes = protected.left_out(),
                "no upstream is set: these protected routes are not served, requests for them are answered 404; set \
                 gateway.upstream, or PADDOCK_UPSTREAM for `paddock serve`"
            );
        }
        let gateway = handler::Gateway::new(config.clone(), routes, protected, peers, clock);
        Ok(Self { gateway: Arc::new(gateway), places, config })
    }

    /// Serves until shutdown, then drains.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "serving REST");
        }
        server::serve(Arc::clone(&self.gateway), &self.config, self.places, listener, shutdown).await;
        self.gateway.finish().await;
        tracing::info!("stopped");
    }
}

/// How many protected routes these settings serve, and how many they leave out because no upstream is set: for who wants
/// to know without serving.
///
/// # Errors
/// As those of [`Service::prepare`].
pub fn protected_routes(config: &Config) -> Result<(usize, usize), Error> {
    let (terms, contract) = (Terms::new(config), routes::Routes::load()?);
    let table = Table::load(&config.protected_routes_file, &config.upstream, &terms, &contract)?;
    Ok((table.len(), table.left_out()))
}

/// What is wrong with the address of an upstream; nothing if it is one.
#[must_use]
pub fn upstream_problem(url: &str) -> Option<String> {
    proxy::upstream::address(url).err()
}

/// The OpenAPI document of the contract, as the gateway serves it: for the reference pages.
///
/// # Errors
/// If the contract that this program was built with cannot be served.
pub fn openapi_document() -> Result<Vec<u8>, Error> {
    Ok(openapi::document(&routes::Routes::load()?).to_vec())
}

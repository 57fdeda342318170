//! What the tests stand on: a gateway on a port of its own, services that answer as they are told, clients, and the
//! log.

pub mod fake;
pub mod log;
pub mod protected;
pub mod raw;
pub mod token;
pub mod upstream;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use chassis::{
    clock::Clock,
    config::{Problems, Validate},
    identity::IdentityKeys,
};
use fake::{Addresses, Fake};
use gateway::{Config, Deps, Peers};
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A gateway and its services. All stop when it is dropped.
pub struct World {
    pub address: SocketAddr,
    pub fake: Fake,
    pub clock: Clock,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<()>,
    http: reqwest::Client,
    _stop: [DropGuard; 2],
}

/// An answer, read completely.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Deserialize)]
struct Settings {
    gateway: Config,
}

impl Validate for Settings {
    fn validate(&self, problems: &mut Problems) {
        self.gateway.validate(problems);
    }
}

/// The default settings.
pub fn config() -> Config {
    chassis::config::load::<Settings>(&[gateway::DEFAULTS], None).expect("valid defaults").gateway
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts them with changed settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let fake = Fake::start().await;
        let addresses = fake.addresses();
        Self::before(fake, addresses, change).await
    }

    /// Starts a gateway in front of whatever listens on this address.
    pub async fn in_front_of(registry: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        let addresses = Addresses { registry, job_token_auth: registry };
        Self::before(Fake::silent(), addresses, change).await
    }

    async fn before(fake: Fake, addresses: Addresses, change: impl FnOnce(&mut Config)) -> Self {
        // Everything, down to the libraries' traces.
        log::install_at(tracing::Level::TRACE);
        let mut config = config();
        config.runner_registry.endpoint = format!("http://{}", addresses.registry);
        config.job_token_auth.endpoint = format!("http://{}", addresses.job_token_auth);
        change(&mut config);
        let clock = Clock::manual(time::OffsetDateTime::from_unix_timestamp(1_795_395_723).unwrap());
        // The fake verifies identities with the clock of the machine.
        let peers = Peers::new(&config, &fake.keys, &Clock::system()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let deps = Deps { config, peers, clock: clock.clone() };
        let serving = gateway::run(deps, listener, shutdown.clone());
        let running = tokio::spawn(async move { serving.await.unwrap() });
        let stop = [shutdown.clone().drop_guard(), fake.shutdown.clone().drop_guard()];
        Self { address, fake, clock, shutdown, running, http: reqwest::Client::new(), _stop: stop }
    }

    /// A request under construction.
    pub fn request(&self, verb: &str, path: &str) -> reqwest::RequestBuilder {
        let verb = Method::from_bytes(verb.as_bytes()).unwrap();
        self.http.request(verb, format!("http://{}{path}", self.address))
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request("GET", path)
    }

    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.request("POST", path)
    }
}

/// Sends a request and reads its answer.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.text().await.expect("a body") }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and the reason.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// A header, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An id that no other request has.
pub fn unique_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Keys for a process that nobody else shares.
pub fn keys() -> IdentityKeys {
    IdentityKeys::generate().expect("random numbers")
}

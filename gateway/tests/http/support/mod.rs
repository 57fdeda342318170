//! The test environment: a gateway on a free port, services with scripted answers, clients, and the log.

pub mod fake;
pub mod gate;
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
use gateway::{Config, Deps, Peers};
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::fake::{Addresses, Fake};

/// A gateway and the services behind it. All stop when it is dropped.
pub struct World {
    pub address: SocketAddr,
    pub fake: Fake,
    pub clock: Clock,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<()>,
    http: reqwest::Client,
    _stop: [DropGuard; 2],
}

/// A response with its whole body.
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

/// Returns the default settings.
pub fn config() -> Config {
    chassis::config::load::<Settings>(&[gateway::DEFAULTS], None).expect("valid defaults").gateway
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a gateway with changed settings, and its services.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let fake = Fake::start().await;
        let addresses = fake.addresses();
        Self::start_gateway(fake, addresses, change).await
    }

    /// Starts a gateway whose services are at this address.
    pub async fn in_front_of(registry: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        let addresses = Addresses { registry, job_token_auth: registry };
        Self::start_gateway(Fake::offline(), addresses, change).await
    }

    async fn start_gateway(fake: Fake, addresses: Addresses, change: impl FnOnce(&mut Config)) -> Self {
        // Capture all levels, including the traces of libraries.
        log::install_at(tracing::Level::TRACE);
        let mut config = config();
        // The tests of the guard send thousands of blocked calls in turn.
        config.guard.pause_ms = 0;
        config.runner_registry.endpoint = format!("http://{}", addresses.registry);
        config.job_token_auth.endpoint = format!("http://{}", addresses.job_token_auth);
        change(&mut config);
        let clock = Clock::manual(time::OffsetDateTime::from_unix_timestamp(1_795_395_723).unwrap());
        // The fake services verify identities with the system clock.
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

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Builds a request.
    pub fn request(&self, verb: &str, path: &str) -> reqwest::RequestBuilder {
        let verb = Method::from_bytes(verb.as_bytes()).unwrap();
        self.http.request(verb, self.url(path))
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request("GET", path)
    }

    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.request("POST", path)
    }

    /// Builds a POST with a runner token in its JSON body.
    pub fn post_as_runner(&self, path: &str) -> reqwest::RequestBuilder {
        self.post(path).header("content-type", "application/json").body(token::runner_body(""))
    }
}

/// Returns a client that speaks HTTP/2 from the first byte.
pub fn http2_client() -> reqwest::Client {
    reqwest::Client::builder().http2_prior_knowledge().build().unwrap()
}

/// Returns a client of HTTP/1.1 and one of HTTP/2.
pub fn clients_of_both_protocols() -> [reqwest::Client; 2] {
    [reqwest::Client::new(), http2_client()]
}

/// Sends a request and reads its answer.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    Answer { status, headers, body: response.text().await.expect("a body") }
}

impl Answer {
    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the status and the reason of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// Returns the value of a header, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Returns an address where no process listens.
pub async fn unused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Returns a request id that no other request has.
pub fn unique_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns new identity keys.
pub fn keys() -> IdentityKeys {
    IdentityKeys::generate().expect("random numbers")
}

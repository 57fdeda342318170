//! The real service on a free port, on each of the two databases, with a fake runner-registry and a manual clock, and clients that
//! call as a given caller.
//!
//! A test is written once, inside `both_databases!`, and takes `service: &Service`.

mod actor;
mod registry;

use std::{net::SocketAddr, path::PathBuf};

use chassis::{
    access::{CallContext, Caller, User},
    client::{ClientConfig, PeerChannel},
    clock::Clock,
    config,
    db::{self, DatabaseLocation},
    identity::IdentityKeys,
    server::ServerError,
    testing::postgres,
};
use job_token_auth::{
    Config, Deps, Error,
    config::{DEFAULTS, ProcessConfig},
    job_token::keys::SigningKeys,
    migration::Migrator,
};
use proto::paddock::{
    contract::v1::{CredentialKind, Process, TokenScope},
    directory::v1::Visibility,
    job_token::v1::{
        AllowProjectRequest, AuthorizeRequest, CaptureMode, FinishJobRequest, IssueJobTokenRequest, Job,
        JobTokenPolicy, UpdateScopeRequest,
    },
};
use sea_orm::DatabaseConnection;
use tempfile::TempDir;
use time::macros::datetime;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use actor::Actor;
pub use chassis::testing::answer::Answer;
pub use registry::Registry;

/// Makes two tests of each test: one per database. `with |config| …;` before the tests changes the settings of the
/// service.
macro_rules! both_databases {
    ($(async fn $name:ident($service:ident) $body:block)*) => {
        $crate::support::both_databases! { with |_config| {}; $(async fn $name($service) $body)* }
    };
    (with $change:expr; $(async fn $name:ident($service:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn scenario($service: &$crate::support::Service) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let service = $crate::support::Service::on_sqlite($change).await;
                scenario(&service).await;
                service.finish().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let Some(service) = $crate::support::Service::on_postgres($change).await else { return };
                scenario(&service).await;
                service.finish().await;
            }
        }
    )*};
}
pub(crate) use both_databases;

/// The time at which every test begins.
pub const START: time::OffsetDateTime = datetime!(2026-01-15 12:00:00 UTC);

/// The administrator of every test.
pub const ROOT: i64 = 1;

/// An ordinary user of every test.
pub const ALICE: i64 = 2;

/// A change of the default settings for a test.
pub type Change = fn(&mut Config);

/// A running service.
pub struct Service {
    /// A separate connection to the tables of the service.
    pub database: DatabaseConnection,
    /// The clock of all processes.
    pub clock: Clock,
    /// The fake runner-registry; it has root and alice.
    pub registry: Registry,
    /// The keys that the service signs with.
    pub signing: SigningKeys,
    keys: IdentityKeys,
    registry_address: SocketAddr,
    registry_served: JoinHandle<Result<(), ServerError>>,
    shutdown: CancellationToken,
    replicas: Vec<Replica>,
    location: DatabaseLocation,
    change: Change,
    folder: TempDir,
}

/// One process of the service.
struct Replica {
    address: SocketAddr,
    served: JoinHandle<Result<(), Error>>,
}

impl Service {
    /// Starts the service on a SQLite file.
    pub async fn on_sqlite(change: Change) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = DatabaseLocation::Sqlite(folder.path().join("jobs.sqlite"));
        Self::start(location, folder, change).await
    }

    /// Starts the service on a new PostgreSQL database; none if there is no server.
    pub async fn on_postgres(change: Change) -> Option<Self> {
        let location = postgres::new_database::<Migrator>("job_token_auth").await?;
        Some(Self::start(location, tempfile::tempdir().unwrap(), change).await)
    }

    async fn start(location: DatabaseLocation, folder: TempDir, change: Change) -> Self {
        let clock = Clock::manual(START);
        let keys = IdentityKeys::generate().unwrap();
        let shutdown = CancellationToken::new();
        let registry = Registry::default();
        registry.user(ROOT, "root", true);
        registry.user(ALICE, "alice", false);
        let (registry_address, registry_served) = registry.serve(keys.clone(), clock.clone(), shutdown.clone()).await;
        let database = db::connect(&location, 5).await.unwrap();
        let signing = SigningKeys::from_seeds(&(1..33).collect::<Vec<u8>>().into(), None).unwrap();
        let replicas = Vec::new();
        let mut service = Self {
            database,
            clock,
            registry,
            signing,
            keys,
            registry_address,
            registry_served,
            shutdown,
            replicas,
            location,
            change,
            folder,
        };
        service.add_replica().await;
        service
    }

    /// Starts another process of the service.
    pub async fn add_replica(&mut self) {
        let number = self.replicas.len();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let ProcessConfig { mut job_token_auth, server, .. } = settings();
        job_token_auth.captures.spool_folder = self.folder.path().join(format!("spool-{number}"));
        (self.change)(&mut job_token_auth);
        let config = ClientConfig { endpoint: format!("http://{}", self.registry_address), deadline_ms: 30_000 };
        let registry = PeerChannel::new(
            &config,
            Process::JobTokenAuth,
            Process::RunnerRegistry,
            self.keys.clone(),
            self.clock.clone(),
        );
        let deps = Deps {
            config: job_token_auth,
            server,
            database: db::connect(&self.location, 10).await.unwrap(),
            keys: self.keys.clone(),
            signing: self.signing.clone(),
            registry: registry.unwrap(),
            redis_url: None,
            clock: self.clock.clone(),
        };
        let served = tokio::spawn(job_token_auth::run(deps, listener, self.shutdown.clone()));
        self.replicas.push(Replica { address, served });
        // It serves after it has made its tables.
        let keys = proto::paddock::job_token::v1::ListSigningKeysRequest {};
        self.on_replica(number, Caller::Anonymous).jobs().list_signing_keys(keys).await.unwrap();
    }

    /// Stops the service, which must return without an error, and removes its database.
    pub async fn finish(mut self) {
        self.shutdown.cancel();
        for replica in std::mem::take(&mut self.replicas) {
            replica.served.await.unwrap().unwrap();
        }
        (&mut self.registry_served).await.unwrap().unwrap();
        self.drop_database().await;
        self.database.close().await.unwrap();
    }

    /// Removes a PostgreSQL database while the service runs. A SQLite file is removed with its folder.
    pub async fn drop_database(&self) {
        postgres::drop_database(&self.location).await;
    }

    /// A client of one process of the service that calls as a caller.
    pub fn on_replica(&self, number: usize, caller: Caller) -> Actor {
        let endpoint = format!("http://{}", self.replicas[number].address);
        let config = ClientConfig { endpoint, deadline_ms: 30_000 };
        let channel =
            PeerChannel::new(&config, Process::Gateway, Process::JobTokenAuth, self.keys.clone(), self.clock.clone());
        let peer_address = Some("192.0.2.7".parse().unwrap());
        let request_id = "test-request".to_owned();
        Actor::new(channel.unwrap(), CallContext { caller, request_id, peer_address, user_agent: None })
    }

    /// A client that calls as a caller.
    pub fn speaking_as(&self, caller: Caller) -> Actor {
        self.on_replica(0, caller)
    }

    /// The administrator.
    pub fn root(&self) -> Actor {
        self.as_user(ROOT, "root", true)
    }

    /// The ordinary user.
    pub fn alice(&self) -> Actor {
        self.as_user(ALICE, "alice", false)
    }

    /// A user with a token of every scope.
    pub fn as_user(&self, id: i64, username: &str, admin: bool) -> Actor {
        let scopes = TokenScope::ALL.to_vec();
        self.speaking_as(Caller::User(User { id, username: username.to_owned(), admin, scopes }))
    }

    /// The gateway.
    pub fn gateway(&self) -> Actor {
        self.speaking_as(Caller::Process(Process::Gateway))
    }

    /// The holder of a job token.
    pub fn job(&self) -> Actor {
        self.speaking_as(Caller::Bearer(CredentialKind::JobToken))
    }

    /// Creates a private project, with or without a group, of which alice is a maintainer.
    pub fn project(&self, id: i64, full_path: &str, group_id: Option<i64>) {
        self.registry.project(id, full_path, group_id, Visibility::Private);
        self.registry.role(ALICE, id, Some(40));
    }

    /// Issues a running job of alice; returns it and its token.
    pub async fn running_job(&self, project_id: i64) -> (Job, String) {
        let request = IssueJobTokenRequest { project_id, user_id: ALICE, ..Default::default() };
        let issued = self.gateway().jobs().issue_job_token(request).await.answer();
        (issued.job.unwrap(), issued.token)
    }

    /// Finishes a job.
    pub async fn finish_job(&self, id: i64) {
        self.gateway().jobs().finish_job(FinishJobRequest { id }).await.answer();
    }

    /// Allows jobs of the origin to reach the target.
    pub async fn allow(&self, target: i64, origin: i64) {
        let request = AllowProjectRequest { id: target.to_string(), target_project_id: origin, ..Default::default() };
        self.root().scope().allow_project(request).await.answer();
    }

    /// Sets whether the allowlists of a project apply.
    pub async fn enforce(&self, project: i64, enabled: bool) {
        let request = UpdateScopeRequest { id: project.to_string(), enabled };
        self.root().scope().update_scope(request).await.answer();
    }
}

/// The documented default settings; they must be valid.
pub fn settings() -> ProcessConfig {
    config::load(&[chassis::config::DEFAULTS, DEFAULTS], None::<PathBuf>.as_deref()).unwrap()
}

/// A request of the gateway.
pub fn question(token: &str, projects: &[&str], policies: &[JobTokenPolicy]) -> AuthorizeRequest {
    AuthorizeRequest {
        token: token.to_owned(),
        projects: projects.iter().map(|project| (*project).to_owned()).collect(),
        policies: policies.iter().map(|policy| (*policy).into()).collect(),
        route: "GET /api/v4/projects/{id}/jobs".to_owned(),
        mode: CaptureMode::Strict.into(),
        capture_id: Uuid::now_v7().to_string(),
        upstream: "artifacts".to_owned(),
    }
}

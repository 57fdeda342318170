//! A real runner-registry on PostgreSQL, and a caller that makes runners in it.

use std::net::SocketAddr;

use chassis::{
    access::{CallContext, Caller, User},
    client::{ClientConfig, PeerChannel},
    clock::Clock,
    identity::IdentityKeys,
    secrets::SecretStore,
};
use proto::paddock::{
    contract::v1::{CredentialKind, Process, TokenScope},
    runner::v1::{
        CreateRunnerRequest, RequestJobRequest, ResetAuthenticationTokenRequest, RunnerType, VerifyRunnerRequest,
        runner_service_client::RunnerServiceClient, runner_token_service_client::RunnerTokenServiceClient,
    },
};

use crate::{
    process::{Peers, UnderTest},
    stores::Postgres,
};

/// The system id of the manager of every runner.
pub const SYSTEM_ID: &str = "s_0123456789ab";

/// The running service and its database.
pub struct Registry {
    pub process: UnderTest,
    pub database: Postgres,
    keys: IdentityKeys,
}

impl Registry {
    /// Starts the service on a new database. Returns none without PostgreSQL.
    pub async fn start(peers: &Peers, core: &str) -> Option<Self> {
        let Some(server) = Postgres::from_environment() else {
            println!("skipped: no PostgreSQL; `make bench` starts one where it is installed");
            return None;
        };
        let database = server.create_database();
        let process = peers.start_runner_registry(core, &database).await;
        let keys = IdentityKeys::load(&SecretStore::open(peers.folder())).expect("an identity key");
        Some(Self { process, database, keys })
    }

    /// Opens a connection of its own.
    pub fn connect(&self) -> Connection {
        let config = ClientConfig { endpoint: format!("http://{}", self.process.address), deadline_ms: 60_000 };
        let channel =
            PeerChannel::new(&config, Process::Gateway, Process::RunnerRegistry, self.keys.clone(), Clock::system());
        Connection { channel: channel.expect("an address") }
    }

    pub fn address(&self) -> SocketAddr {
        self.process.address
    }
}

/// A connection to the service. Clones share it.
#[derive(Clone)]
pub struct Connection {
    channel: PeerChannel,
}

impl Connection {
    /// Makes an instance runner that its manager has used. Returns its token.
    pub async fn new_runner(&self) -> String {
        let request =
            CreateRunnerRequest { runner_type: RunnerType::InstanceType.into(), ..CreateRunnerRequest::default() };
        let root = Caller::User(User { id: 1, username: "root".into(), admin: true, scopes: vec![TokenScope::Api] });
        let mut runners = RunnerServiceClient::new(self.channel.clone());
        let token = runners.create_runner(with(request, root)).await.expect("a runner").into_inner().token;
        self.poll(&token).await;
        token
    }

    pub async fn poll(&self, token: &str) {
        let request = RequestJobRequest {
            token: token.to_owned(),
            system_id: Some(SYSTEM_ID.into()),
            ..RequestJobRequest::default()
        };
        self.tokens().request_job(with(request, bearer())).await.expect("no job");
    }

    pub async fn verify(&self, token: &str) {
        let request = VerifyRunnerRequest {
            token: token.to_owned(),
            system_id: Some(SYSTEM_ID.into()),
            ..VerifyRunnerRequest::default()
        };
        self.tokens().verify_runner(with(request, bearer())).await.expect("the runner");
    }

    pub async fn rotate(&self, token: &str) {
        let request = ResetAuthenticationTokenRequest { token: token.to_owned() };
        self.tokens().reset_authentication_token(with(request, bearer())).await.expect("a successor");
    }

    fn tokens(&self) -> RunnerTokenServiceClient<PeerChannel> {
        RunnerTokenServiceClient::new(self.channel.clone())
    }
}

fn bearer() -> Caller {
    Caller::Bearer(CredentialKind::RunnerToken)
}

fn with<T>(message: T, caller: Caller) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let context = CallContext { caller, request_id: "bench".into(), peer_address: None, user_agent: None };
    request.extensions_mut().insert(context);
    request
}

//! A real runner-registry on PostgreSQL, and a caller that makes runners in it.

use std::net::SocketAddr;

use chassis::{access::Caller, client::PeerChannel, identity::IdentityKeys};
use proto::paddock::{
    contract::v1::{CredentialKind, Process},
    runner::v1::{
        CreateRunnerRequest, RequestJobRequest, ResetAuthenticationTokenRequest, RunnerType, VerifyRunnerRequest,
        runner_service_client::RunnerServiceClient, runner_token_service_client::RunnerTokenServiceClient,
    },
};

use crate::{
    caller,
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
        Some(Self { process, database, keys: caller::identity_keys(peers) })
    }

    /// Opens a connection of its own.
    pub fn connect(&self) -> Connection {
        Connection { channel: caller::connect(&self.keys, self.process.address, Process::RunnerRegistry) }
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
        let mut runners = RunnerServiceClient::new(self.channel.clone());
        let token = runners
            .create_runner(caller::call(request, caller::administrator()))
            .await
            .expect("a runner")
            .into_inner()
            .token;
        self.poll(&token).await;
        token
    }

    pub async fn poll(&self, token: &str) {
        let request = RequestJobRequest {
            token: token.to_owned(),
            system_id: Some(SYSTEM_ID.into()),
            ..RequestJobRequest::default()
        };
        self.tokens().request_job(caller::call(request, bearer())).await.expect("no job");
    }

    pub async fn verify(&self, token: &str) {
        let request = VerifyRunnerRequest {
            token: token.to_owned(),
            system_id: Some(SYSTEM_ID.into()),
            ..VerifyRunnerRequest::default()
        };
        self.tokens().verify_runner(caller::call(request, bearer())).await.expect("the runner");
    }

    pub async fn rotate(&self, token: &str) {
        let request = ResetAuthenticationTokenRequest { token: token.to_owned() };
        self.tokens().reset_authentication_token(caller::call(request, bearer())).await.expect("a successor");
    }

    fn tokens(&self) -> RunnerTokenServiceClient<PeerChannel> {
        RunnerTokenServiceClient::new(self.channel.clone())
    }
}

fn bearer() -> Caller {
    Caller::Bearer(CredentialKind::RunnerToken)
}

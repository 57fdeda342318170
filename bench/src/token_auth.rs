//! A caller of job-token-auth, with a running job and a project that allows it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chassis::{
    access::{CallContext, Caller, User},
    client::{ClientConfig, PeerChannel},
    clock::Clock,
    identity::IdentityKeys,
    secrets::SecretStore,
};
use proto::paddock::{
    contract::v1::{Process, TokenScope},
    job_token::v1::{
        AllowProjectRequest, IssueJobTokenRequest, job_service_client::JobServiceClient,
        scope_service_client::ScopeServiceClient,
    },
};

use crate::process::Peers;

/// The number of connections, as of several gateways.
const CONNECTIONS: usize = 4;

/// The caller. Clones share its connections.
#[derive(Clone)]
pub struct TokenAuth {
    channels: Arc<Vec<PeerChannel>>,
    next: Arc<AtomicUsize>,
    token: Arc<str>,
}

impl TokenAuth {
    /// Issues a token for a job of project 1, which project 2 allows.
    pub async fn prepare(peers: &Peers, address: SocketAddr) -> Self {
        let keys = IdentityKeys::load(&SecretStore::open(peers.folder())).expect("an identity key");
        let config = ClientConfig { endpoint: format!("http://{address}"), deadline_ms: 60_000 };
        let channels: Vec<_> = (0..CONNECTIONS).map(|_| connect(&config, &keys)).collect();
        let job = IssueJobTokenRequest { project_id: 1, user_id: 1, ..IssueJobTokenRequest::default() };
        let issued =
            JobServiceClient::new(channels[0].clone()).issue_job_token(with(job, process())).await.expect("a job");
        let allow = AllowProjectRequest { id: "2".into(), target_project_id: 1, ..AllowProjectRequest::default() };
        ScopeServiceClient::new(channels[0].clone())
            .allow_project(with(allow, administrator()))
            .await
            .expect("an entry");
        Self { channels: channels.into(), next: Arc::default(), token: issued.into_inner().token.into() }
    }

    pub fn channel(&self) -> PeerChannel {
        self.channels[self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS].clone()
    }

    pub fn job_token(&self) -> String {
        self.token.to_string()
    }

    pub fn call<T>(&self, message: T) -> tonic::Request<T> {
        with(message, process())
    }
}

fn connect(config: &ClientConfig, keys: &IdentityKeys) -> PeerChannel {
    PeerChannel::new(config, Process::Gateway, Process::JobTokenAuth, keys.clone(), Clock::system())
        .expect("an address")
}

fn process() -> Caller {
    Caller::Process(Process::Gateway)
}

fn administrator() -> Caller {
    Caller::User(User { id: 1, username: "root".into(), admin: true, scopes: vec![TokenScope::Api] })
}

fn with<T>(message: T, caller: Caller) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let context = CallContext { caller, request_id: "bench".into(), peer_address: None, user_agent: None };
    request.extensions_mut().insert(context);
    request
}

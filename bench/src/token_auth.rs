//! A caller of job-token-auth, with a running job and a project that allows it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chassis::{access::Caller, client::PeerChannel};
use proto::paddock::{
    contract::v1::Process,
    job_token::v1::{
        AllowProjectRequest, IssueJobTokenRequest, job_service_client::JobServiceClient,
        scope_service_client::ScopeServiceClient,
    },
};

use crate::{caller, process::Peers};

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
        let keys = caller::identity_keys(peers);
        let channels: Vec<_> =
            (0..CONNECTIONS).map(|_| caller::connect(&keys, address, Process::JobTokenAuth)).collect();
        let job = IssueJobTokenRequest { project_id: 1, user_id: 1, ..IssueJobTokenRequest::default() };
        let issued = JobServiceClient::new(channels[0].clone())
            .issue_job_token(caller::call(job, process()))
            .await
            .expect("a job");
        let allow = AllowProjectRequest { id: "2".into(), target_project_id: 1, ..AllowProjectRequest::default() };
        ScopeServiceClient::new(channels[0].clone())
            .allow_project(caller::call(allow, caller::administrator()))
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
        caller::call(message, process())
    }
}

fn process() -> Caller {
    Caller::Process(Process::Gateway)
}

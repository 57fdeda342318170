//! The one way to call another process: a channel that signs who calls, carries the trace context and keeps a deadline.
//!
//! A channel cannot be built without keys, and a call without a context fails here instead of going out without identity.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use proto::contract::DIGEST;
use proto::paddock::contract::v1::{
    GetContractRequest, InternalHeader, Process, contract_service_client::ContractServiceClient,
};
use serde::Deserialize;
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::Service;

use crate::{
    access::CallContext,
    clock::Clock,
    config::{Problems, Validate, is_server_address},
    identity::{Call, IdentityKeys},
    status::Fault,
    telemetry::propagation,
};

/// How to reach a peer.
#[derive(Clone, Debug, Deserialize)]
pub struct ClientConfig {
    /// Its address, for example `http://127.0.0.1:7101`.
    pub endpoint: String,
    /// How long a call may take, in milliseconds.
    pub deadline_ms: u64,
}

impl Validate for ClientConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.require(is_server_address(&self.endpoint), "endpoint", "must be an address as http://127.0.0.1:7101");
        problems.require((1..=600_000).contains(&self.deadline_ms), "deadline_ms", "must be between 1 and 600000");
    }
}

/// Why a peer cannot be worked with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PeerProblem {
    /// It does not answer.
    #[error("{peer} cannot be reached: {problem}")]
    Unreachable {
        /// The peer.
        peer: &'static str,
        /// What happened.
        problem: String,
    },
    /// It was built from another contract.
    #[error(
        "{peer} {version} was built from another contract: our digest is {ours}, its digest is {theirs}; upgrade the older one"
    )]
    Contract {
        /// The peer.
        peer: &'static str,
        /// Its release.
        version: String,
        /// Our digest.
        ours: &'static str,
        /// Its digest.
        theirs: String,
    },
    /// It does not hold the key that we sign with.
    #[error(
        "{peer} does not hold our identity key: we sign with {ours}, it verifies with {theirs:?}; mount the same secret"
    )]
    Keys {
        /// The peer.
        peer: &'static str,
        /// The id of the key that we sign with.
        ours: String,
        /// The ids of the keys that it holds.
        theirs: Vec<String>,
    },
}

/// A channel to a peer. It connects when it is first used, and again whenever the connection is lost.
#[derive(Clone)]
pub struct PeerChannel {
    channel: Channel,
    channel_address: String,
    speaker: Process,
    audience: Process,
    keys: IdentityKeys,
    clock: Clock,
    deadline: Duration,
    identity_header: HeaderName,
    digest_header: HeaderName,
}

impl PeerChannel {
    /// A channel from the speaker to the audience.
    ///
    /// # Errors
    /// If the endpoint is not an address.
    pub fn new(
        config: &ClientConfig,
        speaker: Process,
        audience: Process,
        keys: IdentityKeys,
        clock: Clock,
    ) -> Result<Self, Fault> {
        let deadline = Duration::from_millis(config.deadline_ms);
        let channel = Endpoint::from_shared(config.endpoint.clone())
            .map_err(Fault::internal)?
            .connect_timeout(deadline)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(true)
            .connect_lazy();
        Ok(Self {
            channel,
            channel_address: config.endpoint.clone(),
            speaker,
            audience,
            keys,
            clock,
            deadline,
            identity_header: header_name(InternalHeader::CallerIdentity)?,
            digest_header: header_name(InternalHeader::ContractDigest)?,
        })
    }

    /// Asks the peer which contract it was built with and which keys it holds, and compares. The question carries no
    /// identity, so that a difference is seen as what it is and not as a refused call.
    ///
    /// # Errors
    /// What differs, or why the peer cannot be asked.
    pub async fn check(&self) -> Result<(), PeerProblem> {
        let peer = self.audience.name();
        let unreachable = |problem: &str| {
            let problem = format!("{problem} from {}", self.channel_address);
            PeerProblem::Unreachable { peer, problem }
        };
        let mut client = ContractServiceClient::new(self.channel.clone());
        let asked = tokio::time::timeout(self.deadline, client.get_contract(GetContractRequest {})).await;
        let answer = asked.map_err(|_| unreachable("no answer in time"))?;
        let theirs = answer.map_err(|_| unreachable("no answer"))?.into_inner();
        if theirs.digest != DIGEST {
            return Err(PeerProblem::Contract { peer, version: theirs.version, ours: DIGEST, theirs: theirs.digest });
        }
        let ours = self.keys.key_ids().into_iter().next().unwrap_or_default();
        if !theirs.identity_key_ids.contains(&ours) {
            return Err(PeerProblem::Keys { peer, ours, theirs: theirs.identity_key_ids });
        }
        Ok(())
    }

    /// The context and the headers that make a request a call of ours.
    fn sign(&self, request: &mut http::Request<Body>) -> Result<(), Fault> {
        let context = request
            .extensions()
            .get::<CallContext>()
            .ok_or_else(|| Fault::internal(format!("{} was called without a context", request.uri().path())))?;
        let call = Call {
            speaker: self.speaker,
            audience: self.audience,
            method: request.uri().path(),
            now: self.clock.now(),
        };
        let mut identity = HeaderValue::try_from(self.keys.sign(context, &call)?).map_err(Fault::internal)?;
        // Keeps it out of HTTP/2's compression table: it never comes again, and it is nobody else's business.
        identity.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(self.identity_header.clone(), identity);
        headers.insert(self.digest_header.clone(), HeaderValue::from_static(DIGEST));
        propagation::inject(&tracing::Span::current(), headers);
        Ok(())
    }
}

impl Service<http::Request<Body>> for PeerChannel {
    type Response = http::Response<Body>;
    type Error = tower::BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Err(fault) = self.sign(&mut request) {
            return Box::pin(async move { Err(Status::from(fault).into()) });
        }
        let answer = tokio::time::timeout(self.deadline, self.channel.call(request));
        Box::pin(async move {
            match answer.await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(Status::deadline_exceeded("the peer did not answer in time").into()),
            }
        })
    }
}

fn header_name(header: InternalHeader) -> Result<HeaderName, Fault> {
    let spec = header.spec().ok_or_else(|| Fault::internal(format!("{header:?} has no name")))?;
    Ok(HeaderName::from_static(spec.key))
}

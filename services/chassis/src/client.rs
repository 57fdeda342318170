//! The client side of calls between processes: a channel that signs the identity of the caller, carries the trace context and
//! enforces a deadline, and the one loop that repeats failed calls.
//!
//! A channel needs keys, and a call without a context fails before it is sent, so that no call but the comparison of contracts lacks an identity.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use proto::{
    contract::DIGEST,
    paddock::contract::v1::{
        GetContractRequest, InternalHeader, Process, Reason, contract_service_client::ContractServiceClient,
    },
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
    client_id::ResolvedClient,
    clock::Clock,
    config::{Problems, Validate, is_server_address},
    identity::{Call, IdentityKeys},
    status::{Fault, Rejection},
    telemetry::propagation,
};

/// The settings for calls to a peer.
#[derive(Clone, Debug, Deserialize)]
pub struct ClientConfig {
    /// Its address, for example `http://127.0.0.1:7101`.
    pub endpoint: String,
    /// The maximum duration of a call, in milliseconds.
    pub deadline_ms: u64,
}

impl Validate for ClientConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.require(is_server_address(&self.endpoint), "endpoint", "must be an address as http://127.0.0.1:7101");
        problems.require((1..=600_000).contains(&self.deadline_ms), "deadline_ms", "must be between 1 and 600000");
    }
}

/// Why a peer cannot be used.
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
        /// The digest of this process.
        ours: &'static str,
        /// The digest of the peer.
        theirs: String,
    },
    /// It does not have the key that this process signs with.
    #[error(
        "{peer} does not hold our identity key: we sign with {ours}, it verifies with {theirs:?}; mount the same secret"
    )]
    Keys {
        /// The peer.
        peer: &'static str,
        /// The id of the key that this process signs with.
        ours: String,
        /// The ids of the keys that the peer has.
        theirs: Vec<String>,
    },
}

/// A channel to a peer. It connects on first use, and again after the connection is lost.
#[derive(Clone)]
pub struct PeerChannel {
    channel: Channel,
    endpoint: String,
    speaker: Process,
    audience: Process,
    keys: IdentityKeys,
    clock: Clock,
    deadline: Duration,
    identity_header: HeaderName,
    digest_header: HeaderName,
}

impl PeerChannel {
    /// Makes a channel from the speaker to the audience.
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
            endpoint: config.endpoint.clone(),
            speaker,
            audience,
            keys,
            clock,
            deadline,
            identity_header: header_name(InternalHeader::CallerIdentity)?,
            digest_header: header_name(InternalHeader::ContractDigest)?,
        })
    }

    /// Compares the contract and the keys of the peer with those of this process. The call carries no identity, so that different
    /// keys are reported as such and not as a refused call.
    ///
    /// # Errors
    /// The difference, or why the peer does not answer.
    pub async fn check(&self) -> Result<(), PeerProblem> {
        let peer = self.audience.name();
        let mut client = ContractServiceClient::new(self.channel.clone());
        let response = tokio::time::timeout(self.deadline, client.get_contract(GetContractRequest {})).await;
        let response = response.map_err(|_| self.unreachable("no answer in time"))?;
        let theirs = response.map_err(|_| self.unreachable("no answer"))?.into_inner();
        if theirs.digest != DIGEST {
            return Err(PeerProblem::Contract { peer, version: theirs.version, ours: DIGEST, theirs: theirs.digest });
        }
        let ours = self.keys.key_ids().into_iter().next().unwrap_or_default();
        if !theirs.identity_key_ids.contains(&ours) {
            return Err(PeerProblem::Keys { peer, ours, theirs: theirs.identity_key_ids });
        }
        Ok(())
    }

    fn unreachable(&self, problem: &str) -> PeerProblem {
        let problem = format!("{problem} from {}", self.endpoint);
        PeerProblem::Unreachable { peer: self.audience.name(), problem }
    }

    /// Adds the headers that carry the identity, the digest of the contract and the trace context.
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
        // Keeps it out of the compression table of HTTP/2: it is secret and differs in every call.
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
        let client = request.extensions_mut().remove::<ResolvedClient>();
        let response = tokio::time::timeout(self.deadline, self.channel.call(request));
        Box::pin(async move {
            match response.await {
                Ok(Ok(response)) => {
                    if let Some(client) = client {
                        client.read(response.headers());
                    }
                    Ok(response)
                }
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(Status::deadline_exceeded("the peer did not answer in time").into()),
            }
        })
    }
}

/// When and how often a failed call is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    is_retryable: fn(&Fault) -> bool,
    max_attempts: u32,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Retry {
    /// Repeats nothing.
    pub const NEVER: Self = Self {
        is_retryable: is_unavailable,
        max_attempts: 1,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
    };

    /// Repeats a call once, at once, if the peer was not available. For calls that the contract allows to repeat.
    pub const ONCE: Self = Self { max_attempts: 2, ..Self::NEVER };

    /// Repeats a call until the contract says that repeating does not help. The pause between two attempts doubles up to the
    /// longest one. The caller limits the total time.
    #[must_use]
    pub const fn with_backoff(first_pause: Duration, longest_pause: Duration) -> Self {
        Self { is_retryable, max_attempts: u32::MAX, first_pause, longest_pause }
    }

    /// Makes the call.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn run<T, F>(self, mut call: impl FnMut() -> F) -> Result<T, Rejection>
    where
        F: Future<Output = Result<T, Rejection>>,
    {
        let mut pause = self.first_pause;
        for _ in 1..self.max_attempts {
            match call().await {
                Err(Rejection::Fault(fault)) if (self.is_retryable)(&fault) => {
                    tracing::debug!(detail = fault.detail(), "the call is repeated");
                }
                result => return result,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.longest_pause);
        }
        call().await
    }
}

fn is_unavailable(fault: &Fault) -> bool {
    fault.reason() == Reason::Unavailable
}

fn is_retryable(fault: &Fault) -> bool {
    fault.spec().retryable
}

fn header_name(header: InternalHeader) -> Result<HeaderName, Fault> {
    let spec = header.spec().ok_or_else(|| Fault::internal(format!("{header:?} has no name")))?;
    Ok(HeaderName::from_static(spec.key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Refusal;

    /// Fails with these rejections, one at each attempt, then succeeds. Returns the result and the number of attempts.
    async fn attempts(retry: Retry, rejections: &[Rejection]) -> (Result<(), Rejection>, usize) {
        let mut made = 0;
        let result = retry
            .run(|| {
                let rejection = rejections.get(made).cloned();
                made += 1;
                async move { rejection.map_or(Ok(()), Err) }
            })
            .await;
        (result, made)
    }

    #[tokio::test]
    async fn a_call_is_repeated_as_often_as_its_policy_allows() {
        let unavailable = Rejection::from(Fault::unavailable("gone"));
        let late = Rejection::from(Fault::deadline_exceeded("slow"));
        let malformed = Rejection::from(Fault::of(Reason::IdentityMalformed, "?"));
        let refused = Rejection::from(Refusal::new(Reason::Conflict));
        let backoff = Retry::with_backoff(Duration::from_millis(1), Duration::from_millis(2));
        let cases: [(Retry, &[&Rejection], bool, usize); 8] = [
            (Retry::NEVER, &[&unavailable], false, 1),
            (Retry::ONCE, &[], true, 1),
            (Retry::ONCE, &[&unavailable], true, 2),
            (Retry::ONCE, &[&unavailable, &unavailable], false, 2),
            (Retry::ONCE, &[&late], false, 1),
            (backoff, &[&unavailable, &late, &unavailable], true, 4),
            (backoff, &[&unavailable, &malformed], false, 2),
            (backoff, &[&refused], false, 1),
        ];
        for (number, (retry, rejections, succeeds, expected)) in cases.into_iter().enumerate() {
            let rejections: Vec<_> = rejections.iter().map(|rejection| (*rejection).clone()).collect();
            let (result, made) = attempts(retry, &rejections).await;
            assert_eq!((result.is_ok(), made), (succeeds, expected), "case {number}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_doubles_up_to_the_longest_one() {
        let start = tokio::time::Instant::now();
        let retry = Retry::with_backoff(Duration::from_millis(2), Duration::from_millis(5));
        let unavailable = Rejection::from(Fault::unavailable("gone"));
        let (result, _) = attempts(retry, &vec![unavailable; 4]).await;
        assert_eq!(result, Ok(()));
        assert_eq!(start.elapsed(), Duration::from_millis(2 + 4 + 5 + 5));
    }
}

//! The decision on an access, and the verdict on it: an access is recorded exactly when the upstream answered with
//! success. A request that ends without an answer, whatever the reason, takes its pending capture back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chassis::access::CallContext;
use chassis::client::{PeerChannel, Retry};
use chassis::status::{Fault, Rejection};
use proto::paddock::contract::v1::Reason;
use proto::paddock::job_token::v1::authorization_service_client::AuthorizationServiceClient;
use proto::paddock::job_token::v1::{
    AuthorizeRequest, AuthorizeResponse, Capture, CaptureMode, DiscardRequest, FlushRequest,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};
use tracing::Instrument as _;

use crate::metrics::{self, Verdict};

/// How a verdict is repeated until it is taken.
const RETRY: Retry = Retry::with_backoff(Duration::from_millis(20), Duration::from_millis(500));

/// Asks for decisions and tells verdicts. What it has begun goes on when the request ends.
#[derive(Clone)]
pub struct Captures {
    channel: PeerChannel,
    tasks: TaskTracker,
    timeout: Duration,
}

/// An access that is allowed.
pub struct Access {
    /// What was decided.
    pub decision: AuthorizeResponse,
    /// The capture without a verdict.
    pub pending: Pending,
}

/// A capture that waits for its verdict. Without one, it is discarded when this is dropped.
pub struct Pending {
    captures: Captures,
    context: Arc<CallContext>,
    id: String,
    capture: Option<Capture>,
    is_open: bool,
}

impl Captures {
    /// Captures that job-token-auth keeps. A verdict is told again for this long.
    pub fn new(channel: PeerChannel, tasks: TaskTracker, timeout: Duration) -> Self {
        Self { channel, tasks, timeout }
    }

    /// Asks whether an access is allowed.
    ///
    /// # Errors
    /// The refusal, or a fault if there was no decision.
    pub async fn authorize(&self, request: AuthorizeRequest, context: CallContext) -> Result<Access, Rejection> {
        let (decided, decision) = oneshot::channel();
        let captures = self.clone();
        // A client that leaves during the call must not leave a capture behind that nobody knows of.
        let deciding = async move {
            let _ = decided.send(captures.decide(request, Arc::new(context)).await);
        };
        self.tasks.spawn(deciding.in_current_span());
        decision.await.map_err(|_| Fault::internal("the decision was lost"))?
    }

    async fn decide(self, request: AuthorizeRequest, context: Arc<CallContext>) -> Result<Access, Rejection> {
        let id = request.capture_id.clone();
        let mut pending = Pending { captures: self, context, id, capture: None, is_open: true };
        let decided = pending.captures.ask(&request, &pending.context).await;
        // Only a fault leaves it open whether there is a capture; job-token-auth takes back by itself what its store took too late.
        pending.is_open = match &decided {
            Ok(decision) => decision.capture.is_some(),
            Err(Rejection::Refusal(_)) => false,
            Err(Rejection::Fault(fault)) if fault.reason() == Reason::CaptureUnavailable => false,
            Err(Rejection::Fault(_)) => true,
        };
        let mut decision = decided?;
        pending.capture = decision.capture.take();
        Ok(Access { decision, pending })
    }

    /// A call that found nobody is repeated once, as any other that the contract allows to be repeated.
    async fn ask(&self, request: &AuthorizeRequest, context: &CallContext) -> Result<AuthorizeResponse, Rejection> {
        let authorized = Retry::ONCE.run(|| async {
            let response = self.client().authorize(call(request.clone(), context)).await;
            response.map_err(Rejection::from)
        });
        Ok(authorized.await?.into_inner())
    }

    fn client(&self) -> AuthorizationServiceClient<PeerChannel> {
        AuthorizationServiceClient::new(self.channel.clone())
    }

    /// Tells a verdict until it is taken, cannot be taken, or the time is over.
    async fn tell<F>(&self, tell: impl Fn(AuthorizationServiceClient<PeerChannel>) -> F) -> Result<(), Fault>
    where
        F: Future<Output = Result<(), Status>>,
    {
        let telling = RETRY.run(|| async { tell(self.client()).await.map_err(Rejection::from) });
        let detail = match tokio::time::timeout(self.timeout, telling).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Rejection::Refusal(refusal))) => format!("refused: {}", refusal.message()),
            Ok(Err(Rejection::Fault(fault))) => fault.detail().to_owned(),
            Err(_) => "job-token-auth did not take the verdict in time".to_owned(),
        };
        Err(Fault::of(Reason::CaptureUnavailable, detail))
    }
}

impl Pending {
    /// The id of the capture; none if the job reaches its own project only, which is not recorded.
    pub fn id(&self) -> Option<&str> {
        self.is_open.then_some(self.id.as_str())
    }

    /// Says that the request succeeded, and waits as long as the mode promises. The record is made also when nobody waits
    /// for it any more.
    ///
    /// # Errors
    /// A fault if there is no record: the request must then not be answered with success.
    pub async fn flush(mut self, status: u16) -> Result<(), Fault> {
        let Some(capture) = self.capture.take() else { return Ok(()) };
        self.is_open = false;
        let (captures, context) = (self.captures.clone(), self.context.clone());
        let waits = capture.mode() != CaptureMode::BestEffort;
        let flush = FlushRequest { capture: Some(capture), status: status.into() };
        let flushing = async move {
            let tell = |mut client: AuthorizationServiceClient<PeerChannel>| {
                let request = call(flush.clone(), &context);
                async move { client.flush(request).await.map(drop) }
            };
            let flushed = captures.tell(tell).await;
            metrics::verdict(if flushed.is_ok() { Verdict::Flushed } else { Verdict::FlushFailed });
            if let (false, Err(fault)) = (waits, &flushed) {
                let id = flush.capture.as_ref().map(|capture| capture.id.as_str());
                tracing::warn!(
                    capture_id = id,
                    detail = fault.detail(),
                    "an access of a best_effort route has no record"
                );
            }
            flushed
        };
        let flushing = self.captures.tasks.spawn(flushing.in_current_span());
        if !waits {
            return Ok(());
        }
        flushing.await.unwrap_or_else(|_| Err(Fault::of(Reason::CaptureUnavailable, "the recording broke off")))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.is_open, Handle::try_current()) else { return };
        let (captures, context) = (self.captures.clone(), self.context.clone());
        let discard = DiscardRequest { capture_id: std::mem::take(&mut self.id) };
        let discarding = async move {
            let tell = |mut client: AuthorizationServiceClient<PeerChannel>| {
                let request = call(discard.clone(), &context);
                async move { client.discard(request).await.map(drop) }
            };
            let discarded = captures.tell(tell).await;
            metrics::verdict(if discarded.is_ok() { Verdict::Discarded } else { Verdict::DiscardFailed });
            if let Err(fault) = discarded {
                // job-token-auth lists it as unresolved after its deadline, and never counts it.
                tracing::warn!(capture_id = discard.capture_id, detail = fault.detail(), "a capture was not discarded");
            }
        };
        self.captures.tasks.spawn_on(discarding.in_current_span(), &runtime);
    }
}

fn call<T>(message: T, context: &CallContext) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(context.clone());
    request
}

//! The decision on an access, and the verdict on it: an access is recorded if the upstream responded with 101, 2xx or 3xx.
//! A request that ends without such a response discards its pending capture. A capture becomes unresolved if the gateway is
//! killed before, or if its `best_effort` verdict is left out.

use std::{future::Future, sync::Arc, time::Duration};

use chassis::{
    access::CallContext,
    client::{PeerChannel, Retry},
    client_id::ResolvedClient,
    status::{Fault, Rejection},
};
use proto::paddock::{
    contract::v1::Reason,
    job_token::v1::{
        AuthorizeRequest, AuthorizeResponse, Capture, CaptureMode, DiscardRequest, FlushRequest,
        authorization_service_client::AuthorizationServiceClient,
    },
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};
use tracing::Instrument as _;

use crate::observe::metrics::{self, Verdict};

/// How a verdict is sent again until it is taken.
const VERDICT_RETRY: Retry = Retry::with_backoff(Duration::from_millis(20), Duration::from_millis(500));

/// The most verdicts on `best_effort` routes that are under way at the same time. Their requests do not wait for them,
/// so that their number has no other bound while job-token-auth is slow. One verdict more is left out: it is counted
/// and logged as a failed one, and job-token-auth lists its capture as unresolved. To wait instead would break the
/// promise of the mode.
const MAX_BACKGROUND_VERDICTS: usize = 1024;

/// Calls job-token-auth for decisions and verdicts. A call that has begun goes on when its request ends.
#[derive(Clone)]
pub struct AuthorizationClient {
    channel: PeerChannel,
    tasks: TaskTracker,
    timeout: Duration,
    /// The verdicts on `best_effort` routes that may still begin.
    background: Arc<Semaphore>,
}

/// An access that is allowed.
pub struct AllowedAccess {
    /// The decision.
    pub decision: AuthorizeResponse,
    /// The capture without a verdict.
    pub pending: PendingCapture,
}

/// A capture that waits for its verdict. It is discarded if it is dropped without one.
pub struct PendingCapture {
    client: AuthorizationClient,
    context: Arc<CallContext>,
    id: String,
    capture: Option<Capture>,
    is_open: bool,
}

impl AuthorizationClient {
    /// Returns a client that sends a verdict again until this timeout. `tasks` tracks the calls that outlive their
    /// requests.
    pub fn new(channel: PeerChannel, tasks: TaskTracker, timeout: Duration) -> Self {
        Self { channel, tasks, timeout, background: Arc::new(Semaphore::new(MAX_BACKGROUND_VERDICTS)) }
    }

    /// Asks whether an access is allowed. `client` gets the name of the job, also of one that is refused.
    ///
    /// # Errors
    /// Returns the refusal, or a fault if there was no decision.
    pub async fn authorize(
        &self,
        request: AuthorizeRequest,
        context: CallContext,
        client: ResolvedClient,
    ) -> Result<AllowedAccess, Rejection> {
        let (sender, decision) = oneshot::channel();
        let service = self.clone();
        // If the client of the request leaves during the call, the capture must still be discarded.
        let deciding = async move {
            let _ = sender.send(service.decide(request, Arc::new(context), client).await);
        };
        self.tasks.spawn(deciding.in_current_span());
        decision.await.map_err(|_| Fault::internal("the decision was lost"))?
    }

    async fn decide(
        self,
        request: AuthorizeRequest,
        context: Arc<CallContext>,
        client: ResolvedClient,
    ) -> Result<AllowedAccess, Rejection> {
        let id = request.capture_id.clone();
        let mut pending = PendingCapture { client: self, context, id, capture: None, is_open: true };
        let decided = pending.client.call_authorize(&request, &pending.context, &client).await;
        // Only after a fault there may be a capture that the gateway does not know of. With this one, job-token-auth
        // itself discards a capture that its store took too late.
        pending.is_open = match &decided {
            Ok(decision) => decision.capture.is_some(),
            Err(Rejection::Refusal(_)) => false,
            Err(Rejection::Fault(fault)) => fault.reason() != Reason::CaptureUnavailable,
        };
        let mut decision = decided?;
        pending.capture = decision.capture.take();
        Ok(AllowedAccess { decision, pending })
    }

    /// Calls, and repeats a call once that found the service unavailable, as for every method that the contract
    /// declares idempotent.
    async fn call_authorize(
        &self,
        request: &AuthorizeRequest,
        context: &CallContext,
        client: &ResolvedClient,
    ) -> Result<AuthorizeResponse, Rejection> {
        let authorized = Retry::ONCE.run(|| async {
            let mut request = with_context(request.clone(), context);
            request.extensions_mut().insert(client.clone());
            self.new_client().authorize(request).await.map_err(Rejection::from)
        });
        Ok(authorized.await?.into_inner())
    }

    fn new_client(&self) -> AuthorizationServiceClient<PeerChannel> {
        AuthorizationServiceClient::new(self.channel.clone())
    }

    async fn flush(&self, request: &FlushRequest, context: &CallContext) -> Result<(), Fault> {
        let flushed = self.deliver(|| {
            let mut service = self.new_client();
            let request = with_context(request.clone(), context);
            async move { service.flush(request).await.map(drop) }
        });
        let flushed = flushed.await;
        metrics::count_verdict(if flushed.is_ok() { Verdict::Flushed } else { Verdict::FlushFailed });
        flushed
    }

    async fn discard(&self, request: &DiscardRequest, context: &CallContext) {
        let discarded = self.deliver(|| {
            let mut service = self.new_client();
            let request = with_context(request.clone(), context);
            async move { service.discard(request).await.map(drop) }
        });
        let discarded = discarded.await;
        metrics::count_verdict(if discarded.is_ok() { Verdict::Discarded } else { Verdict::DiscardFailed });
        if let Err(fault) = discarded {
            // job-token-auth lists it as unresolved after its deadline, and never counts it.
            tracing::warn!(capture_id = request.capture_id, detail = fault.detail(), "a capture was not discarded");
        }
    }

    /// Sends a verdict again until it is taken or refused, or the timeout has passed.
    async fn deliver<F>(&self, send: impl Fn() -> F) -> Result<(), Fault>
    where
        F: Future<Output = Result<(), Status>>,
    {
        let delivering = VERDICT_RETRY.run(|| async { send().await.map_err(Rejection::from) });
        let detail = match tokio::time::timeout(self.timeout, delivering).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Rejection::Refusal(refusal))) => format!("refused: {}", refusal.message()),
            Ok(Err(Rejection::Fault(fault))) => fault.detail().to_owned(),
            Err(_) => "job-token-auth did not take the verdict in time".to_owned(),
        };
        Err(Fault::of(Reason::CaptureUnavailable, detail))
    }
}

impl PendingCapture {
    /// Returns the id of the capture. There is none if the job reaches only its own project, which is not recorded.
    pub fn id(&self) -> Option<&str> {
        self.is_open.then_some(self.id.as_str())
    }

    /// Sends the verdict that the request succeeded, and waits for the record if the mode of the route promises one.
    /// The verdict is sent even if the request ends meanwhile.
    ///
    /// # Errors
    /// Returns a fault if the promised record was not made: the request must then not be answered with success.
    pub async fn flush(mut self, status: u16) -> Result<(), Fault> {
        let Some(capture) = self.capture.take() else { return Ok(()) };
        self.is_open = false;
        let is_awaited = capture.mode() != CaptureMode::BestEffort;
        let request = FlushRequest { capture: Some(capture), status: status.into() };
        if !is_awaited {
            self.flush_in_background(request);
            return Ok(());
        }
        let client = self.client.clone();
        let context = self.context.clone();
        let flushing = async move { client.flush(&request, &context).await };
        let flushed = self.client.tasks.spawn(flushing.in_current_span()).await;
        flushed.unwrap_or_else(|_| Err(Fault::of(Reason::CaptureUnavailable, "the recording broke off")))
    }

    fn flush_in_background(&self, request: FlushRequest) {
        let Ok(permit) = self.client.background.clone().try_acquire_owned() else {
            metrics::count_verdict(Verdict::FlushFailed);
            warn_without_record(&request, "too many verdicts are under way");
            return;
        };
        let flushing = flush_with_permit(self.client.clone(), self.context.clone(), request, permit);
        self.client.tasks.spawn(flushing.in_current_span());
    }
}

async fn flush_with_permit(
    client: AuthorizationClient,
    context: Arc<CallContext>,
    request: FlushRequest,
    permit: OwnedSemaphorePermit,
) {
    if let Err(fault) = client.flush(&request, &context).await {
        warn_without_record(&request, fault.detail());
    }
    drop(permit);
}

fn warn_without_record(request: &FlushRequest, detail: &str) {
    let capture_id = request.capture.as_ref().map(|capture| capture.id.as_str());
    tracing::warn!(capture_id, detail, "an access of a best_effort route has no record");
}

impl Drop for PendingCapture {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let client = self.client.clone();
        let context = self.context.clone();
        let request = DiscardRequest { capture_id: std::mem::take(&mut self.id) };
        let discarding = async move { client.discard(&request, &context).await };
        self.client.tasks.spawn_on(discarding.in_current_span(), &runtime);
    }
}

fn with_context<T>(message: T, context: &CallContext) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(context.clone());
    request
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chassis::access::Caller;
    use chassis::client::ClientConfig;
    use chassis::clock::Clock;
    use chassis::identity::IdentityKeys;
    use proto::paddock::contract::v1::Process;

    use super::*;

    /// Returns a client of a service that no request reaches.
    fn client() -> AuthorizationClient {
        let config = ClientConfig { endpoint: "http://127.0.0.1:1".to_owned(), deadline_ms: 1000 };
        let keys = IdentityKeys::generate().unwrap();
        let channel =
            PeerChannel::new(&config, Process::Gateway, Process::JobTokenAuth, keys, Clock::system()).unwrap();
        AuthorizationClient::new(channel, TaskTracker::new(), Duration::from_secs(60))
    }

    fn pending(client: &AuthorizationClient, mode: CaptureMode) -> PendingCapture {
        let caller = Caller::Process(Process::Gateway);
        let context = CallContext { caller, request_id: "r1".to_owned(), peer_address: None, user_agent: None };
        let capture = Capture { id: "c1".to_owned(), mode: mode.into(), ..Capture::default() };
        PendingCapture {
            client: client.clone(),
            context: Arc::new(context),
            id: capture.id.clone(),
            capture: Some(capture),
            is_open: true,
        }
    }

    #[tokio::test]
    async fn a_best_effort_verdict_beyond_the_limit_is_left_out_without_waiting() {
        let client = client();
        for _ in 0..MAX_BACKGROUND_VERDICTS {
            pending(&client, CaptureMode::BestEffort).flush(200).await.unwrap();
        }
        assert_eq!(client.background.available_permits(), 0);
        assert_eq!(client.tasks.len(), MAX_BACKGROUND_VERDICTS);
        pending(&client, CaptureMode::BestEffort).flush(200).await.unwrap();
        assert_eq!(client.tasks.len(), MAX_BACKGROUND_VERDICTS, "neither flushed nor discarded");
    }
}

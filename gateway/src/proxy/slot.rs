//! The slots of an upstream: how many requests it serves at the same time.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chassis::status::Fault;
use proto::paddock::contract::v1::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for a slot.
const WAIT: Duration = Duration::from_secs(1);

/// A slot of an upstream. It is free again when the last part of the request has dropped it.
pub type Slot = Arc<OwnedSemaphorePermit>;

/// The slots of one upstream.
pub struct Slots {
    free: Arc<Semaphore>,
    limit: AtomicUsize,
}

impl Slots {
    /// Returns this many slots.
    pub fn new(limit: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(limit)), limit: AtomicUsize::new(limit) }
    }

    /// Returns how many there are, free or not.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Lowers the number of slots, to one at least.
    pub fn lower_limit(&self, limit: usize) {
        let limit = limit.max(1);
        let before = self.limit.fetch_min(limit, Ordering::Relaxed);
        self.free.forget_permits(before.saturating_sub(limit));
    }

    /// Takes a slot, and waits a moment for a free one.
    ///
    /// # Errors
    /// Returns a fault that names the upstream, if no slot becomes free.
    pub async fn take(&self, upstream: &impl fmt::Debug) -> Result<Slot, Fault> {
        let acquired = tokio::time::timeout(WAIT, self.free.clone().acquire_owned()).await;
        let permit = acquired.map_err(|_| Fault::of(Reason::UpstreamBusy, format!("{upstream:?}")))?;
        // The semaphore is never closed.
        permit.map(Arc::new).map_err(Fault::internal)
    }
}

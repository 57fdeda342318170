//! A barrier for a scripted method: it reports when a request has entered, and holds the request until the test opens it.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Clones share one barrier.
#[derive(Clone)]
pub struct Gate {
    entered: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    pub fn closed() -> Self {
        Self { entered: Arc::new(Semaphore::new(0)), opened: Arc::new(Semaphore::new(0)) }
    }

    /// Called by the scripted method: reports one request, and waits until the gate lets it through.
    pub async fn pass(self) {
        self.entered.add_permits(1);
        self.opened.acquire().await.unwrap().forget();
    }

    /// Waits until this many requests have entered.
    pub async fn wait_for_requests(&self, count: u32) {
        self.entered.acquire_many(count).await.unwrap().forget();
    }

    /// Lets this many requests through.
    pub fn open(&self, count: usize) {
        self.opened.add_permits(count);
    }
}

//! The queues in front of the store, one for each partition: what is in one is applied in order.

use std::time::Duration;

use chassis::status::Fault;
use proto::paddock::contract::v1::Reason;
use tokio::sync::{mpsc, oneshot};

use super::op::{Op, Queued};

/// The writing ends of the queues.
#[derive(Clone, Debug)]
pub struct Queues {
    partitions: Vec<mpsc::Sender<Queued>>,
    timeout: Duration,
}

impl Queues {
    /// Queues of a length each, and their reading ends.
    pub fn new(partitions: u16, length: usize, timeout: Duration) -> (Self, Vec<mpsc::Receiver<Queued>>) {
        let (partitions, receivers) = (0..partitions).map(|_| mpsc::channel(length)).unzip();
        (Self { partitions, timeout }, receivers)
    }

    /// Queues the step and waits until it is applied.
    ///
    /// # Errors
    /// `CAPTURE_UNAVAILABLE` if the queue is full, or the store does not take it in time.
    pub async fn ask(&self, op: Op) -> Result<(), Fault> {
        let (reply, answer) = oneshot::channel();
        if self.queue(&op).try_send(Queued { op, reply: Some(reply) }).is_err() {
            return Err(unavailable("the queue of captures is full: the store does not take them, or not fast enough"));
        }
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(unavailable("the process is stopping")),
            Err(_) => {
                let millis = self.timeout.as_millis();
                Err(unavailable(&format!("the store of captures did not take it within {millis} ms")))
            }
        }
    }

    /// Queues the step, if there is room, and does not wait.
    pub fn offer(&self, op: Op) -> bool {
        self.queue(&op).try_send(Queued { op, reply: None }).is_ok()
    }

    /// Queues the step as soon as there is room. None: the process is stopping.
    pub async fn push(&self, op: Op) -> Option<oneshot::Receiver<()>> {
        let (reply, answer) = oneshot::channel();
        self.queue(&op).send(Queued { op, reply: Some(reply) }).await.ok()?;
        Some(answer)
    }

    /// All steps of a capture go through the same queue.
    fn queue(&self, op: &Op) -> &mpsc::Sender<Queued> {
        let hash = crc32fast::hash(op.id().as_bytes()) as usize;
        &self.partitions[hash % self.partitions.len()]
    }
}

/// The fault that a caller gets whose capture cannot be kept.
pub fn unavailable(detail: &str) -> Fault {
    Fault::of(Reason::CaptureUnavailable, detail)
}

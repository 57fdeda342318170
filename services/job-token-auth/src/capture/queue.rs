//! The queues in front of the store, one for each partition: what is in one is applied in order. Partitions that are no longer used
//! take nothing new, but what is in them comes to its end.

use std::time::Duration;

use chassis::status::Fault;
use proto::paddock::contract::v1::Reason;
use tokio::sync::{mpsc, oneshot};

use super::op::{Op, Queued};

/// The writing ends of the queues.
#[derive(Clone, Debug)]
pub struct Queues {
    partitions: Vec<mpsc::Sender<Queued>>,
    /// How many of them take what is new.
    used: usize,
    timeout: Duration,
}

impl Queues {
    /// Queues of a length each, of which the first so many are used, and their reading ends.
    pub fn new(count: usize, used: usize, length: usize, timeout: Duration) -> (Self, Vec<mpsc::Receiver<Queued>>) {
        let (partitions, receivers) = (0..count).map(|_| mpsc::channel(length)).unzip();
        (Self { partitions, used, timeout }, receivers)
    }

    /// Queues the step and waits until it is applied.
    ///
    /// # Errors
    /// `CAPTURE_UNAVAILABLE` if the queue is full, or the store does not take it in time.
    pub async fn ask(&self, op: Op) -> Result<(), Fault> {
        self.ask_in(self.partition(&op), op).await
    }

    /// As [`Queues::ask`], for a capture that is in this partition.
    ///
    /// # Errors
    /// As there.
    pub async fn ask_in(&self, partition: usize, op: Op) -> Result<(), Fault> {
        let (reply, answer) = oneshot::channel();
        if self.partitions[partition].try_send(Queued { op, reply: Some(reply) }).is_err() {
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
        self.partitions[self.partition(&op)].try_send(Queued { op, reply: None }).is_ok()
    }

    /// Queues the step as soon as there is room. None: the process is stopping.
    pub async fn push(&self, op: Op) -> Option<oneshot::Receiver<()>> {
        let (reply, answer) = oneshot::channel();
        self.partitions[self.partition(&op)].send(Queued { op, reply: Some(reply) }).await.ok()?;
        Some(answer)
    }

    /// All steps of a capture go through the same queue.
    fn partition(&self, op: &Op) -> usize {
        crc32fast::hash(op.id().as_bytes()) as usize % self.used
    }
}

/// The fault that a caller gets whose capture cannot be kept.
pub fn unavailable(detail: &str) -> Fault {
    Fault::of(Reason::CaptureUnavailable, detail)
}

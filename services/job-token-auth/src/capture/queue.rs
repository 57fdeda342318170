//! The queues in front of the store, one for each partition. The steps of a queue are applied in order. Partitions that are no
//! longer used take no new captures, but what is in them is finished.

use std::time::Duration;

use chassis::status::Fault;
use proto::paddock::contract::v1::Reason;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::step::{QueuedStep, Step};

/// The sending ends of the queues.
#[derive(Clone, Debug)]
pub struct StepQueues {
    partitions: Vec<mpsc::Sender<QueuedStep>>,
    /// How many of them take new captures.
    used: usize,
    timeout: Duration,
}

/// Why a step was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue is full: the store is too slow, or away. Try again later.
    #[error("the queue of captures is full: the store does not take them, or not fast enough")]
    Full,
    /// The process is stopping: this queue takes nothing more.
    #[error("the process is stopping")]
    Closed,
    /// The store did not take the step in time.
    #[error("the store of captures did not take it within {} ms", .0.as_millis())]
    Timeout(Duration),
}

impl QueueError {
    /// Returns the cause as the metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Closed => "stopping",
            Self::Timeout(_) => "timeout",
        }
    }
}

impl<T> From<TrySendError<T>> for QueueError {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => Self::Full,
            TrySendError::Closed(_) => Self::Closed,
        }
    }
}

/// The caller must not go on: its capture is not kept.
impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        Self::of(Reason::CaptureUnavailable, error)
    }
}

impl StepQueues {
    /// Makes `count` queues of this length, of which the first `used` take new captures. Returns their receiving ends too.
    pub fn new(count: usize, used: usize, length: usize, timeout: Duration) -> (Self, Vec<mpsc::Receiver<QueuedStep>>) {
        let (partitions, receivers) = (0..count).map(|_| mpsc::channel(length)).unzip();
        (Self { partitions, used, timeout }, receivers)
    }

    /// Queues the step and waits until it is applied.
    ///
    /// # Errors
    /// If the queue is full or closed, or the store does not take the step in time.
    pub async fn apply(&self, step: Step) -> Result<(), QueueError> {
        self.apply_in(self.partition_of(&step), step).await
    }

    /// As [`StepQueues::apply`], for a capture that is in this partition.
    ///
    /// # Errors
    /// As there.
    pub async fn apply_in(&self, partition: usize, step: Step) -> Result<(), QueueError> {
        let (reply, answer) = oneshot::channel();
        self.partitions[partition].try_send(QueuedStep { step, reply: Some(reply) })?;
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(QueueError::Closed),
            Err(_) => Err(QueueError::Timeout(self.timeout)),
        }
    }

    /// Queues the step if there is room, and does not wait.
    ///
    /// # Errors
    /// If the queue is full or closed.
    pub fn offer(&self, step: Step) -> Result<(), QueueError> {
        let partition = self.partition_of(&step);
        Ok(self.partitions[partition].try_send(QueuedStep { step, reply: None })?)
    }

    /// Queues the step as soon as there is room. What it returns is notified when the step is applied.
    ///
    /// # Errors
    /// [`QueueError::Closed`].
    pub async fn push(&self, step: Step) -> Result<oneshot::Receiver<()>, QueueError> {
        let (reply, answer) = oneshot::channel();
        let queue = &self.partitions[self.partition_of(&step)];
        match queue.send(QueuedStep { step, reply: Some(reply) }).await {
            Ok(()) => Ok(answer),
            Err(_) => Err(QueueError::Closed),
        }
    }

    /// Returns the partition of a capture; all its steps go through the same queue.
    fn partition_of(&self, step: &Step) -> usize {
        crc32fast::hash(step.capture_id().as_bytes()) as usize % self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discard() -> Step {
        Step::Discard { id: "67e55044-10b1-426f-9247-bb680e5fe0c8".to_owned() }
    }

    #[tokio::test]
    async fn a_full_queue_and_a_closed_one_have_different_errors() {
        let (queues, mut receivers) = StepQueues::new(1, 1, 1, Duration::from_secs(60));
        assert_eq!(queues.offer(discard()), Ok(()));
        assert_eq!(queues.offer(discard()), Err(QueueError::Full));
        assert_eq!(queues.apply(discard()).await, Err(QueueError::Full));
        receivers.remove(0).close();
        assert_eq!(queues.offer(discard()), Err(QueueError::Closed));
        assert_eq!(queues.apply(discard()).await, Err(QueueError::Closed));
        assert_eq!(queues.push(discard()).await.err(), Some(QueueError::Closed));

        let full = Fault::from(QueueError::Full);
        let closed = Fault::from(QueueError::Closed);
        assert_eq!((full.reason(), closed.reason()), (Reason::CaptureUnavailable, Reason::CaptureUnavailable));
        assert!(full.detail().contains("full"), "{full:?}");
        assert!(closed.detail().contains("stopping"), "{closed:?}");
        assert_ne!(QueueError::Full.label(), QueueError::Closed.label());
    }

    #[tokio::test]
    async fn a_step_whose_queue_ends_before_it_is_applied_fails_as_closed() {
        let (queues, mut receivers) = StepQueues::new(1, 1, 1, Duration::from_secs(60));
        let mut receiver = receivers.remove(0);
        let (outcome, ()) = tokio::join!(queues.apply(discard()), async move {
            receiver.recv().await;
        });
        assert_eq!(outcome, Err(QueueError::Closed));
    }

    #[tokio::test]
    async fn a_step_that_is_not_applied_fails_after_the_timeout() {
        let timeout = Duration::from_millis(1);
        let (queues, _receivers) = StepQueues::new(1, 1, 1, timeout);
        assert_eq!(queues.apply(discard()).await, Err(QueueError::Timeout(timeout)));
    }
}

//! The writer of a partition. It takes what is queued as one batch, in order, and retries until the store has it.

use chassis::clock::Clock;
use proto::timestamp::millis;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    metrics::{self, WaitingSince},
    outage::Outage,
    step::{QueuedStep, Step},
    store::Store,
};

/// Maximum number of steps in a batch. The store needs some milliseconds for a full one.
const BATCH: usize = 512;

/// The writer of a partition.
pub struct Writer {
    /// The steps to write.
    pub queue: mpsc::Receiver<QueuedStep>,
    /// Where they are written.
    pub store: Store,
    /// The partition.
    pub partition: u16,
    /// Cancelled when no further steps come; the writer ends when the queue is empty.
    pub closing: CancellationToken,
    /// Cancelled when the writer must end at once.
    pub abort: CancellationToken,
    /// Since when its oldest step waits.
    pub waiting: WaitingSince,
    /// The clock.
    pub clock: Clock,
}

impl Writer {
    /// Writes until the end signal.
    pub async fn run(mut self) {
        let mut outage = Outage::new("captures cannot be written to their store");
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            self.fill_batch(&mut batch).await;
            if batch.is_empty() && self.queue.is_closed() && self.queue.is_empty() {
                return;
            }
            batch.retain(|queued| !queued.is_abandoned());
            metrics::set_queue_length(self.partition, self.queue.len());
            if !batch.is_empty() && !self.apply_batch(&batch, &mut outage).await {
                self.drop_rest(batch);
                return;
            }
            let to_undo: Vec<_> = batch.drain(..).filter_map(QueuedStep::finish).collect();
            batch.extend(to_undo);
        }
    }

    /// Adds what is queued to the batch, which may hold steps of the round before. Waits only if there is nothing at all.
    async fn fill_batch(&mut self, batch: &mut Vec<QueuedStep>) {
        while batch.len() < BATCH {
            match self.queue.try_recv() {
                Ok(queued) => batch.push(queued),
                Err(_) => break,
            }
        }
        if batch.is_empty() && !self.queue.is_closed() {
            tokio::select! {
                _ = self.queue.recv_many(batch, BATCH) => {}
                () = self.closing.cancelled() => self.queue.close(),
            }
        }
    }

    /// Applies the batch, however often that takes. Returns false when there is no time left to try again.
    async fn apply_batch(&mut self, batch: &[QueuedStep], outage: &mut Outage) -> bool {
        self.waiting.set(Some(millis(self.clock.now())));
        while let Err(error) = self.store.apply(batch).await {
            outage.failed(&error);
            metrics::set_queue_length(self.partition, batch.len() + self.queue.len());
            if !outage.wait(&self.abort).await {
                return false;
            }
        }
        outage.ended();
        self.waiting.set(None);
        true
    }

    /// Drops the steps that cannot be written before the process ends, and logs the records among them that have no caller.
    /// Callers that wait get an error; the other modes allow it.
    fn drop_rest(&mut self, mut steps: Vec<QueuedStep>) {
        while let Ok(queued) = self.queue.try_recv() {
            steps.push(queued);
        }
        steps.retain(|queued| queued.reply.is_none() && matches!(queued.step, Step::Flush(_)));
        let records = steps.len() as u64;
        if records > 0 {
            metrics::count_dropped("flush", records);
            tracing::error!(
                records,
                "the process ends, and the store does not take records of best_effort routes: they are left out"
            );
        }
    }
}

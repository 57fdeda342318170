//! The one writer of a partition: it takes what is queued, as one batch, in order, and tries until the store has it.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{metrics, op::Queued, outage::Outage, store::Store};

/// How many steps one batch holds. The store is busy with a full one for some milliseconds.
const BATCH: usize = 512;

/// The writer of a partition.
pub struct Writer {
    /// What it writes.
    pub queue: mpsc::Receiver<Queued>,
    /// Where it writes.
    pub store: Store,
    /// Whose steps these are.
    pub partition: u16,
    /// No further steps come; it ends when the queue is empty.
    pub closing: CancellationToken,
    /// It ends at once.
    pub abort: CancellationToken,
}

impl Writer {
    /// Writes until it is told to end.
    pub async fn run(mut self) {
        let mut outage = Outage::new("captures cannot be written to their store");
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            self.fill(&mut batch).await;
            if batch.is_empty() && self.queue.is_closed() && self.queue.is_empty() {
                return;
            }
            batch.retain(|queued| !queued.is_abandoned());
            metrics::queued(self.partition, self.queue.len());
            if !batch.is_empty() && !self.apply(&batch, &mut outage).await {
                return;
            }
            let undone: Vec<_> = batch.drain(..).filter_map(Queued::applied).collect();
            batch.extend(undone);
        }
    }

    /// Adds what is queued to what the batch before left; waits if there is nothing at all.
    async fn fill(&mut self, batch: &mut Vec<Queued>) {
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

    /// False: there is no time left to try again.
    async fn apply(&mut self, batch: &[Queued], outage: &mut Outage) -> bool {
        while let Err(error) = self.store.apply(batch).await {
            outage.failed(&error);
            metrics::queued(self.partition, batch.len() + self.queue.len());
            if !outage.wait(&self.abort).await {
                return false;
            }
        }
        outage.ended();
        true
    }
}

//! The one writer of a partition: it takes what is queued, as one batch, in order, and tries until the store has it.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use chassis::clock::Clock;

use super::{
    metrics::{self, Waiting},
    op::{Op, Queued},
    outage::Outage,
    store::Store,
};
use proto::timestamp::millis;

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
    /// Since when its oldest step waits.
    pub waiting: Waiting,
    /// Tells the time.
    pub clock: Clock,
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
                self.leave_out(batch);
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
        self.waiting.since(Some(millis(self.clock.now())));
        while let Err(error) = self.store.apply(batch).await {
            outage.failed(&error);
            metrics::queued(self.partition, batch.len() + self.queue.len());
            if !outage.wait(&self.abort).await {
                return false;
            }
        }
        outage.ended();
        self.waiting.since(None);
        true
    }

    /// Says what is left out at the end. Whoever waits for a step learns that it was not taken; the others were promised nothing.
    fn leave_out(&mut self, batch: Vec<Queued>) {
        let rest = std::iter::from_fn(|| self.queue.try_recv().ok());
        let is_record = |queued: &Queued| queued.reply.is_none() && matches!(queued.op, Op::Flush(_));
        let records = batch.into_iter().chain(rest).filter(is_record).count() as u64;
        if records > 0 {
            metrics::dropped("flush", records);
            tracing::error!(
                records,
                "the process ends, and the store does not take records of best_effort routes: they are left out"
            );
        }
    }
}

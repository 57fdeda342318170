//! What happens now and then: captures without a verdict become unresolved, what is acknowledged is noted, gaps are looked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chassis::clock::Clock;
use futures::future;
use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use super::{
    database, gaps::Watch, metrics, op::Op, outage::Outage, queue::Queues, redis::stream::Stream, store::StoreError,
};
use crate::{
    store::{gaps, log_writer::Number},
    time::millis,
};

/// How many overdue captures are dealt with at once.
const BATCH: u64 = 256;

/// What is looked after.
pub struct Maintenance {
    /// The database of the service.
    pub log: DatabaseConnection,
    /// The way to the store.
    pub queues: Queues,
    /// The partitions in Redis; none when the database holds the captures.
    pub partitions: Vec<Partition>,
    /// Tells the time.
    pub clock: Clock,
}

/// A partition in Redis.
pub struct Partition {
    /// Which.
    pub number: u16,
    /// The stream and the deadlines.
    pub stream: Stream,
    /// This process as a producer.
    pub producer: String,
    /// The number of the last record that it was acknowledged.
    pub acknowledged: Arc<AtomicI64>,
    /// What of that is noted.
    pub noted: i64,
    /// Looks for gaps.
    pub watch: Watch,
}

impl Maintenance {
    /// Works until it is told to stop; notes then once more what is acknowledged.
    pub async fn run(mut self, interval: Duration, stop: CancellationToken) {
        let mut outage = Outage::new("overdue captures and gaps cannot be looked for");
        loop {
            match self.round().await {
                Ok(()) => outage.ended(),
                Err(error) => outage.failed(&error),
            }
            if stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_none() {
                break;
            }
        }
        for partition in &mut self.partitions {
            // What cannot be noted now is at most what a crash would leave out.
            let _ = partition.note(&self.log, millis(self.clock.now())).await;
        }
    }

    async fn round(&mut self) -> Result<(), StoreError> {
        let now = millis(self.clock.now());
        for partition in &mut self.partitions {
            partition.note(&self.log, now).await?;
        }
        if self.partitions.is_empty() {
            let overdue = database::overdue(&self.log, now, BATCH).await?;
            self.queues.expire(overdue).await;
        }
        for partition in &mut self.partitions {
            let overdue = partition.stream.overdue(now, BATCH).await?;
            self.queues.expire(overdue).await;
            let oldest = partition.stream.oldest().await?;
            metrics::age(partition.number, oldest.map_or(0, |oldest| now - oldest.millis));
            partition.watch.look(&self.log, &mut partition.stream, partition.number, now).await?;
        }
        Ok(())
    }
}

impl Partition {
    async fn note(&mut self, log: &DatabaseConnection, now: i64) -> Result<(), StoreError> {
        let number = self.acknowledged.load(Ordering::Relaxed);
        if number > self.noted {
            let at = Number { producer: self.producer.clone(), number };
            gaps::checkpoint(log, self.number, &at, now).await?;
            self.noted = number;
        }
        Ok(())
    }
}

impl Queues {
    /// Takes captures without a verdict out of the pending ones. What the store does not take now is overdue still the next time.
    async fn expire(&self, ids: Vec<String>) {
        future::join_all(ids.into_iter().map(|id| self.ask(Op::Expire { id }))).await;
    }
}

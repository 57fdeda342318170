//! Tasks that run at an interval. For each partition, captures without a verdict become unresolved, acknowledged record numbers are
//! saved, and gaps are looked for; for the process, ages are reported. The first of them does not need the log, so it goes on while
//! the log is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chassis::clock::Clock;
use futures::future;
use proto::timestamp::millis;
use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use super::{
    database,
    failure::StoreError,
    gap_watch::GapWatch,
    log::{LogDatabase, RecordNumber, gaps},
    metrics::{self, Buffer, WaitingSince},
    outage::Outage,
    queue::StepQueues,
    redis::stream::RecordStream,
    step::Step,
};

/// Maximum number of overdue captures that expire at once.
const BATCH: u64 = 256;

/// Expires captures without a verdict. In Redis it also measures how long records have waited there.
pub struct OverdueSweeper {
    /// The captures.
    pub pending: PendingCaptures,
    /// The way to the store.
    pub queues: StepQueues,
    /// The clock.
    pub clock: Clock,
}

/// Where captures are pending.
pub enum PendingCaptures {
    /// In the database of the service.
    Database(DatabaseConnection),
    /// In a partition in Redis.
    Redis {
        /// Which.
        partition: u16,
        /// The stream and the deadlines.
        stream: Box<RecordStream>,
        /// Since when the oldest record that is not in the log waits, as far as is known; milliseconds since the Unix epoch.
        oldest: Option<i64>,
    },
}

/// Saves the highest record number that this process was acknowledged in a partition, and finds numbers that the log never got.
pub struct LossDetector {
    /// Which partition.
    pub partition: u16,
    /// Its stream.
    pub stream: RecordStream,
    /// This process as a producer.
    pub producer: String,
    /// The number of the last record that was acknowledged.
    pub acknowledged: Arc<AtomicI64>,
    /// The number that was saved last.
    pub saved: i64,
    /// Looks for gaps.
    pub watch: GapWatch,
    /// The log.
    pub log: LogDatabase,
    /// The clock.
    pub clock: Clock,
}

/// Updates the metrics of how long records have waited in this process and on its machine.
pub struct AgeReporter {
    /// The buffers, their partitions, and since when a record waits there.
    pub waiting: Vec<(Buffer, u16, WaitingSince)>,
    /// The clock.
    pub clock: Clock,
}

impl OverdueSweeper {
    /// Runs until the stop signal.
    pub async fn run(mut self, interval: Duration, stop: CancellationToken) {
        let outage = Outage::new("overdue captures cannot be looked for");
        let mut rounds = Rounds { outage, interval, stop };
        while rounds.wait_for_next(self.expire_overdue().await).await {}
    }

    async fn expire_overdue(&mut self) -> Result<(), StoreError> {
        let now = millis(self.clock.now());
        let (partition, overdue) = self.pending.find_overdue(now).await?;
        let expiring = overdue.into_iter().map(|id| self.queues.apply_in(partition.into(), Step::Expire { id }));
        // A step that fails now is repeated in the next round: its capture is still overdue then.
        future::join_all(expiring).await;
        Ok(())
    }
}

impl PendingCaptures {
    /// Returns the partition, and the ids of captures in it that are overdue.
    async fn find_overdue(&mut self, now: i64) -> Result<(u16, Vec<String>), StoreError> {
        match self {
            Self::Database(database) => Ok((0, database::overdue(database, now, BATCH).await?)),
            Self::Redis { partition, stream, oldest } => {
                let found = stream.oldest().await;
                if let Ok(found) = &found {
                    *oldest = found.map(|found| found.millis);
                }
                // While Redis is away, what was there goes on waiting.
                metrics::set_age(Buffer::Redis, *partition, oldest.map_or(0, |oldest| now - oldest));
                found?;
                Ok((*partition, stream.overdue(now, BATCH).await?))
            }
        }
    }
}

impl LossDetector {
    /// Works until nothing is written any more, then saves the last acknowledged number.
    pub async fn run(mut self, interval: Duration, written: CancellationToken) {
        let outage = Outage::new("lost captures cannot be looked for");
        let mut rounds = Rounds { outage, interval, stop: written };
        while rounds.wait_for_next(self.check_stream().await).await {}
        // If this fails, a later loss may go undetected, as after a crash.
        let _ = self.save_acknowledged().await;
    }

    async fn check_stream(&mut self) -> Result<(), StoreError> {
        self.save_acknowledged().await?;
        let now = millis(self.clock.now());
        self.watch.check(&self.log, &mut self.stream, self.partition, now).await
    }

    async fn save_acknowledged(&mut self) -> Result<(), StoreError> {
        let number = self.acknowledged.load(Ordering::Relaxed);
        if number > self.saved {
            let highest = RecordNumber { producer: self.producer.clone(), number };
            let slot = self.log.acquire().await;
            gaps::save_acknowledged(&slot, self.partition, &highest, millis(self.clock.now())).await?;
            self.saved = number;
        }
        Ok(())
    }
}

impl AgeReporter {
    /// Updates the metrics until the stop signal.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut rounds = Rounds { outage: Outage::new("ages cannot be shown"), interval, stop };
        loop {
            self.report_ages();
            if !rounds.wait_for_next(Ok(())).await {
                return;
            }
        }
    }

    fn report_ages(&self) {
        let now = millis(self.clock.now());
        for (buffer, partition, waiting) in &self.waiting {
            metrics::set_age(*buffer, *partition, waiting.age(now));
        }
    }
}

/// The rounds of a task.
struct Rounds {
    outage: Outage,
    interval: Duration,
    stop: CancellationToken,
}

impl Rounds {
    /// Notes the outcome of a round and waits for the next one. Returns false when it is time to stop.
    async fn wait_for_next(&mut self, outcome: Result<(), StoreError>) -> bool {
        match outcome {
            Ok(()) => self.outage.ended(),
            Err(error) => self.outage.failed(&error),
        }
        self.stop.run_until_cancelled(tokio::time::sleep(self.interval)).await.is_some()
    }
}

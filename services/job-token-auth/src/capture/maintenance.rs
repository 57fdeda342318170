//! What happens now and then, for each partition by itself: captures without a verdict become unresolved, what is acknowledged is
//! noted, gaps are looked for. Each of these tasks needs no more of the others' stores than it must, so that it goes on while one
//! of them is away.

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
    database,
    gaps::Watch,
    log::Log,
    metrics::{self, Place, Waiting},
    op::Op,
    outage::Outage,
    queue::Queues,
    redis::stream::Stream,
    store::StoreError,
};
use proto::timestamp::millis;

use crate::store::{gaps, log_writer::Number};

/// How many overdue captures are dealt with at once.
const BATCH: u64 = 256;

/// Takes captures without a verdict out of the pending ones. In Redis it also measures how long records have waited there.
pub struct Deadlines {
    /// Where the captures are pending.
    pub pending: Pending,
    /// The way to the store.
    pub queues: Queues,
    /// Tells the time.
    pub clock: Clock,
}

/// Where captures are pending.
pub enum Pending {
    /// In the database of the service.
    Database(DatabaseConnection),
    /// In a partition in Redis.
    Redis {
        /// Which.
        partition: u16,
        /// The stream and the deadlines.
        stream: Box<Stream>,
        /// Since when the oldest record that is not in the log waits, as far as is known; milliseconds since the Unix epoch.
        oldest: Option<i64>,
    },
}

/// Compares the numbers that this process was acknowledged in a partition with those that are in the log.
pub struct Numbers {
    /// Which partition.
    pub partition: u16,
    /// Its stream.
    pub stream: Stream,
    /// This process as a producer.
    pub producer: String,
    /// The number of the last record that it was acknowledged.
    pub acknowledged: Arc<AtomicI64>,
    /// What of that is noted.
    pub noted: i64,
    /// Looks for gaps.
    pub watch: Watch,
    /// The log.
    pub log: Log,
    /// Tells the time.
    pub clock: Clock,
}

impl Deadlines {
    /// Works until it is told to stop.
    pub async fn run(mut self, interval: Duration, stop: CancellationToken) {
        let outage = Outage::new("overdue captures cannot be looked for");
        let mut rounds = Rounds { outage, interval, stop };
        while rounds.next(self.round().await).await {}
    }

    async fn round(&mut self) -> Result<(), StoreError> {
        let now = millis(self.clock.now());
        let (partition, overdue) = match &mut self.pending {
            Pending::Database(database) => (0, database::overdue(database, now, BATCH).await?),
            Pending::Redis { partition, stream, oldest } => {
                let found = stream.oldest().await;
                if let Ok(found) = &found {
                    *oldest = found.map(|found| found.millis);
                }
                // While Redis is away, what was there goes on waiting.
                metrics::age(Place::Redis, *partition, oldest.map_or(0, |oldest| now - oldest));
                found?;
                (*partition, stream.overdue(now, BATCH).await?)
            }
        };
        // What the store does not take now is still overdue the next time.
        future::join_all(overdue.into_iter().map(|id| self.queues.ask_in(partition.into(), Op::Expire { id }))).await;
        Ok(())
    }
}

impl Numbers {
    /// Works until nothing is written any more; notes then once more what is acknowledged.
    pub async fn run(mut self, interval: Duration, written: CancellationToken) {
        let outage = Outage::new("lost captures cannot be looked for");
        let mut rounds = Rounds { outage, interval, stop: written };
        while rounds.next(self.round().await).await {}
        // What cannot be noted now is at most what a crash would leave out.
        let _ = self.note().await;
    }

    async fn round(&mut self) -> Result<(), StoreError> {
        self.note().await?;
        self.watch.look(&self.log, &mut self.stream, self.partition, millis(self.clock.now())).await
    }

    async fn note(&mut self) -> Result<(), StoreError> {
        let number = self.acknowledged.load(Ordering::Relaxed);
        if number > self.noted {
            let at = Number { producer: self.producer.clone(), number };
            let turn = self.log.turn().await;
            gaps::checkpoint(&turn, self.partition, &at, millis(self.clock.now())).await?;
            self.noted = number;
        }
        Ok(())
    }
}

/// Shows how long captures have waited in this process and on its machine.
pub struct Ages {
    /// Where, and since when.
    pub waiting: Vec<(Place, u16, Waiting)>,
    /// Tells the time.
    pub clock: Clock,
}

impl Ages {
    /// Shows it until it is told to stop.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut rounds = Rounds { outage: Outage::new("ages cannot be shown"), interval, stop };
        let show = || {
            let now = millis(self.clock.now());
            self.waiting
                .iter()
                .for_each(|(place, partition, waiting)| metrics::age(*place, *partition, waiting.age(now)));
            Ok(())
        };
        while rounds.next(show()).await {}
    }
}

/// When the next round comes.
struct Rounds {
    outage: Outage,
    interval: Duration,
    stop: CancellationToken,
}

impl Rounds {
    /// Takes what came of a round and waits for the next one. False: it is time to stop.
    async fn next(&mut self, outcome: Result<(), StoreError>) -> bool {
        match outcome {
            Ok(()) => self.outage.ended(),
            Err(error) => self.outage.failed(&error),
        }
        self.stop.run_until_cancelled(tokio::time::sleep(self.interval)).await.is_some()
    }
}

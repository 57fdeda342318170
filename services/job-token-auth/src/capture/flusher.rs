//! Moves the records of a partition from the stream in Redis into the log. A record leaves the stream only after the transaction
//! that wrote it is committed. After an error it is written again, and the log keeps it once.

use std::time::Duration;

use sea_orm::DbErr;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    failure::{StoreError, in_time},
    log::{self, LogDatabase, ranges},
    metrics,
    outage::Outage,
    redis::stream::{RecordStream, StreamEntry},
};

/// How often the flusher looks for records that a process read before it went away.
const TAKE_OVER_INTERVAL: Duration = Duration::from_secs(1);

/// The flusher of a partition.
pub struct Flusher {
    stream: RecordStream,
    log: LogDatabase,
    partition: u16,
    /// Entries that were read and are still in the stream.
    unacknowledged: Vec<StreamEntry>,
    /// Whether the records of these entries are in the log.
    is_written: bool,
    next_take_over: Instant,
}

impl Flusher {
    /// Makes the flusher from the stream into the log.
    pub fn new(stream: RecordStream, log: LogDatabase, partition: u16) -> Self {
        let next_take_over = Instant::now();
        Self { stream, log, partition, unacknowledged: Vec::new(), is_written: false, next_take_over }
    }

    /// Moves records until the stop signal.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut outage = Outage::new("records cannot be written to the log");
        while !stop.is_cancelled() {
            match self.move_batch().await {
                Ok(()) => outage.ended(),
                Err(error) => {
                    outage.failed(&error);
                    outage.wait(&stop).await;
                }
            }
        }
    }

    /// Moves one batch. After an error the next call continues where this one stopped.
    async fn move_batch(&mut self) -> Result<(), StoreError> {
        if self.unacknowledged.is_empty() {
            self.unacknowledged = self.read_batch().await?;
            self.is_written = false;
        }
        if self.unacknowledged.is_empty() {
            return Ok(());
        }
        if !self.is_written {
            in_time(self.write_to_log()).await?;
            self.is_written = true;
        }
        self.stream.acknowledge(&self.unacknowledged).await?;
        self.unacknowledged.clear();
        Ok(())
    }

    async fn read_batch(&mut self) -> Result<Vec<StreamEntry>, StoreError> {
        if self.next_take_over <= Instant::now() {
            let entries = self.stream.take_over().await?;
            if !entries.is_empty() {
                return Ok(entries);
            }
            self.next_take_over = Instant::now() + TAKE_OVER_INTERVAL;
        }
        Ok(self.stream.read().await?)
    }

    async fn write_to_log(&self) -> Result<(), DbErr> {
        let entries = &self.unacknowledged;
        let records: Vec<_> = entries.iter().filter_map(|entry| entry.record.clone().ok()).collect();
        let numbers: Vec<_> = entries.iter().filter_map(|entry| entry.number.clone()).collect();
        let slot = self.log.acquire().await;
        let tx = log::begin(&slot, self.partition).await?;
        let written = log::write(&tx, &records).await?;
        ranges::add_arrived(&tx, self.partition, &numbers).await?;
        tx.commit().await?;
        metrics::count_unresolved(&written);
        for entry in entries {
            if let Err(problem) = &entry.record {
                metrics::count_unreadable();
                let id = &entry.id;
                tracing::error!(id, problem, "a record cannot be read; it is set aside in the stream `unreadable`");
            }
        }
        Ok(())
    }
}

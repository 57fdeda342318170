//! Moves the records of a partition from the stream into the log. A record leaves the stream only after the transaction that
//! wrote it is committed; whatever happens in between, it is written again, and the log takes it once.

use std::time::Duration;

use sea_orm::DbErr;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    log::Log,
    metrics,
    outage::Outage,
    redis::stream::{Entry, Stream},
    store::{StoreError, in_time},
};
use crate::store::log_writer::{self, ranges};

/// How often records of processes that are gone are looked for.
const TAKE_OVER_INTERVAL: Duration = Duration::from_secs(1);

/// The flusher of a partition.
pub struct Flusher {
    stream: Stream,
    log: Log,
    partition: u16,
    /// Records that were read and are still in the stream.
    held: Vec<Entry>,
    /// Whether these are in the log.
    is_written: bool,
    take_over_at: Instant,
}

impl Flusher {
    /// From the stream into the log.
    pub fn new(stream: Stream, log: Log, partition: u16) -> Self {
        Self { stream, log, partition, held: Vec::new(), is_written: false, take_over_at: Instant::now() }
    }

    /// Works until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut outage = Outage::new("captures cannot be brought into the log; they are kept");
        while !stop.is_cancelled() {
            match self.turn().await {
                Ok(()) => outage.ended(),
                Err(error) => {
                    outage.failed(&error);
                    outage.wait(&stop).await;
                }
            }
        }
    }

    /// One batch. After an error the next turn goes on where this one stopped.
    async fn turn(&mut self) -> Result<(), StoreError> {
        if self.held.is_empty() {
            self.held = self.next().await?;
            self.is_written = false;
        }
        if self.held.is_empty() {
            return Ok(());
        }
        if !self.is_written {
            in_time(self.write()).await?;
            self.is_written = true;
        }
        self.stream.acknowledge(&self.held).await?;
        self.held.clear();
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<Entry>, StoreError> {
        if self.take_over_at <= Instant::now() {
            let entries = self.stream.take_over().await?;
            if !entries.is_empty() {
                return Ok(entries);
            }
            self.take_over_at = Instant::now() + TAKE_OVER_INTERVAL;
        }
        Ok(self.stream.read().await?)
    }

    async fn write(&self) -> Result<(), DbErr> {
        let records: Vec<_> = self.held.iter().filter_map(|entry| entry.record.clone().ok()).collect();
        let numbers: Vec<_> = self.held.iter().filter_map(|entry| entry.number.clone()).collect();
        let turn = self.log.turn().await;
        let tx = log_writer::begin(&turn, self.partition).await?;
        let written = log_writer::write(&tx, &records).await?;
        ranges::receive(&tx, self.partition, &numbers).await?;
        tx.commit().await?;
        metrics::unresolved(&written);
        for entry in &self.held {
            if let (id, Err(problem)) = (&entry.id, &entry.record) {
                metrics::unreadable();
                tracing::error!(id, problem, "a record cannot be read; it is set aside in the stream `unreadable`");
            }
        }
        Ok(())
    }
}

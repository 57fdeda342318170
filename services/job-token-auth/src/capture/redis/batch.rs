//! Writes batches of steps to one partition in Redis.
//!
//! A batch is one call of a script, so it is applied whole or not at all. The script keeps the number of the last batch of each
//! producer: a batch whose answer was lost is sent again and is not applied twice. The producer numbers the records, not Redis,
//! and leaves out no number; so whatever Redis loses is missing in the log by its numbers.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use redis::Script;
use tokio::time::Instant;

use super::{connection::PartitionConnection, keys::PartitionKeys};
use crate::capture::{
    failure::StoreError,
    metrics,
    step::{QueuedStep, Step},
};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("batch.lua")));

/// How long Redis keeps the mark of a producer that writes nothing.
const MARK_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// A partition in Redis, as its writer holds it.
pub struct RedisStore {
    connection: PartitionConnection,
    keys: PartitionKeys,
    producer: String,
    /// The number of the last batch that is known to be applied.
    batch: u64,
    /// The number of the last record that is known to be applied.
    acknowledged: Arc<AtomicI64>,
    written_at: Instant,
}

impl RedisStore {
    /// Makes the store for a new producer, which has written nothing yet. `acknowledged` is updated with every batch.
    pub fn new(
        connection: PartitionConnection,
        keys: PartitionKeys,
        producer: String,
        acknowledged: Arc<AtomicI64>,
    ) -> Self {
        Self { connection, keys, producer, batch: 0, acknowledged, written_at: Instant::now() }
    }

    /// Applies the steps by one call.
    ///
    /// # Errors
    /// Errors of Redis, or a setting of Redis with which captures would not be safe.
    pub async fn apply(&mut self, batch: &[QueuedStep]) -> Result<(), StoreError> {
        let number = self.batch + 1;
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let mark = self.keys.producer_mark(&self.producer);
        let mut call = SCRIPT.prepare_invoke();
        call.key(&self.keys.pending).key(&self.keys.deadlines).key(&self.keys.stream).key(&mark);
        call.arg(number).arg(acknowledged).arg(&self.producer).arg(MARK_LIFETIME.as_secs() * 1000);
        for queued in batch {
            add_step(&mut call, &queued.step);
        }
        let connection = self.connection.open_durable().await?;
        let answer: redis::RedisResult<(bool, u64, i64)> = call.invoke_async(connection).await;
        let (repeated, previous_batch, last_record) = self.connection.close_on_error(answer)?;
        // After an error here the batch is sent again, and is not applied twice.
        let mark_value = format!("{number} {last_record}");
        self.connection.wait_for_replicas(&mark, &mark_value, MARK_LIFETIME).await?;
        if !repeated && previous_batch != self.batch && self.written_at.elapsed() < MARK_LIFETIME {
            self.report_reset(previous_batch);
        }
        self.batch = number;
        self.acknowledged.store(last_record, Ordering::Relaxed);
        self.written_at = Instant::now();
        Ok(())
    }

    fn report_reset(&self, found: u64) {
        metrics::count_store_reset();
        tracing::error!(
            producer = self.producer,
            expected = self.batch,
            found,
            "redis has lost what this process wrote: records that had not reached the log are gone; their numbers follow"
        );
    }
}

fn add_step(call: &mut redis::ScriptInvocation<'_>, step: &Step) {
    match step {
        Step::Begin { capture, deadline } => {
            call.arg("P").arg(&capture.id).arg(deadline).arg(capture.encode_to_vec());
        }
        Step::Flush(flush) => {
            call.arg("F").arg(step.capture_id()).arg(flush.encode_to_vec());
        }
        Step::Discard { id } => {
            call.arg("D").arg(id);
        }
        Step::Expire { id } => {
            call.arg("E").arg(id);
        }
    }
}

//! Writes batches of steps to one partition in Redis.
//!
//! A batch is one call of a script, so it is applied whole or not at all. The script keeps the number of the last batch of each
//! producer: one whose answer was lost is sent again and is not applied twice. Records are numbered without a hole, by the
//! count of the producer and not of Redis; so whatever Redis loses is missing in the log by its numbers.

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

use super::{Keys, connection::Link};
use crate::capture::{
    metrics,
    op::{Op, Queued},
    store::StoreError,
};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("batch.lua")));

/// How long Redis keeps the mark of a producer that writes nothing.
const MARK_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A partition in Redis, as its writer holds it.
pub struct RedisStore {
    link: Link,
    keys: Keys,
    producer: String,
    /// The number of the last batch that is known to be applied.
    batch: u64,
    /// The number of the last record that is known to be applied.
    acknowledged: Arc<AtomicI64>,
    written_at: Instant,
}

impl RedisStore {
    /// A partition in which nothing was written yet by this producer. `acknowledged` then follows what is.
    pub fn new(link: Link, keys: Keys, producer: String, acknowledged: Arc<AtomicI64>) -> Self {
        Self { link, keys, producer, batch: 0, acknowledged, written_at: Instant::now() }
    }

    /// Applies the steps by one call.
    ///
    /// # Errors
    /// Those of Redis, or a setting of Redis with which captures would not be safe.
    pub async fn apply(&mut self, batch: &[Queued]) -> Result<(), StoreError> {
        let number = self.batch + 1;
        let before = self.acknowledged.load(Ordering::Relaxed);
        let mut call = SCRIPT.prepare_invoke();
        call.key(&self.keys.pending).key(&self.keys.deadlines).key(&self.keys.stream);
        call.key(self.keys.producer(&self.producer));
        call.arg(number).arg(before).arg(&self.producer).arg(MARK_LIFE.as_secs() * 1000);
        for queued in batch {
            add(&mut call, &queued.op);
        }
        let connection = self.link.durable().await?;
        let answer: redis::RedisResult<(bool, u64, i64)> = call.invoke_async(connection).await;
        let (repeated, seen, last) = self.link.settle(answer)?;
        // An error here sends the batch again, which changes nothing more.
        self.link.replicated(&self.keys.producer(&self.producer), &format!("{number} {last}"), MARK_LIFE).await?;
        if !repeated && seen != self.batch && self.written_at.elapsed() < MARK_LIFE {
            metrics::reset();
            let (producer, expected) = (&self.producer, self.batch);
            tracing::error!(
                producer,
                expected,
                found = seen,
                "redis has lost what this process wrote: records that had not reached the log are gone; their numbers follow"
            );
        }
        self.batch = number;
        self.acknowledged.store(last, Ordering::Relaxed);
        self.written_at = Instant::now();
        Ok(())
    }
}

fn add(call: &mut redis::ScriptInvocation<'_>, op: &Op) {
    match op {
        Op::Pend { capture, deadline } => {
            call.arg("P").arg(&capture.id).arg(deadline).arg(capture.encode_to_vec());
        }
        Op::Flush(flush) => {
            call.arg("F").arg(op.id()).arg(flush.encode_to_vec());
        }
        Op::Discard { id } => {
            call.arg("D").arg(id);
        }
        Op::Expire { id } => {
            call.arg("E").arg(id);
        }
    }
}

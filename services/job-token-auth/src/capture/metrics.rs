//! The metrics of captures, each named once.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use proto::paddock::job_token::v1::CaptureMode;

use crate::store::log_writer::Written;

const CAPTURES: &str = "paddock_captures_total";
const LOST: &str = "paddock_capture_lost_total";
const LOST_LATELY: &str = "paddock_capture_lost_records";
const DROPPED: &str = "paddock_capture_dropped_total";
const RESETS: &str = "paddock_capture_store_resets_total";
const UNREADABLE: &str = "paddock_capture_unreadable_total";
const FAILURES: &str = "paddock_capture_write_failures_total";
const SPOOL_FAILURES: &str = "paddock_capture_spool_failures_total";
const AGE: &str = "paddock_capture_unflushed_age_seconds";
const QUEUE: &str = "paddock_capture_queue_length";
const SPOOL: &str = "paddock_capture_spool_bytes";

/// Where captures wait on their way into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the memory of this process, for the store.
    Queue,
    /// In the files of this machine, for the store.
    Spool,
    /// In Redis, for the log.
    Redis,
}

/// Since when something waits in a place; clones share it.
#[derive(Clone, Debug)]
pub struct Waiting(Arc<AtomicI64>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl Waiting {
    /// It waits since then, in milliseconds since the Unix epoch; none: nothing waits.
    pub fn since(&self, millis: Option<i64>) {
        self.0.store(millis.unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// How long it has waited now, in milliseconds.
    pub fn age(&self, now: i64) -> i64 {
        now.saturating_sub(self.0.load(Ordering::Relaxed)).max(0)
    }
}

/// Describes them, once a process, and shows those that alerts stand on from the beginning.
pub fn describe() {
    describe_counter!(
        CAPTURES,
        "captures that came to an end, by outcome: recorded (kept as its mode promises, on its way into the log), discarded, \
         unresolved; by mode where it is known"
    );
    describe_counter!(LOST, "records that were acknowledged and never arrived in the log; any is a loss of data");
    describe_gauge!(
        LOST_LATELY,
        "records that were found to be lost in the thirty days before the process began, by whichever process, and since, by \
         this one"
    );
    describe_counter!(
        DROPPED,
        "steps of captures that were left out, as their mode allows: the queue was full, or the process ended"
    );
    describe_counter!(RESETS, "times that Redis had forgotten what this process wrote");
    describe_counter!(UNREADABLE, "records that cannot be read and were set aside");
    describe_counter!(
        FAILURES,
        "steps of captures that the store did not take in time; their requests were answered 503"
    );
    describe_counter!(SPOOL_FAILURES, "records that the spool did not take; they went to the store directly");
    describe_gauge!(
        AGE,
        Unit::Seconds,
        "how long the oldest record that is not in the log yet has waited, by place: queue, spool, redis"
    );
    describe_gauge!(QUEUE, "steps of captures that wait in memory for the store");
    describe_gauge!(SPOOL, Unit::Bytes, "size of the spool");
    // Whoever looks must be able to tell "none" from "no such metric".
    for name in [LOST, RESETS, UNREADABLE, SPOOL_FAILURES] {
        counter!(name).absolute(0);
    }
    for step in ["pend", "flush"] {
        counter!(DROPPED, "step" => step).absolute(0);
    }
    spooled(0);
}

/// An access is recorded as its mode promises.
pub fn recorded(mode: CaptureMode) {
    ended("recorded", mode, 1);
}

/// A capture was discarded.
pub fn discarded() {
    counter!(CAPTURES, "outcome" => "discarded").increment(1);
}

fn ended(outcome: &'static str, mode: CaptureMode, count: u64) {
    counter!(CAPTURES, "outcome" => outcome, "mode" => name(mode)).increment(count);
}

/// Captures newly have no verdict.
pub fn unresolved(written: &Written) {
    for (mode, count) in &written.unresolved {
        ended("unresolved", CaptureMode::try_from(*mode).unwrap_or_default(), *count);
    }
}

/// Records are lost.
#[allow(clippy::cast_precision_loss)]
pub fn lost(count: u64) {
    counter!(LOST).increment(count);
    gauge!(LOST_LATELY).increment(count as f64);
}

/// Records were lost before this process began.
#[allow(clippy::cast_precision_loss)]
pub fn lost_before(count: i64) {
    gauge!(LOST_LATELY).set(count as f64);
}

/// Steps were left out.
pub fn dropped(step: &'static str, count: u64) {
    counter!(DROPPED, "step" => step).increment(count);
}

/// Redis had forgotten this process.
pub fn reset() {
    counter!(RESETS).increment(1);
}

/// A record was set aside.
pub fn unreadable() {
    counter!(UNREADABLE).increment(1);
}

/// A step was not taken by the store.
pub fn failed(mode: CaptureMode) {
    counter!(FAILURES, "mode" => name(mode)).increment(1);
}

/// A record was not taken by the spool.
pub fn not_spooled() {
    counter!(SPOOL_FAILURES).increment(1);
}

/// How long the oldest record in a place has waited.
#[allow(clippy::cast_precision_loss)]
pub fn age(place: Place, partition: u16, millis: i64) {
    let place = match place {
        Place::Queue => "queue",
        Place::Spool => "spool",
        Place::Redis => "redis",
    };
    gauge!(AGE, "place" => place, "partition" => partition.to_string()).set(millis.max(0) as f64 / 1000.0);
}

/// What waits in memory.
#[allow(clippy::cast_precision_loss)]
pub fn queued(partition: u16, length: usize) {
    gauge!(QUEUE, "partition" => partition.to_string()).set(length as f64);
}

/// The size of the spool.
#[allow(clippy::cast_precision_loss)]
pub fn spooled(bytes: u64) {
    gauge!(SPOOL).set(bytes as f64);
}

fn name(mode: CaptureMode) -> &'static str {
    match mode {
        CaptureMode::Unspecified => "unknown",
        CaptureMode::Strict => "strict",
        CaptureMode::Spool => "spool",
        CaptureMode::BestEffort => "best_effort",
    }
}

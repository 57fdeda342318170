//! The metrics of captures, each named once.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use proto::paddock::job_token::v1::CaptureMode;

use super::log::Written;

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

/// Where records wait on their way into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// In the memory of this process, for the store.
    Queue,
    /// In the files of this machine, for the store.
    Spool,
    /// In Redis, for the log.
    Redis,
}

impl Buffer {
    fn label(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Spool => "spool",
            Self::Redis => "redis",
        }
    }
}

/// Since when the oldest record waits in a buffer. Clones share the value.
#[derive(Clone, Debug)]
pub struct WaitingSince(Arc<AtomicI64>);

impl Default for WaitingSince {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl WaitingSince {
    /// Sets the time, in milliseconds since the Unix epoch. None: no record waits.
    pub fn set(&self, millis: Option<i64>) {
        self.0.store(millis.unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Returns how long the oldest record has waited, in milliseconds; 0 if none waits.
    pub fn age(&self, now: i64) -> i64 {
        now.saturating_sub(self.0.load(Ordering::Relaxed)).max(0)
    }
}

/// Describes the metrics, once in a process. Those that alerts read start at 0, so that "none" differs from "no such metric".
pub fn describe() {
    describe_counter!(
        CAPTURES,
        "captures that came to an end, by outcome: recorded (kept as its mode promises, on its way into the log), discarded, \
         unresolved; by mode where it is known"
    );
    describe_counter!(LOST, "records that were acknowledged and never arrived in the log; any is a loss of data");
    describe_gauge!(
        LOST_LATELY,
        "records that were found to be lost: in the thirty days before the process began, by any process; and since, by this one"
    );
    describe_counter!(
        DROPPED,
        "steps of captures that were left out, as their mode allows: the queue was full, or the process ended"
    );
    describe_counter!(RESETS, "times that Redis had forgotten what this process wrote");
    describe_counter!(UNREADABLE, "records that cannot be read and were set aside");
    describe_counter!(
        FAILURES,
        "steps of captures that the store did not take, by mode and cause: full (the queue was full), timeout, stopping (the \
         process ends); a begin or flush caused a 503, a discard (mode unknown) leaves an unresolved capture"
    );
    describe_counter!(SPOOL_FAILURES, "records that the spool did not take; they went to the store directly");
    describe_gauge!(
        AGE,
        Unit::Seconds,
        "how long the oldest record that is not in the log yet has waited, by place: queue, spool, redis"
    );
    describe_gauge!(QUEUE, "steps of captures that wait in memory for the store");
    describe_gauge!(SPOOL, Unit::Bytes, "size of the spool");
    for name in [LOST, RESETS, UNREADABLE, SPOOL_FAILURES] {
        counter!(name).absolute(0);
    }
    for step in ["begin", "flush"] {
        counter!(DROPPED, "step" => step).absolute(0);
    }
    set_spool_bytes(0);
}

/// Counts an access that is kept as its mode promises.
pub fn count_recorded(mode: CaptureMode) {
    count_ended("recorded", mode, 1);
}

/// Counts a discarded capture.
pub fn count_discarded() {
    counter!(CAPTURES, "outcome" => "discarded").increment(1);
}

/// Counts captures that became unresolved.
pub fn count_unresolved(written: &Written) {
    for (mode, count) in &written.unresolved {
        count_ended("unresolved", CaptureMode::try_from(*mode).unwrap_or_default(), *count);
    }
}

fn count_ended(outcome: &'static str, mode: CaptureMode, count: u64) {
    counter!(CAPTURES, "outcome" => outcome, "mode" => mode_label(mode)).increment(count);
}

/// Counts lost records.
#[allow(clippy::cast_precision_loss)]
pub fn count_lost(count: u64) {
    counter!(LOST).increment(count);
    gauge!(LOST_LATELY).increment(count as f64);
}

/// Sets how many records were lost before this process began.
#[allow(clippy::cast_precision_loss)]
pub fn set_lost_before(count: i64) {
    gauge!(LOST_LATELY).set(count as f64);
}

/// Counts steps that were left out.
pub fn count_dropped(step: &'static str, count: u64) {
    counter!(DROPPED, "step" => step).increment(count);
}

/// Counts that Redis had forgotten this process.
pub fn count_store_reset() {
    counter!(RESETS).increment(1);
}

/// Counts a record that was set aside.
pub fn count_unreadable() {
    counter!(UNREADABLE).increment(1);
}

/// Counts a step that the store did not take.
pub fn count_failed(mode: CaptureMode, cause: &'static str) {
    counter!(FAILURES, "mode" => mode_label(mode), "cause" => cause).increment(1);
}

/// Counts a record that the spool did not take.
pub fn count_not_spooled() {
    counter!(SPOOL_FAILURES).increment(1);
}

/// Sets how long the oldest record in a buffer has waited.
#[allow(clippy::cast_precision_loss)]
pub fn set_age(buffer: Buffer, partition: u16, millis: i64) {
    let seconds = millis.max(0) as f64 / 1000.0;
    gauge!(AGE, "place" => buffer.label(), "partition" => partition.to_string()).set(seconds);
}

/// Sets how many steps wait in memory.
#[allow(clippy::cast_precision_loss)]
pub fn set_queue_length(partition: u16, length: usize) {
    gauge!(QUEUE, "partition" => partition.to_string()).set(length as f64);
}

/// Sets the size of the spool.
#[allow(clippy::cast_precision_loss)]
pub fn set_spool_bytes(bytes: u64) {
    gauge!(SPOOL).set(bytes as f64);
}

fn mode_label(mode: CaptureMode) -> &'static str {
    match mode {
        CaptureMode::Unspecified => "unknown",
        CaptureMode::Strict => "strict",
        CaptureMode::Spool => "spool",
        CaptureMode::BestEffort => "best_effort",
    }
}

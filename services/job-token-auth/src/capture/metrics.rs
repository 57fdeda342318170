//! The metrics of captures, each named once.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use proto::paddock::job_token::v1::CaptureMode;

use crate::store::log_writer::Written;

const CAPTURES: &str = "paddock_captures_total";
const LOST: &str = "paddock_capture_lost_total";
const DROPPED: &str = "paddock_capture_dropped_total";
const RESETS: &str = "paddock_capture_store_resets_total";
const UNREADABLE: &str = "paddock_capture_unreadable_total";
const FAILURES: &str = "paddock_capture_write_failures_total";
const AGE: &str = "paddock_capture_unflushed_age_seconds";
const QUEUE: &str = "paddock_capture_queue_length";
const SPOOL: &str = "paddock_capture_spool_bytes";

/// Describes them, once a process.
pub fn describe() {
    describe_counter!(CAPTURES, "captures that came to an end, by outcome (flushed, discarded, unresolved) and mode");
    describe_counter!(LOST, "records that were acknowledged and never arrived in the log; any is a loss of data");
    describe_counter!(
        DROPPED,
        "steps of captures that were left out, as their mode allows, because the queue was full"
    );
    describe_counter!(RESETS, "times that Redis had forgotten what this process wrote");
    describe_counter!(UNREADABLE, "records that cannot be read and were set aside");
    describe_counter!(FAILURES, "captures that could not be kept as their mode promises");
    describe_gauge!(AGE, Unit::Seconds, "age of the oldest record that is not in the log yet");
    describe_gauge!(QUEUE, "steps of captures that wait in memory for the store");
    describe_gauge!(SPOOL, Unit::Bytes, "size of the spool");
    // Whoever looks must be able to tell "none" from "no such metric".
    counter!(LOST).absolute(0);
    counter!(UNREADABLE).absolute(0);
    for step in ["pend", "flush"] {
        counter!(DROPPED, "step" => step).absolute(0);
    }
}

/// A capture came to an end.
pub fn ended(outcome: &'static str, mode: CaptureMode, count: u64) {
    counter!(CAPTURES, "outcome" => outcome, "mode" => name(mode)).increment(count);
}

/// Captures newly have no verdict.
pub fn unresolved(written: &Written) {
    for (mode, count) in &written.unresolved {
        ended("unresolved", CaptureMode::try_from(*mode).unwrap_or_default(), *count);
    }
}

/// Records are lost.
pub fn lost(count: u64) {
    counter!(LOST).increment(count);
}

/// A step was left out.
pub fn dropped(step: &'static str) {
    counter!(DROPPED, "step" => step).increment(1);
}

/// Redis had forgotten this process.
pub fn reset() {
    counter!(RESETS).increment(1);
}

/// A record was set aside.
pub fn unreadable() {
    counter!(UNREADABLE).increment(1);
}

/// A capture could not be kept as its mode promises.
pub fn failed(mode: CaptureMode) {
    counter!(FAILURES, "mode" => name(mode)).increment(1);
}

/// The oldest record that is not in the log yet.
#[allow(clippy::cast_precision_loss)]
pub fn age(partition: u16, millis: i64) {
    gauge!(AGE, "partition" => partition.to_string()).set(millis.max(0) as f64 / 1000.0);
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

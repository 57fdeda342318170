//! Tests that need what the machine lacks.

use std::io::Write as _;

/// Says that a test is skipped, past the test runner, which keeps what passing tests print to itself. In CI nothing may be
/// skipped, so there it fails.
pub fn skipped(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI nothing may be skipped: {what}");
    // If standard error is closed, there is no other way to report it.
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

/// Says what a test measured, past the test runner.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "measured: {what}");
}

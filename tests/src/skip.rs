//! Notes that tests print: what they skip, and what they measure.

use std::io::Write as _;

/// Prints that a test is skipped. It writes to standard error directly, because the test runner hides the output of tests that
/// pass. In CI nothing may be skipped, so the test fails there.
pub fn skipped(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI nothing may be skipped: {what}");
    // If standard error is closed, there is no other way to report it.
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

/// Prints what a test measured, to standard error directly.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "measured: {what}");
}

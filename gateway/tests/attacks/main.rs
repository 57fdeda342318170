//! Thousands of generated attacks on the protected routes, and large bodies, over real sockets. They run in a separate
//! process, so that their log lines do not slow down the tests that search the log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connection;
mod generate;
mod identity;
mod memory;
mod paths;
mod smuggling;
#[path = "../http/support/mod.rs"]
#[allow(dead_code)]
mod support;

/// Returns the number of attacks that a test generates: all of them in `make soak`, a fifth in `make test`.
fn attack_count(all: usize) -> usize {
    if std::env::var_os("PADDOCK_TEST_SOAK").is_some() { all } else { all / 5 }
}

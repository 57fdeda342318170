//! Thousands of generated attacks on the protected routes, and bodies of any size, over real sockets. They have a process of their own, so that
//! what they log does not slow the search through the log of other tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connection;
mod identity;
mod memory;
mod paths;
mod smuggling;
#[path = "../http/support/mod.rs"]
#[allow(dead_code)]
mod support;

/// How many attacks a test generates: all of them in `make soak`, a fifth in `make test`.
fn generated(all: usize) -> usize {
    if std::env::var_os("PADDOCK_TEST_SOAK").is_some() { all } else { all / 5 }
}

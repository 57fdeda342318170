//! The service as its callers meet it: over a socket, with signed identities, on both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authorization;
mod jobs;
mod log;
mod matrix;
mod scope;
mod support;

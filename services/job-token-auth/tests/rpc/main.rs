//! The service as its callers meet it: over a socket, with signed identities, on both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authentication_log;
mod authorization;
mod jobs;
mod matrix;
mod scope;
mod support;

//! The gateway over real HTTP, in front of a registry that answers as the test says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod bodies;
mod clients;
mod credentials;
mod envelopes;
mod failures;
mod files;
mod guard;
mod lifecycle;
mod limits;
mod logging;
mod openapi;
mod outputs;
mod pages;
mod protected;
mod support;

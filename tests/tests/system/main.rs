//! Tests of the real binaries through their ports, one file per promise of the product, and tests of rules for the whole source.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_matrix;
mod architecture;
mod bad_input;
mod client_ids;
mod clients;
mod database;
mod database_errors;
mod distributed;
mod docs;
mod expiry_and_deadline;
mod fixtures;
mod job_tokens;
mod literals;
mod operator;
mod quick_start;
mod restart;
mod rooms;
mod rotation_storm;
mod secrets_never_logged;
mod style;
mod telemetry;

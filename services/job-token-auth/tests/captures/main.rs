//! Captures over their real stores: Redis and Postgres where they are installed, and SQLite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crashes;
mod gaps;
mod outages;
mod redis_forms;
mod spool;
mod steps;
mod support;

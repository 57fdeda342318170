//! Tests of the service through real clients: each starts the service on a free port, on SQLite and on Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_tokens;
mod bootstrap;
mod directory;
mod faults;
mod groups;
mod instance;
mod lists;
mod members;
mod permissions;
mod projects;
mod races;
mod runners;
mod support;
mod users;

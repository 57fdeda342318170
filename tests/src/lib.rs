//! The harness of the black-box tests and benchmarks: it starts the real processes on free ports and temporary folders,
//! speaks to them as clients do, and stops them.

// A failed step of a test ends the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod api;
mod binaries;
mod distributed;
mod fake_clock;
mod files;
mod paddock;
mod postgres;
mod program;
pub mod raw;
mod redis;
mod skip;
mod upstream;
mod wait;

pub use api::{Answer, Api, header_of, send};
pub use binaries::path as binary;
pub use distributed::{Database, Distributed, JobTokenAuth, Registry};
pub use fake_clock::FakeClock;
pub use files::{files_below, root};
pub use paddock::Paddock;
pub use postgres::{OwnPostgres, postgres};
pub use program::{Program, free_port};
pub use redis::{Redis, find_library, find_program};
pub use skip::{say, skipped};
pub use upstream::{LOCATION, Received, Upstream};
pub use wait::within;

/// The header that carries the id of a request, both ways.
pub const REQUEST_ID: &str = "x-request-id";

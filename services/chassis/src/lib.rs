//! The base of every process: configuration, secrets, telemetry, the clock, refusals and faults, the signed identity of calls,
//! and the gRPC server and client.
//!
//! No module here knows the domain of a process.

pub mod access;
pub mod client;
pub mod client_id;
pub mod clock;
pub mod config;
#[cfg(feature = "database")]
pub mod db;
pub mod identity;
pub mod process;
pub mod secrets;
pub mod server;
pub mod status;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

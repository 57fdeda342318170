//! The gRPC services of the contract. A handler validates the request, calls the rules and the store, and makes the response.

pub mod authentication_log;
pub mod authorization;
pub mod jobs;
mod parameters;
pub mod scope;
mod state;

pub use self::state::State;

//! The routes of the contract, and the gRPC call behind each of them.

pub mod call;
pub mod routes;

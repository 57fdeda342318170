//! Captures in Redis: the pending ones in a hash, with their deadlines in a sorted set, and the records on their way to the
//! log in a stream. Each partition has its own keys, in one slot of a cluster.

pub mod batch;
pub mod connection;
pub mod inspection;
pub mod keys;
pub mod stream;

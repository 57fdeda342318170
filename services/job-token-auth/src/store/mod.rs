//! Every query.

pub mod gaps;
pub mod log_writer;

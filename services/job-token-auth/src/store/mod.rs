//! Every query.

pub mod allowlists;
pub mod jobs;
pub mod known_projects;
pub mod gaps;
pub mod log_writer;
pub mod log_reader;

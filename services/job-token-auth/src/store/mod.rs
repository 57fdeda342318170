//! The queries on the tables of the service.

pub mod allowlists;
pub mod gaps;
pub mod jobs;
pub mod known_projects;
pub mod log_reader;
pub mod log_writer;

//! The queries on the tables of the service.

pub mod allowlists;
pub mod jobs;
pub mod known_projects;
pub mod log_reader;

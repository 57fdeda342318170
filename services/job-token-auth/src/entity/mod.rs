//! The sea-orm entities of the tables that are read row by row.

pub mod job;
pub mod known_project;

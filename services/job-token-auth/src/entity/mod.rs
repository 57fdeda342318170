//! The tables that are read row by row, as sea-orm entities.

pub mod job;
pub mod known_project;

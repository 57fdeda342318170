//! The file formats of the authentication log.

pub mod csv;
pub mod jsonl;

//! What is made of the log, without any look-up.

pub mod autopopulate;
pub mod csv;
pub mod jsonl;
pub mod rehearsal;

//! The rules of allowlists, without I/O: which policies there are, whether a job may reach a project, what an allowlist would
//! have done to recorded accesses, and which entries it needs for them.

pub mod dry_run;
pub mod from_log;
pub mod policy;
pub mod rules;

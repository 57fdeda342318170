//! What operators see of requests: one line in the log and the counts in the metrics, with the names of the contract.

pub mod access_log;
pub mod cut_off;
pub mod metrics;

//! The credential of a request: where it may stand, whether it can be one, whose it is, and how it is kept out of logs.

pub mod carriers;
pub mod exchange;
pub mod plan;
pub mod redact;
pub mod token;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

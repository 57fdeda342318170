//! The credential of a request: where it is allowed, its form, its identity, and how it is kept out of logs.

pub mod carriers;
pub mod exchange;
pub mod plan;
pub mod redact;
pub mod token;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

//! What the tests of several services share. Only their `[dev-dependencies]` switch the feature `testing` on.

pub mod answer;
pub mod caller;
pub mod postgres;

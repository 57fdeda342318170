//! Job tokens: what they say, and the keys that sign them.

pub mod keys;
pub mod token;

//! The rules for runners and their tokens, without I/O: what a field may hold, when a token expires, what its rotation
//! returns, and which event its use is.

pub mod expiry;
pub mod kind;
pub mod rotation;
pub mod seal;
pub mod status;
pub mod token;
pub mod token_event;
pub mod validation;

//! Reads the parts of a request that every kind of route needs: the id and the host in its head, and its body within the
//! limits on memory and time.
//!
//! This is a separate room because both kinds of routes use it: the routes of the contract read every body, protected
//! routes read forms and drain the rest that an upstream leaves unread. `input/` is above it: there a body becomes a message.

pub mod body;
pub mod head;

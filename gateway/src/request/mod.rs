//! What the gateway reads of a request before it knows which kind of route serves it: the id and the host in its head,
//! and its body within the limits on memory and time.
//!
//! This is a room of its own because both kinds of routes use it: the routes of the contract read every body, protected
//! routes read forms and drain what an upstream leaves. `input/` stands above it: there a body becomes a message.

pub mod body;
pub mod head;

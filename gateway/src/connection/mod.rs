//! A client's connection: which version of HTTP it speaks, whether its client is still there, how long it has been
//! idle, and the address of the client behind trusted proxies. Nothing here knows of requests to the API.

pub mod activity;
pub mod forwarded_for;
pub mod networks;
pub mod socket;
pub mod version;

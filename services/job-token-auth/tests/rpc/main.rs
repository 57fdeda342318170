//! The service as its callers meet it: over a socket, with signed identities, on both databases.

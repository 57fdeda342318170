//! The rules for users, groups and projects, without I/O: their paths and texts, who may do what, and the token of a
//! user.

pub mod paths;
pub mod permission;
pub mod text;
pub mod user_token;

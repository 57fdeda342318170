//! The protected routes: what is decided, forwarded, recorded and answered.

mod credentials;
mod records;
mod streams;
mod verdicts;

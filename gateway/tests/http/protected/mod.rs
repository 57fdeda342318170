//! The protected routes: what is decided, forwarded, recorded and answered.

mod credentials;
mod forms;
mod limits;
mod records;
mod streams;
mod strictness;
mod tls;
mod verdicts;

//! The contract between the processes of Paddock: the messages and services, and the tables of credentials, internal headers,
//! secrets, reasons of refusal and methods that the `.proto` files declare as options.
//!
//! The code below `gen/` is generated. `make proto` writes it, and a test checks that it is current.

pub mod contract;
pub mod iso8601;
pub mod json;
pub mod role;
pub mod timestamp;

#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod r#gen {
    pub mod messages {
        include!("gen/messages.rs");
    }
}

pub use contract::DESCRIPTOR_SET;
pub use r#gen::messages::paddock;

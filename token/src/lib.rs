//! The form of every kind of token: how a token is generated, parsed and checked without any look-up, and the digest under which
//! it is stored.
//!
//! What a token grants is not known here; the services that issue tokens define their types on top of [`TokenText`].

mod checksum;
mod digest;
mod form;
mod generate;
mod parse;
mod text;

pub use checksum::{CHECKSUM_LENGTH, checksum};
pub use digest::Digest;
pub use form::{MAX_JWT_LENGTH, is_jwt, matches};
pub use generate::{EntropyError, RANDOM_LENGTH};
pub use parse::{FormError, is_well_formed};
pub use text::TokenText;

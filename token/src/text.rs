//! The text of a token that has a checksum.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    checksum::CHECKSUM_LENGTH,
    digest::Digest,
    generate::{EntropyError, RANDOM_LENGTH, generate},
    parse::{FormError, check},
};

/// The text of a token: a fixed start, 32 random base62 characters and 6 of checksum.
///
/// It is erased from memory when it is dropped, compares in constant time, and never prints itself.
pub struct TokenText(Zeroizing<String>);

impl TokenText {
    /// Generates a new token.
    ///
    /// # Errors
    /// If the operating system returns no random bytes.
    pub fn generate(start: &str) -> Result<Self, EntropyError> {
        Ok(Self(generate(start)?))
    }

    /// Reads a presented token of which `random` is the end: what follows the fixed start.
    ///
    /// # Errors
    /// Says which part of the form is wrong.
    pub fn parse(text: &str, random: &str) -> Result<Self, FormError> {
        if random.len() != RANDOM_LENGTH + CHECKSUM_LENGTH {
            return Err(FormError::Length);
        }
        check(text, random)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Returns what is stored of the token.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// Returns the text, for the one response that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for TokenText {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for TokenText {}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText")
    }
}

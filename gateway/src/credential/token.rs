//! A credential as a client sent it.

use std::fmt;

use zeroize::Zeroizing;

/// A credential as it was sent, of any kind and any form. It never prints itself and is erased from memory when it is
/// dropped.
///
/// The types of the crate `token` are for tokens whose form is right; `chassis::secrets::SecretBytes` holds bytes. This
/// one is a text that is not checked yet, and taking it costs no copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the text, for sending it on or hashing it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

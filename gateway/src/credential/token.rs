//! A credential as a client sent it.

use chassis::secrets::SecretText;
use sha2::{Digest as _, Sha256};

/// A credential as it was sent, of any kind and any form. It is not checked yet; the crate `token` checks its form.
pub type Token = SecretText;

/// The SHA-256 digest of a credential. It stands for the credential in memory.
pub type TokenDigest = [u8; 32];

/// Returns the digest of a credential.
pub fn digest(token: &Token) -> TokenDigest {
    Sha256::digest(token.expose()).into()
}

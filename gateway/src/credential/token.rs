//! A credential as a client sent it.

use chassis::secrets::SecretText;

/// A credential as it was sent, of any kind and any form. It is not checked yet; the crate `token` checks its form.
pub type Token = SecretText;

//! Tells a token of a kind from any other text, by the form that the contract gives to the kind.

use proto::{contract::CredentialSpec, paddock::contract::v1::CredentialForm};

use crate::parse::is_well_formed;

/// The maximum length of a token that is a JSON Web Token, prefix included, in bytes. A longer text is refused unread.
pub const MAX_JWT_LENGTH: usize = 2048;

/// Header, claims and signature (RFC 7515, section 3.1).
const JWT_PARTS: usize = 3;

/// Reports whether the text has the form that the contract gives to a kind of credential.
#[must_use]
pub fn matches(text: &str, spec: &CredentialSpec) -> bool {
    match spec.form {
        CredentialForm::Unspecified => false,
        CredentialForm::Checksum => is_well_formed(text, spec.prefix),
        CredentialForm::Jwt => is_jwt(text, spec.prefix),
    }
}

/// Reports whether the text is the prefix and three non-empty parts of base64url. The signature is not checked: that needs the key.
#[must_use]
pub fn is_jwt(text: &str, prefix: &str) -> bool {
    if text.len() > MAX_JWT_LENGTH {
        return false;
    }
    let Some(body) = text.strip_prefix(prefix) else { return false };
    body.split('.').count() == JWT_PARTS && body.split('.').all(is_jwt_part)
}

fn is_jwt_part(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(is_base64url)
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_token_has_three_parts_and_a_limit() {
        let longest = format!("pre-a.b.{}", "c".repeat(MAX_JWT_LENGTH - 8));
        for text in ["pre-a.b.c", "pre-eyJ.e-3_0.Z", longest.as_str()] {
            assert!(is_jwt(text, "pre-"), "{text}");
        }
        let too_long = format!("{longest}c");
        for text in [
            "",
            "pre-",
            "a.b.c",
            "pre-a.b",
            "pre-a.b.",
            "pre-.b.c",
            "pre-a..c",
            "pre-a.b.c.d",
            "pre-a.b.c ",
            "pre-a.b=.c",
            "pre-a.b.\u{e9}",
            "PRE-a.b.c",
            too_long.as_str(),
        ] {
            assert!(!is_jwt(text, "pre-"), "{text}");
        }
    }
}

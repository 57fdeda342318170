//! The forms of tokens: a public prefix, and either random base62 characters with a checksum over all of it, or a signed
//! JSON Web Token. Rubbish is told from a token without any look-up.

use proto::contract::CredentialSpec;
use proto::paddock::contract::v1::CredentialForm;

/// The digits of base62, in the order of their values.
pub const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The number of characters of a checksum: 62^6 is more than 2^32.
pub const CHECKSUM_LENGTH: usize = 6;

/// No token with a checksum is longer; a longer text is refused unread.
const MAX_LENGTH: usize = 128;

/// No token that is a JSON Web Token is longer, prefix included; a longer text is refused unread.
const MAX_JWT_LENGTH: usize = 2048;

/// Header, claims and signature (RFC 7515, 3.1).
const JWT_PARTS: usize = 3;

/// The least number of random characters.
const MIN_RANDOM: usize = 20;

/// The CRC-32 (IEEE) of the text, as six base62 digits with the most significant first.
#[must_use]
pub fn checksum(text: &str) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// Whether the text has the form that the contract gives to a kind of credential.
#[must_use]
pub fn matches(text: &str, spec: &CredentialSpec) -> bool {
    match spec.form {
        CredentialForm::Unspecified => false,
        CredentialForm::Checksum => is_well_formed(text, spec.prefix),
        CredentialForm::Jwt => is_jwt(text, spec.prefix),
    }
}

/// Whether the text is the prefix and three parts of base64url, none empty. The signature is for whoever holds the key.
#[must_use]
pub fn is_jwt(text: &str, prefix: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_base64url);
    let body = text.strip_prefix(prefix).filter(|_| text.len() <= MAX_JWT_LENGTH);
    body.is_some_and(|body| body.split('.').count() == JWT_PARTS && body.split('.').all(is_part))
}

/// Whether the text is the prefix, an optional part that ends in `_`, at least 20 base62 characters, and their checksum.
#[must_use]
pub fn is_well_formed(text: &str, prefix: &str) -> bool {
    if text.len() > MAX_LENGTH {
        return false;
    }
    let Some(body) = text.strip_prefix(prefix) else { return false };
    let random = body.rsplit_once('_').map_or(body, |(_, random)| random);
    let is_base62 = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if random.len() < MIN_RANDOM + CHECKSUM_LENGTH || !body.split('_').all(is_base62) {
        return false;
    }
    let (covered, sum) = text.split_at(text.len() - CHECKSUM_LENGTH);
    checksum(covered) == *sum.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_checksum(text: &str) -> String {
        text.to_owned() + std::str::from_utf8(&checksum(text)).unwrap_or_default()
    }

    #[test]
    fn only_the_whole_token_is_well_formed() {
        let token = with_checksum("pre-t1_ABCDEFGHIJKLMNOPQRST0123456789ab");
        assert!(is_well_formed(&token, "pre-"));
        assert!(is_well_formed(&with_checksum("pre-ABCDEFGHIJKLMNOPQRST"), "pre-"));
        let cases = [
            (token.clone(), "other-"),
            (token[1..].to_owned(), "pre-"),
            (token[..token.len() - 1].to_owned(), "pre-"),
            (token.replace('A', "B"), "pre-"),
            (token.to_lowercase(), "pre-"),
            (format!("{token} "), "pre-"),
            (String::new(), ""),
            (with_checksum("pre-tooshort"), "pre-"),
            (with_checksum("pre-ABCDEFGHIJKLMNOPQRS\u{e9}"), "pre-"),
            (with_checksum(&format!("pre-{}", "A".repeat(200))), "pre-"),
        ];
        for (text, prefix) in cases {
            assert!(!is_well_formed(&text, prefix), "{text}");
        }
    }

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

    #[test]
    fn the_checksum_has_a_fixed_form() {
        assert_eq!(&checksum(""), b"000000");
        assert_eq!(&checksum("123456789"), b"3jZRME");
    }
}

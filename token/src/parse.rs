//! The rule that every token with a checksum follows. No other code has this rule: the gateway refuses malformed
//! tokens with it, and the services that issue tokens parse them with it.

use crate::checksum::{CHECKSUM_LENGTH, checksum};

/// The maximum length of a token with a checksum, in bytes. A longer text is refused unread.
const MAX_LENGTH: usize = 128;

/// The minimum number of random characters.
const MIN_RANDOM: usize = 20;

/// Why a text is not a token of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// It does not start with the prefix of the kind.
    #[error("the token does not have the prefix of its kind")]
    Prefix,
    /// It does not name a runner type after the prefix.
    #[error("the token does not name a runner type")]
    RunnerType,
    /// It is too short or too long.
    #[error("the token is too short or too long")]
    Length,
    /// It holds a character outside base62.
    #[error("the token holds a character outside base62")]
    Alphabet,
    /// The checksum does not match the rest: a character is wrong.
    #[error("the checksum of the token does not match")]
    Checksum,
}

/// Checks a token whose random part, checksum included, is `random`, the end of `text`.
pub(crate) fn check(text: &str, random: &str) -> Result<(), FormError> {
    if text.len() > MAX_LENGTH || random.len() < MIN_RANDOM + CHECKSUM_LENGTH {
        return Err(FormError::Length);
    }
    if !is_base62(random) {
        return Err(FormError::Alphabet);
    }
    let (covered, sum) = text.split_at(text.len() - CHECKSUM_LENGTH);
    if checksum(covered) == *sum.as_bytes() { Ok(()) } else { Err(FormError::Checksum) }
}

/// Reports whether the text is the prefix, optional parts that end in `_`, at least 20 base62 characters, and their checksum.
///
/// A service may accept fewer forms than this: it knows which ones it issues.
#[must_use]
pub fn is_well_formed(text: &str, prefix: &str) -> bool {
    let Some(body) = text.strip_prefix(prefix) else { return false };
    let (marker, random) = body.rsplit_once('_').unwrap_or(("", body));
    marker.split('_').all(is_base62) && check(text, random).is_ok()
}

fn is_base62(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric())
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
            (with_checksum("pre-t\u{e9}_ABCDEFGHIJKLMNOPQRST"), "pre-"),
            (with_checksum("pre-ABCDEFGHIJKLMNOPQRS\u{e9}"), "pre-"),
            (with_checksum(&format!("pre-{}", "A".repeat(200))), "pre-"),
        ];
        for (text, prefix) in cases {
            assert!(!is_well_formed(&text, prefix), "{text}");
        }
    }
}

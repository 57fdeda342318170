//! The form that every opaque token shares: a public prefix, random base62 characters, and a checksum over all of it, so
//! that rubbish is told from a token without any look-up.

/// The digits of base62, in the order of their values.
pub const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The number of characters of a checksum: 62^6 is more than 2^32.
pub const CHECKSUM_LENGTH: usize = 6;

/// No token is longer; a longer text is refused unread.
const MAX_LENGTH: usize = 128;

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
    fn the_checksum_has_a_fixed_form() {
        assert_eq!(&checksum(""), b"000000");
        assert_eq!(&checksum("123456789"), b"3jZRME");
    }
}

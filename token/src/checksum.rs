//! The checksum at the end of a token, and the alphabet that it is written in.

/// The digits of base62, in the order of their values.
pub const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The number of characters of a checksum: 62^6 is more than 2^32.
pub const CHECKSUM_LENGTH: usize = 6;

/// Returns the CRC-32 (IEEE) of the text as six base62 digits, the most significant first.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_has_a_fixed_form() {
        assert_eq!(&checksum(""), b"000000");
        assert_eq!(&checksum("123456789"), b"3jZRME");
    }
}

//! New tokens, from the random numbers of the operating system.

use rand::{
    TryRng as _,
    rngs::{SysError, SysRng},
};
use zeroize::Zeroizing;

use crate::checksum::{ALPHABET, CHECKSUM_LENGTH, checksum};

/// The number of random characters in a new token: 190 bits.
pub const RANDOM_LENGTH: usize = 32;

/// Bytes below this number map evenly onto the digits of base62; the others are skipped.
const EVEN_BYTES: u8 = 248;

/// The operating system returned no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes from the operating system: {0}")]
pub struct EntropyError(#[from] SysError);

/// Generates a token: `start`, random characters, checksum.
pub(crate) fn generate(start: &str) -> Result<Zeroizing<String>, EntropyError> {
    let length = start.len() + RANDOM_LENGTH;
    // Reserve the whole capacity at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(length + CHECKSUM_LENGTH));
    text.push_str(start);
    let mut bytes = Zeroizing::new([0u8; 2 * RANDOM_LENGTH]);
    while text.len() < length {
        SysRng.try_fill_bytes(&mut bytes[..])?;
        let even = bytes.iter().filter(|byte| **byte < EVEN_BYTES);
        let wanted = length - text.len();
        text.extend(even.take(wanted).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    let sum = checksum(&text);
    text.extend(sum.map(char::from));
    Ok(text)
}

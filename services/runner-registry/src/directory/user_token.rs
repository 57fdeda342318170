//! The personal access token of a user as a type.

use std::fmt;

use proto::paddock::contract::v1::CredentialKind;
use token::{Digest, EntropyError, FormError, TokenText};

/// The prefix of every personal access token.
const PREFIX: &str = match CredentialKind::UserToken.spec() {
    Some(spec) => spec.prefix,
    None => unreachable!(),
};

/// A personal access token: prefix, random characters, checksum.
#[derive(PartialEq, Eq)]
pub struct UserToken(TokenText);

impl UserToken {
    /// Generates a new token.
    ///
    /// # Errors
    /// If the operating system returns no random bytes.
    pub fn generate() -> Result<Self, EntropyError> {
        Ok(Self(TokenText::generate(PREFIX)?))
    }

    /// Reads a presented token.
    ///
    /// # Errors
    /// Says which part of the form is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        let random = text.strip_prefix(PREFIX).ok_or(FormError::Prefix)?;
        Ok(Self(TokenText::parse(text, random)?))
    }

    /// Returns what is stored of the token.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// Returns the text, for the one response that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for UserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserToken")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use token::{RANDOM_LENGTH, is_well_formed};

    use super::*;

    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    #[test]
    fn a_new_token_is_well_formed_and_parses() {
        let token = UserToken::generate().unwrap();
        assert!(is_well_formed(token.expose(), PREFIX));
        let parsed = UserToken::parse(token.expose()).unwrap();
        assert_eq!(parsed, token);
        assert_eq!(parsed.digest(), token.digest());
    }

    #[test]
    fn debug_shows_the_name_of_the_type_only() {
        let token = UserToken::generate().unwrap();
        assert_eq!(format!("{token:?} {:?}", token.digest()), "UserToken Digest");
    }

    #[test]
    fn all_digits_of_base62_occur_about_equally_often() {
        let mut counts = std::collections::HashMap::<char, u32>::new();
        for _ in 0..2000 {
            let token = UserToken::generate().unwrap();
            let random = &token.expose()[PREFIX.len()..][..RANDOM_LENGTH];
            random.chars().for_each(|digit| *counts.entry(digit).or_default() += 1);
        }
        // 64,000 draws over 62 digits: 1032 each, standard deviation 32. Ten of them is never seen.
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| (712..1352).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in ".*", tail in "[0-9A-Za-z_\u{e9}-]{0,60}") {
            let _ = UserToken::parse(&text);
            let _ = UserToken::parse(&format!("{PREFIX}{tail}"));
        }

        #[test]
        fn one_changed_character_is_always_noticed(position in any::<prop::sample::Index>(), by in any::<char>()) {
            let token = UserToken::generate().unwrap();
            let mut characters: Vec<char> = token.expose().chars().collect();
            let at = position.index(characters.len());
            prop_assume!(characters[at] != by);
            characters[at] = by;
            let changed: String = characters.into_iter().collect();
            prop_assert!(UserToken::parse(&changed).is_err());
        }

        #[test]
        fn one_base62_digit_for_another_is_always_noticed(position in 0usize..38, by in 0usize..62) {
            let token = UserToken::generate().unwrap();
            let mut bytes = token.expose().as_bytes().to_vec();
            let at = PREFIX.len() + position;
            prop_assume!(bytes[at] != ALPHABET[by]);
            bytes[at] = ALPHABET[by];
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(UserToken::parse(&changed).err(), Some(FormError::Checksum));
        }
    }
}

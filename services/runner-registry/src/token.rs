//! Runner tokens and personal access tokens as types.

use std::fmt;

use proto::paddock::contract::v1::CredentialKind;
use token::{Digest, EntropyError, FormError, TokenText};

use crate::runner_type::RunnerType;

const RUNNER_PREFIX: &str = prefix(CredentialKind::RunnerToken);
const USER_PREFIX: &str = prefix(CredentialKind::UserToken);

const fn prefix(kind: CredentialKind) -> &'static str {
    match kind.spec() {
        Some(spec) => spec.prefix,
        None => unreachable!(),
    }
}

/// The authentication token of a runner: prefix, `t` and the digit of the runner type, `_`, random characters, checksum.
#[derive(PartialEq, Eq)]
pub struct RunnerToken {
    text: TokenText,
    runner_type: RunnerType,
}

impl RunnerToken {
    /// Generates a new token.
    ///
    /// # Errors
    /// If the operating system returns no random bytes.
    pub fn generate(runner_type: RunnerType) -> Result<Self, EntropyError> {
        let start = format!("{RUNNER_PREFIX}t{}_", runner_type.digit());
        Ok(Self { text: TokenText::generate(&start)?, runner_type })
    }

    /// Reads a presented token.
    ///
    /// # Errors
    /// Says which part of the form is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        let body = text.strip_prefix(RUNNER_PREFIX).ok_or(FormError::Prefix)?;
        let (runner_type, random) = split_runner_type(body).ok_or(FormError::RunnerType)?;
        Ok(Self { text: TokenText::parse(text, random)?, runner_type })
    }

    /// Returns the runner type that the token names.
    #[must_use]
    pub fn runner_type(&self) -> RunnerType {
        self.runner_type
    }

    /// Returns what is stored of the token.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.text.digest()
    }

    /// Returns the text, for the one response that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }
}

impl fmt::Debug for RunnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunnerToken")
    }
}

/// A personal access token: prefix, random characters, checksum.
#[derive(PartialEq, Eq)]
pub struct UserToken(TokenText);

impl UserToken {
    /// Generates a new token.
    ///
    /// # Errors
    /// If the operating system returns no random bytes.
    pub fn generate() -> Result<Self, EntropyError> {
        Ok(Self(TokenText::generate(USER_PREFIX)?))
    }

    /// Reads a presented token.
    ///
    /// # Errors
    /// Says which part of the form is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        let random = text.strip_prefix(USER_PREFIX).ok_or(FormError::Prefix)?;
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

fn split_runner_type(body: &str) -> Option<(RunnerType, &str)> {
    let mut rest = body.strip_prefix('t')?.chars();
    let runner_type = RunnerType::from_digit(rest.next()?)?;
    Some((runner_type, rest.as_str().strip_prefix('_')?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use sha2::{Digest as _, Sha256};
    use token::{CHECKSUM_LENGTH, RANDOM_LENGTH, checksum, is_well_formed};

    use super::*;

    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    fn sealed(start: &str) -> String {
        start.to_owned() + std::str::from_utf8(&checksum(start)).unwrap()
    }

    #[test]
    fn a_new_token_has_the_form_of_its_type() {
        for (runner_type, digit) in [(RunnerType::Instance, '1'), (RunnerType::Group, '2'), (RunnerType::Project, '3')]
        {
            let token = RunnerToken::generate(runner_type).unwrap();
            let start = format!("{RUNNER_PREFIX}t{digit}_");
            assert!(token.expose().starts_with(&start));
            assert_eq!(token.expose().len(), start.len() + RANDOM_LENGTH + CHECKSUM_LENGTH);
            assert!(is_well_formed(token.expose(), RUNNER_PREFIX));
            let parsed = RunnerToken::parse(token.expose()).unwrap();
            assert_eq!((parsed.runner_type(), parsed.digest()), (runner_type, token.digest()));
            assert_eq!(parsed, token);
            assert_ne!(parsed, RunnerToken::generate(runner_type).unwrap());
        }
        let token = UserToken::generate().unwrap();
        assert!(is_well_formed(token.expose(), USER_PREFIX));
        assert_eq!(UserToken::parse(token.expose()).unwrap(), token);
    }

    #[test]
    fn the_digest_is_sha256_of_the_text_and_differs_between_tokens() {
        let token = RunnerToken::generate(RunnerType::Group).unwrap();
        let expected: [u8; 32] = Sha256::digest(token.expose()).into();
        assert_eq!(token.digest().as_bytes(), &expected);
        assert_ne!(token.digest(), RunnerToken::generate(RunnerType::Group).unwrap().digest());
    }

    #[test]
    fn debug_shows_the_name_of_the_type_only() {
        let (runner, user) = (RunnerToken::generate(RunnerType::Instance).unwrap(), UserToken::generate().unwrap());
        assert_eq!(format!("{runner:?} {user:?} {:?}", user.digest()), "RunnerToken UserToken Digest");
    }

    #[test]
    fn each_wrong_part_is_named() {
        let random = "A".repeat(RANDOM_LENGTH);
        let good = sealed(&format!("{RUNNER_PREFIX}t1_{random}"));
        let cases = [
            (String::new(), FormError::Prefix),
            (good[1..].to_owned(), FormError::Prefix),
            (sealed(&format!("{USER_PREFIX}{random}")), FormError::Prefix),
            (good.to_uppercase(), FormError::Prefix),
            (RUNNER_PREFIX.to_owned(), FormError::RunnerType),
            (sealed(&format!("{RUNNER_PREFIX}{random}")), FormError::RunnerType),
            (sealed(&format!("{RUNNER_PREFIX}t0_{random}")), FormError::RunnerType),
            (sealed(&format!("{RUNNER_PREFIX}t4_{random}")), FormError::RunnerType),
            (sealed(&format!("{RUNNER_PREFIX}t1-{random}")), FormError::RunnerType),
            (sealed(&format!("{RUNNER_PREFIX}t\u{661}_{random}")), FormError::RunnerType),
            (sealed(&format!("{RUNNER_PREFIX}t1_{random}A")), FormError::Length),
            (sealed(&format!("{RUNNER_PREFIX}t1_{}", &random[1..])), FormError::Length),
            (format!("{good}\n"), FormError::Length),
            (sealed(&format!("{RUNNER_PREFIX}t1_{}-", &random[1..])), FormError::Alphabet),
            (sealed(&format!("{RUNNER_PREFIX}t1_{}\u{e9}", &random[2..])), FormError::Alphabet),
            (good.replace("t1_", "t2_"), FormError::Checksum),
            (format!("{RUNNER_PREFIX}t1_{random}000000"), FormError::Checksum),
        ];
        for (text, expected) in cases {
            assert_eq!(RunnerToken::parse(&text).err(), Some(expected), "{text}");
        }
        assert!(RunnerToken::parse(&good).is_ok());
        assert_eq!(UserToken::parse(&good).err(), Some(FormError::Prefix));
    }

    #[test]
    fn all_digits_of_base62_occur_about_equally_often() {
        let mut counts = std::collections::HashMap::<char, u32>::new();
        for _ in 0..2000 {
            let token = UserToken::generate().unwrap();
            let random = &token.expose()[USER_PREFIX.len()..][..RANDOM_LENGTH];
            random.chars().for_each(|digit| *counts.entry(digit).or_default() += 1);
        }
        // 64,000 draws over 62 digits: 1032 each, standard deviation 32. Ten of them is never seen.
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| (712..1352).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in ".*", tail in "[0-9A-Za-z_\u{e9}-]{0,60}") {
            let _ = RunnerToken::parse(&text);
            let _ = UserToken::parse(&text);
            let _ = RunnerToken::parse(&format!("{RUNNER_PREFIX}{tail}"));
            let _ = RunnerToken::parse(&format!("{RUNNER_PREFIX}t3_{tail}"));
            let _ = UserToken::parse(&format!("{USER_PREFIX}{tail}"));
        }

        #[test]
        fn one_changed_character_is_always_noticed(place in any::<prop::sample::Index>(), by in any::<char>()) {
            for token in [RunnerToken::generate(RunnerType::Project).unwrap().expose().to_owned(),
                          UserToken::generate().unwrap().expose().to_owned()] {
                let mut characters: Vec<char> = token.chars().collect();
                let at = place.index(characters.len());
                prop_assume!(characters[at] != by);
                characters[at] = by;
                let changed: String = characters.into_iter().collect();
                prop_assert!(RunnerToken::parse(&changed).is_err());
                prop_assert!(UserToken::parse(&changed).is_err());
            }
        }

        #[test]
        fn one_base62_digit_for_another_is_always_noticed(place in 0usize..38, by in 0usize..62) {
            let token = UserToken::generate().unwrap();
            let mut bytes = token.expose().as_bytes().to_vec();
            let at = USER_PREFIX.len() + place;
            prop_assume!(bytes[at] != ALPHABET[by]);
            bytes[at] = ALPHABET[by];
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(UserToken::parse(&changed).err(), Some(FormError::Checksum));
        }
    }
}

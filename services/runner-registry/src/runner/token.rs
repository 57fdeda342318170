//! The authentication token of a runner as a type.

use std::fmt;

use proto::paddock::contract::v1::CredentialKind;
use token::{Digest, EntropyError, FormError, TokenText};

use crate::entity::runner::RunnerType;

/// The prefix of every runner token.
const PREFIX: &str = match CredentialKind::RunnerToken.spec() {
    Some(spec) => spec.prefix,
    None => unreachable!(),
};

/// The authentication token of a runner: prefix, `t` and the digit of the runner type, `_`, random characters,
/// checksum.
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
        let start = format!("{PREFIX}t{}_", runner_type.digit());
        Ok(Self { text: TokenText::generate(&start)?, runner_type })
    }

    /// Reads a presented token.
    ///
    /// # Errors
    /// Says which part of the form is wrong.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        let body = text.strip_prefix(PREFIX).ok_or(FormError::Prefix)?;
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
    use crate::directory::user_token::UserToken;

    fn with_checksum(start: &str) -> String {
        start.to_owned() + std::str::from_utf8(&checksum(start)).unwrap()
    }

    #[test]
    fn a_new_token_has_the_form_of_its_type() {
        for (runner_type, digit) in [(RunnerType::Instance, '1'), (RunnerType::Group, '2'), (RunnerType::Project, '3')]
        {
            let token = RunnerToken::generate(runner_type).unwrap();
            let start = format!("{PREFIX}t{digit}_");
            assert!(token.expose().starts_with(&start));
            assert_eq!(token.expose().len(), start.len() + RANDOM_LENGTH + CHECKSUM_LENGTH);
            assert!(is_well_formed(token.expose(), PREFIX));
            let parsed = RunnerToken::parse(token.expose()).unwrap();
            assert_eq!((parsed.runner_type(), parsed.digest()), (runner_type, token.digest()));
            assert_eq!(parsed, token);
            assert_ne!(parsed, RunnerToken::generate(runner_type).unwrap());
        }
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
        let token = RunnerToken::generate(RunnerType::Instance).unwrap();
        assert_eq!(format!("{token:?} {:?}", token.digest()), "RunnerToken Digest");
    }

    #[test]
    fn each_wrong_part_is_named() {
        let random = "A".repeat(RANDOM_LENGTH);
        let user_token = UserToken::generate().unwrap();
        let good = with_checksum(&format!("{PREFIX}t1_{random}"));
        let cases = [
            (String::new(), FormError::Prefix),
            (good[1..].to_owned(), FormError::Prefix),
            (user_token.expose().to_owned(), FormError::Prefix),
            (good.to_uppercase(), FormError::Prefix),
            (PREFIX.to_owned(), FormError::RunnerType),
            (with_checksum(&format!("{PREFIX}{random}")), FormError::RunnerType),
            (with_checksum(&format!("{PREFIX}t0_{random}")), FormError::RunnerType),
            (with_checksum(&format!("{PREFIX}t4_{random}")), FormError::RunnerType),
            (with_checksum(&format!("{PREFIX}t1-{random}")), FormError::RunnerType),
            (with_checksum(&format!("{PREFIX}t\u{661}_{random}")), FormError::RunnerType),
            (with_checksum(&format!("{PREFIX}t1_{random}A")), FormError::Length),
            (with_checksum(&format!("{PREFIX}t1_{}", &random[1..])), FormError::Length),
            (format!("{good}\n"), FormError::Length),
            (with_checksum(&format!("{PREFIX}t1_{}-", &random[1..])), FormError::Alphabet),
            (with_checksum(&format!("{PREFIX}t1_{}\u{e9}", &random[2..])), FormError::Alphabet),
            (good.replace("t1_", "t2_"), FormError::Checksum),
            (format!("{PREFIX}t1_{random}000000"), FormError::Checksum),
        ];
        for (text, expected) in cases {
            assert_eq!(RunnerToken::parse(&text).err(), Some(expected), "{text}");
        }
        assert!(RunnerToken::parse(&good).is_ok());
        assert_eq!(UserToken::parse(&good).err(), Some(FormError::Prefix));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in ".*", tail in "[0-9A-Za-z_\u{e9}-]{0,60}") {
            let _ = RunnerToken::parse(&text);
            let _ = RunnerToken::parse(&format!("{PREFIX}{tail}"));
            let _ = RunnerToken::parse(&format!("{PREFIX}t3_{tail}"));
        }

        #[test]
        fn one_changed_character_is_always_noticed(position in any::<prop::sample::Index>(), by in any::<char>()) {
            let token = RunnerToken::generate(RunnerType::Project).unwrap();
            let mut characters: Vec<char> = token.expose().chars().collect();
            let at = position.index(characters.len());
            prop_assume!(characters[at] != by);
            characters[at] = by;
            let changed: String = characters.into_iter().collect();
            prop_assert!(RunnerToken::parse(&changed).is_err());
        }
    }
}

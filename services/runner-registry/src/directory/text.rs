//! The texts that callers send: their length, and characters that a database cannot store. The wording is GitLab's.

use crate::error::{Error, FieldErrors, Result};

/// The greatest length of a name.
pub const MAX_NAME: usize = 255;

/// Checks a text that must not be blank.
pub fn check_required(errors: &mut FieldErrors, field: &'static str, text: &str, max: usize) {
    if text.trim().is_empty() {
        errors.push(field, "can't be blank");
    }
    check_optional(errors, field, Some(text), max);
}

/// Checks a text that may be blank or missing.
pub fn check_optional(errors: &mut FieldErrors, field: &'static str, text: Option<&str>, max: usize) {
    let text = text.unwrap_or_default();
    if text.chars().count() > max {
        errors.push(field, format!("is too long (maximum is {max} characters)"));
    }
    if has_nul(text) {
        errors.push(field, "is invalid");
    }
}

/// Reports whether the text holds NUL, the one character that Postgres cannot store.
#[must_use]
pub fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Refuses a parameter that holds NUL.
///
/// # Errors
/// [`Error::ParameterInvalid`].
pub fn forbid_nul(name: &'static str, text: &str) -> Result<()> {
    if has_nul(text) { Err(Error::ParameterInvalid(format!("{name} is invalid"))) } else { Ok(()) }
}

/// Returns the text that a parameter searches a list for; none if it is blank.
///
/// # Errors
/// [`Error::ParameterInvalid`] for a text that no record can contain.
pub fn search<'a>(name: &'static str, text: Option<&'a str>) -> Result<Option<&'a str>> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    if text.is_some_and(|text| has_nul(text) || text.chars().count() > MAX_NAME) {
        return Err(Error::ParameterInvalid(format!("{name} is invalid")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_checked_by_characters_not_bytes() {
        let ten = "é".repeat(10);
        let eleven = "é".repeat(11);
        let cases = [("name", true), (&ten, true), ("", false), (" \t", false), (&eleven, false), ("na\0me", false)];
        for (text, valid) in cases {
            let mut errors = FieldErrors::default();
            check_required(&mut errors, "name", text, 10);
            assert_eq!(errors.check().is_ok(), valid, "{text:?}");
        }
        let mut errors = FieldErrors::default();
        check_optional(&mut errors, "name", Some(""), 10);
        check_optional(&mut errors, "name", None, 10);
        assert!(errors.check().is_ok());
    }

    #[test]
    fn a_blank_search_is_none() {
        for blank in [None, Some(""), Some("  ")] {
            assert_eq!(search("search", blank).ok(), Some(None));
        }
        assert_eq!(search("search", Some(" a ")).ok(), Some(Some("a")));
        assert!(search("search", Some("a\0")).is_err());
        assert!(search("search", Some(&"a".repeat(256))).is_err());
    }
}

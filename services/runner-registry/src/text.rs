//! The texts that callers send: how long they may be, and that both databases can keep them.

use crate::error::{Error, FieldErrors, Result};

/// The greatest length of a name.
pub const MAX_NAME: usize = 255;

/// Checks a text that must not be blank. The wording is GitLab's.
pub fn check_required(errors: &mut FieldErrors, field: &'static str, text: &str, max: usize) {
    if text.trim().is_empty() {
        errors.push(field, "can't be blank");
    }
    check_optional(errors, field, text, max);
}

/// Checks a text that may be blank. The wording is GitLab's.
pub fn check_optional(errors: &mut FieldErrors, field: &'static str, text: &str, max: usize) {
    if text.chars().count() > max {
        errors.push(field, format!("is too long (maximum is {max} characters)"));
    }
    if has_nul(text) {
        errors.push(field, "is invalid");
    }
}

/// Whether the text holds the one character that Postgres cannot keep.
#[must_use]
pub fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Refuses a parameter that holds the one character that Postgres cannot keep.
///
/// # Errors
/// [`Error::ParameterInvalid`] with the wording of GitLab.
pub fn forbid_nul(name: &'static str, text: &str) -> Result<()> {
    if has_nul(text) { Err(Error::ParameterInvalid(format!("{name} is invalid"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_checked_by_characters_not_bytes() {
        let cases = [
            ("name", true),
            (&"é".repeat(10), true),
            ("", false),
            (" \t", false),
            (&"é".repeat(11), false),
            ("na\0me", false),
        ];
        for (text, valid) in cases {
            let mut errors = FieldErrors::default();
            check_required(&mut errors, "name", text, 10);
            assert_eq!(errors.check().is_ok(), valid, "{text:?}");
        }
        let mut errors = FieldErrors::default();
        check_optional(&mut errors, "name", "", 10);
        assert!(errors.check().is_ok());
    }
}

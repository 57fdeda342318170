//! The paths of users, groups and projects: the rules for a segment, how segments make a full path, and what the `:id`
//! of a request means. Paths are ASCII and compared regardless of case, as with GitLab.

use crate::error::FieldErrors;

/// The greatest length of a segment, and of a full path.
pub const MAX_LENGTH: usize = 255;

/// How deep groups may be nested. Source: <https://docs.gitlab.com/user/group/subgroups/>
pub const MAX_DEPTH: usize = 20;

/// Endings that GitLab reserves for the addresses of repositories and feeds.
const RESERVED_ENDINGS: [&str; 3] = [".", ".git", ".atom"];

/// Why a segment is refused, in GitLab's words.
const SEGMENT_RULE: &str = "can contain only letters, digits, '_', '-' and '.'. Cannot start with '-' or '.', \
                            or end in '.', '.git' or '.atom'";

/// What the `:id` of a group or a project means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectId {
    /// The number of the object.
    Number(i64),
    /// The key of its full path, see [`key`].
    Path(String),
}

impl ObjectId {
    /// Reads an id or a full path. Returns none if no object can have such an id; then no query is needed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(number) = text.parse()
        {
            return Some(Self::Number(number));
        }
        let possible = text.len() <= MAX_LENGTH && text.split('/').all(is_segment);
        possible.then(|| Self::Path(key(text)))
    }
}

/// Returns the form in which full paths are compared.
#[must_use]
pub fn key(full_path: &str) -> String {
    full_path.to_ascii_lowercase()
}

/// Returns the full path of a segment in a namespace.
#[must_use]
pub fn join(namespace: &str, segment: &str) -> String {
    format!("{namespace}/{segment}")
}

/// Returns the full path with another last segment.
#[must_use]
pub fn with_last_segment(full_path: &str, segment: &str) -> String {
    match full_path.rsplit_once('/') {
        Some((namespace, _)) => join(namespace, segment),
        None => segment.to_owned(),
    }
}

/// Checks a segment for the field that it came in.
pub fn check_segment(errors: &mut FieldErrors, field: &'static str, segment: &str) {
    if segment.is_empty() {
        errors.push(field, "can't be blank");
    } else if segment.len() > MAX_LENGTH {
        errors.push(field, too_long());
    } else if !is_segment(segment) {
        errors.push(field, SEGMENT_RULE);
    }
}

/// Checks that a full path of this many characters is not too long.
///
/// # Errors
/// The text for the caller.
pub fn check_length(length: usize) -> Result<(), String> {
    if length > MAX_LENGTH { Err(too_long()) } else { Ok(()) }
}

fn too_long() -> String {
    format!("is too long (maximum is {MAX_LENGTH} characters)")
}

/// Returns the path for a project that has only a name; empty if the name has no letter or digit.
#[must_use]
pub fn from_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let path = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    path.chars().take(MAX_LENGTH).collect()
}

fn is_segment(segment: &str) -> bool {
    let lower = key(segment);
    !segment.is_empty()
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        && !segment.starts_with(['-', '.'])
        && !RESERVED_ENDINGS.iter().any(|ending| lower.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_segment_has_letters_digits_and_a_few_signs() {
        let long = "a".repeat(MAX_LENGTH);
        for segment in ["a", "A", "0", "_", "_a", "a-", "a--b", "a.b", "a_b", "gitx", "a.gitx", "9-a.B_c", &long] {
            let mut errors = FieldErrors::default();
            check_segment(&mut errors, "path", segment);
            assert!(errors.check().is_ok(), "{segment}");
        }
        let too_long = "a".repeat(MAX_LENGTH + 1);
        for segment in [
            "", "-", "-a", ".", "..", ".a", "a.", "a.git", "a.GIT", ".git", "a.atom", "a/b", "a b", "a\0", "é",
            "a%2Fb", "a\\b", "a?", "a#", &too_long,
        ] {
            let mut errors = FieldErrors::default();
            check_segment(&mut errors, "path", segment);
            assert!(errors.check().is_err(), "{segment}");
        }
    }

    #[test]
    fn an_id_is_a_number_or_a_possible_path() {
        fn path(text: &str) -> Option<ObjectId> {
            Some(ObjectId::Path(text.to_owned()))
        }
        let deep = ["seg"; 64].join("/");
        let cases = [
            ("1", Some(ObjectId::Number(1))),
            ("007", Some(ObjectId::Number(7))),
            ("0", Some(ObjectId::Number(0))),
            ("9223372036854775807", Some(ObjectId::Number(i64::MAX))),
            // A number has fewer digits, but a path may have more.
            ("9223372036854775808", path("9223372036854775808")),
            ("-1", None),
            ("1.5", path("1.5")),
            ("group", path("group")),
            ("Group/Sub/Project", path("group/sub/project")),
            ("1/2", path("1/2")),
            ("", None),
            ("/", None),
            ("a/", None),
            ("/a", None),
            ("a//b", None),
            ("a/../b", None),
            ("..", None),
            ("a\0b", None),
            ("a%2Fb", None),
            ("é", None),
            (&deep, path(&deep)),
            (&format!("{deep}x"), None),
        ];
        for (text, expected) in cases {
            assert_eq!(ObjectId::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_last_segment_is_replaced() {
        assert_eq!(with_last_segment("a", "b"), "b");
        assert_eq!(with_last_segment("a/b/c", "d"), "a/b/d");
    }

    #[test]
    fn a_name_gives_a_path() {
        let cases = [
            ("My Project", "my-project"),
            ("  a  --  b!", "a-b"),
            ("snake_case", "snake_case"),
            ("v1.2", "v1-2"),
            ("Über", "ber"),
            ("日本", ""),
            ("", ""),
            ("../../etc", "etc"),
        ];
        for (name, expected) in cases {
            assert_eq!(from_name(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_path_from_a_name_is_empty_or_valid(name in ".*") {
            let path = from_name(&name);
            prop_assert!(path.is_empty() || is_segment(&path), "{path}");
        }

        #[test]
        fn a_parsed_path_is_its_own_key(text in "[a-zA-Z0-9./_ é%-]{0,40}") {
            if let Some(ObjectId::Path(path)) = ObjectId::parse(&text) {
                prop_assert_eq!(ObjectId::parse(&path), Some(ObjectId::Path(path.clone())));
                prop_assert!(path.eq_ignore_ascii_case(&text));
            }
        }
    }
}

//! The rules for the fields of a runner, with GitLab's texts per field.
//!
//! Source: <https://docs.gitlab.com/api/users/#create-a-runner-linked-to-a-user>

use std::collections::HashSet;

use crate::{directory::text, error::FieldErrors};

/// The most characters of a description.
pub const MAX_DESCRIPTION: usize = 1024;

/// The most characters of a maintenance note.
pub const MAX_MAINTENANCE_NOTE: usize = 1024;

/// The most characters of the name that a runner program reports.
pub const MAX_NAME: usize = 256;

/// The most tags.
pub const MAX_TAGS: usize = 50;

/// The least time in seconds that a runner may give one job.
pub const MIN_MAXIMUM_TIMEOUT: i32 = 600;

/// The fields of a runner as they would be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The description.
    pub description: Option<&'a str>,
    /// A note for its maintainers.
    pub maintenance_note: Option<&'a str>,
    /// The name that the runner program reports.
    pub name: Option<&'a str>,
    /// The tags by which jobs select it.
    pub tags: &'a [String],
    /// Whether it takes jobs without tags.
    pub run_untagged: bool,
    /// The longest time that it works on one job, in seconds.
    pub maximum_timeout: Option<i32>,
}

/// Checks the fields of a runner.
#[must_use]
pub fn validate(fields: &Fields<'_>) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let texts = [
        ("description", fields.description, MAX_DESCRIPTION),
        ("maintenance_note", fields.maintenance_note, MAX_MAINTENANCE_NOTE),
        ("name", fields.name, MAX_NAME),
    ];
    for (field, value, most) in texts {
        text::check_optional(&mut errors, field, value, most);
    }
    if fields.maximum_timeout.is_some_and(|seconds| seconds < MIN_MAXIMUM_TIMEOUT) {
        errors.push("maximum_timeout", "needs to be at least 10 minutes");
    }
    if fields.tags.is_empty() && !fields.run_untagged {
        errors.push("tags_list", "can not be empty when runner is not allowed to pick untagged jobs");
    }
    if fields.tags.len() > MAX_TAGS {
        let text = format!("Too many tags specified. Please limit the number of tags to {MAX_TAGS}");
        errors.push("tags_list", text);
    }
    if fields.tags.iter().any(|tag| text::has_nul(tag)) {
        errors.push("tags_list", "is invalid");
    }
    errors
}

/// Returns all texts as one sentence: `Maximum timeout needs to be at least 10 minutes and Tags list ...`.
#[must_use]
pub fn sentence(errors: &FieldErrors) -> String {
    let parts: Vec<_> = errors.iter().map(|(field, text)| format!("{} {text}", humanize_field(field))).collect();
    match parts.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        [start @ .., last] => format!("{}, and {last}", start.join(", ")),
    }
}

/// Returns the tags as they are stored: split at commas, trimmed, without empty ones and repetitions, in the given
/// order.
#[must_use]
pub fn normalize_tags(given: &[String]) -> Vec<String> {
    // A set, because a request can hold a hundred thousand tags, and only the result is checked against the limit.
    let mut known = HashSet::new();
    let tags = given.iter().flat_map(|text| text.split(',')).map(str::trim);
    tags.filter(|tag| !tag.is_empty() && known.insert(*tag)).map(str::to_owned).collect()
}

fn humanize_field(field: &str) -> String {
    let words = field.replace('_', " ");
    let mut characters = words.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTAGGED: &str = "can not be empty when runner is not allowed to pick untagged jobs";

    fn tags(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("tag{number}")).collect()
    }

    fn check(fields: &Fields<'_>) -> Vec<(&'static str, String)> {
        validate(fields).iter().map(|(field, text)| (field, text.to_owned())).collect()
    }

    fn too_long(max: usize) -> String {
        format!("is too long (maximum is {max} characters)")
    }

    #[test]
    fn each_bound_is_held_to_the_character() {
        let fits = "\u{e9}".repeat(1024);
        let over = "\u{e9}".repeat(1025);
        let name_fits = "\u{e9}".repeat(256);
        let name_over = "\u{e9}".repeat(257);
        let fifty = tags(50);
        let fifty_one = tags(51);
        let valid = Fields { run_untagged: true, ..Fields::default() };
        let cases = [
            (valid.clone(), vec![]),
            (Fields { description: Some(&fits), maintenance_note: Some(&fits), ..valid.clone() }, vec![]),
            (Fields { description: Some(&over), ..valid.clone() }, vec![("description", too_long(1024))]),
            (Fields { maintenance_note: Some(&over), ..valid.clone() }, vec![("maintenance_note", too_long(1024))]),
            (Fields { name: Some(&name_fits), ..valid.clone() }, vec![]),
            (Fields { name: Some(&name_over), ..valid.clone() }, vec![("name", too_long(256))]),
            (Fields { description: Some("a\0b"), ..valid.clone() }, vec![("description", "is invalid".to_owned())]),
            (Fields { maximum_timeout: Some(600), ..valid.clone() }, vec![]),
            (
                Fields { maximum_timeout: Some(599), ..valid.clone() },
                vec![("maximum_timeout", "needs to be at least 10 minutes".to_owned())],
            ),
            (
                Fields { maximum_timeout: Some(i32::MIN), ..valid.clone() },
                vec![("maximum_timeout", "needs to be at least 10 minutes".to_owned())],
            ),
            (Fields { tags: &fifty, run_untagged: false, ..valid.clone() }, vec![]),
            (
                Fields { tags: &fifty_one, ..valid.clone() },
                vec![("tags_list", "Too many tags specified. Please limit the number of tags to 50".to_owned())],
            ),
            (Fields { run_untagged: false, ..valid.clone() }, vec![("tags_list", UNTAGGED.to_owned())]),
        ];
        for (fields, expected) in cases {
            assert_eq!(check(&fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn all_errors_make_one_sentence() {
        let long = "x".repeat(1025);
        let mut fields = Fields { run_untagged: false, ..Fields::default() };
        assert_eq!(sentence(&validate(&fields)), format!("Tags list {UNTAGGED}"));
        fields.maximum_timeout = Some(1);
        let two = format!("Maximum timeout needs to be at least 10 minutes and Tags list {UNTAGGED}");
        assert_eq!(sentence(&validate(&fields)), two);
        fields.description = Some(&long);
        let three = format!(
            "Description is too long (maximum is 1024 characters), Maximum timeout needs to be at least 10 minutes, \
             and Tags list {UNTAGGED}"
        );
        assert_eq!(sentence(&validate(&fields)), three);
        assert_eq!(sentence(&FieldErrors::default()), "");
    }

    #[test]
    fn tags_are_split_trimmed_and_kept_once() {
        let given = [" b,a ", "a", "", " , ", "B", "c d"].map(str::to_owned);
        assert_eq!(normalize_tags(&given), ["b", "a", "B", "c d"]);
    }

    #[test]
    fn a_body_full_of_tags_is_read_in_one_pass() {
        // Comparing every pair of tags would take minutes.
        let given: Vec<String> = (0..300_000).map(|number| number.to_string()).collect();
        assert_eq!(normalize_tags(&[given.join(",")]), given);
    }
}

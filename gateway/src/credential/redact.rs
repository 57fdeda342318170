//! Keeps credentials out of logs and links. A value is hidden if the name of its parameter says that it is secret, or
//! if it contains the prefix of a credential.

use std::{borrow::Cow, sync::LazyLock};

use percent_encoding::percent_decode_str;

use super::carriers;
use crate::path;

/// The text that replaces a credential.
const REDACTED: &str = "[REDACTED]";

/// How often percent-encoding is undone in search of a credential.
const MAX_DECODINGS: usize = 3;

/// Words in the name of a parameter that mark its value as secret.
const SECRET_WORDS: [&str; 3] = ["token", "secret", "password"];

static PARAMETERS: LazyLock<Vec<&str>> = LazyLock::new(|| carriers::parameters().collect());

static PREFIXES: LazyLock<Vec<&str>> = LazyLock::new(|| carriers::prefixes().collect());

/// Reports whether a text contains the prefix of a credential, percent-encoded or not.
pub fn is_suspicious(text: &str) -> bool {
    let mut decoded = Cow::Borrowed(text);
    for _ in 0..=MAX_DECODINGS {
        if PREFIXES.iter().any(|prefix| contains_ignoring_case(&decoded, prefix)) {
            return true;
        }
        if !decoded.contains('%') {
            return false;
        }
        decoded = Cow::Owned(percent_decode_str(&decoded).decode_utf8_lossy().into_owned());
    }
    false
}

fn contains_ignoring_case(text: &str, part: &str) -> bool {
    text.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

/// Returns the text, or a replacement if it looks like a credential.
pub fn text(text: &str) -> &str {
    if is_suspicious(text) { REDACTED } else { text }
}

/// Returns a path with its query, as logs may show it.
pub fn target(path: &str, query: Option<&str>) -> String {
    let segments = path.split('/').map(text);
    let mut shown = segments.collect::<Vec<_>>().join("/");
    if let Some(query) = query {
        shown.push('?');
        for pair in query.split_inclusive('&') {
            // Text behind a semicolon belongs to the value for some readers, and is another pair for others.
            if is_secret(parameter_name(pair)) {
                let (pair, separator) = path::split_separator(pair);
                push_pair(&mut shown, pair, separator);
                continue;
            }
            for (pair, separator) in path::lenient_pairs(pair) {
                push_pair(&mut shown, pair, separator);
            }
        }
    }
    shown
}

fn push_pair(shown: &mut String, pair: &str, separator: &str) {
    match pair.split_once('=') {
        Some((name, _)) if is_secret(name) || is_suspicious(pair) => shown.extend([text(name), "=", REDACTED]),
        _ => shown.push_str(text(pair)),
    }
    shown.push_str(separator);
}

/// Returns a query without the pairs that carry a credential.
pub fn without_credentials(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.filter(|pair| !pair.split(';').any(carries_credential)).collect::<Vec<_>>().join("&")
}

fn carries_credential(pair: &str) -> bool {
    is_secret(parameter_name(pair)) || is_suspicious(pair)
}

/// Returns the raw name of a pair.
fn parameter_name(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

/// Reports whether a raw name of a pair marks its value as secret, with or without brackets. Clients may send
/// credentials here that Paddock does not know, so any name counts that contains a word for secrets.
fn is_secret(name: &str) -> bool {
    // The value of a name that cannot be decoded is hidden to be safe.
    let Ok(name) = path::decode_form(name) else { return true };
    let root = name.split('[').next().unwrap_or_default();
    PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(root))
        || SECRET_WORDS.iter().any(|word| contains_ignoring_case(&name, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_carry_credentials_are_hidden_however_they_are_spelt() {
        for name in PARAMETERS.iter() {
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for spelt in
                [(*name).to_owned(), name.to_uppercase(), encoded, format!("{name}[]"), format!("{name}%5Bx%5D")]
            {
                let query = format!("a=1&{spelt}=s3cret&b=2");
                assert_eq!(target("/p", Some(&query)), format!("/p?a=1&{spelt}=[REDACTED]&b=2"));
                assert_eq!(without_credentials(&query), "a=1&b=2");
                assert_eq!(target("/p", Some(&format!("a=1;{spelt}=s;b"))), format!("/p?a=1;{spelt}=[REDACTED];b"));
            }
        }
        for query in ["%zz", "job_token", "other%5FtoKen", "client_secret", "Password"] {
            assert_eq!(target("/p", Some(&format!("{query}=s3cret"))), format!("/p?{query}=[REDACTED]"));
        }
    }

    #[test]
    fn what_looks_like_a_credential_is_hidden_wherever_it_stands() {
        for prefix in PREFIXES.iter() {
            let once: String = prefix.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let twice = once.replace('%', "%25");
            for start in [(*prefix).to_owned(), prefix.to_uppercase(), once, twice] {
                let value = format!("{start}s3cret");
                assert_eq!(target(&format!("/a/{value}/b"), None), "/a/[REDACTED]/b");
                assert_eq!(target("/a", Some(&format!("x={value}&y"))), "/a?x=[REDACTED]&y");
                assert_eq!(target("/a", Some(&value)), "/a?[REDACTED]");
                assert_eq!(target("/a", Some(&format!("{value}=1"))), "/a?[REDACTED]=[REDACTED]");
                assert_eq!(without_credentials(&format!("x={value}&y=1")), "y=1");
            }
        }
    }

    #[test]
    fn the_rest_stays_as_it_was() {
        assert_eq!(target("/a/b%2Fc/", Some("page=2&tag_list[]=x&&y")), "/a/b%2Fc/?page=2&tag_list[]=x&&y");
        assert_eq!(
            text("gitlab-runner 18.4.0 (18-4-stable; go1.24; linux/amd64)"),
            "gitlab-runner 18.4.0 (18-4-stable; go1.24; linux/amd64)"
        );
    }
}

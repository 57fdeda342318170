//! Paths of protected routes, read more strictly than others: an upstream that reads paths by rules of its own must not
//! find another project in them than the gateway did.

use crate::path::{Malformed, decode};

/// Checks a raw path that `crate::path::check` has taken. One slash at the end changes nothing: several clients put it there.
///
/// # Errors
/// If two readers could read it differently: by decoding it twice, by taking a backslash for a slash or a semicolon for
/// the start of parameters, by merging slashes, or by cutting it at a control character.
pub fn check(raw: &str) -> Result<(), Malformed> {
    let raw = raw.strip_suffix('/').unwrap_or(raw);
    // RFC 3986, 3.3, less the semicolon.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@%/".contains(&byte);
    if !raw.bytes().all(is_plain) {
        return Err(Malformed);
    }
    raw.split('/').skip(1).try_for_each(check_segment)
}

fn check_segment(raw: &str) -> Result<(), Malformed> {
    let segment = decode(raw)?;
    let is_ambiguous = |character: char| character.is_control() || matches!(character, '\\' | ';');
    let is_malformed =
        segment.chars().any(is_ambiguous) || segment.split('/').any(str::is_empty) || is_encoded(segment.as_bytes());
    if is_malformed { Err(Malformed) } else { Ok(()) }
}

/// Whether another decoding would change it.
fn is_encoded(text: &[u8]) -> bool {
    text.windows(3).any(|window| matches!(window, [b'%', rest @ ..] if rest.iter().all(u8::is_ascii_hexdigit)))
}

/// Whether a decoded segment can name a project, by its id or its full path, in one way only.
pub fn is_project(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/');
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    // Some readers take `-` for a sign, and none writes a number with a zero in front.
    let has_other_spelling = text.starts_with('-') || is_number && text.starts_with('0');
    !text.is_empty() && text.bytes().all(is_plain) && !has_other_spelling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_in_one_way_is_taken() {
        for raw in [
            "/a/b%2Fc/d",
            "/a/%40scope%2fname/-/x-1.0.tgz",
            "/a/simple/name/",
            "/a/feature%23123/100%25",
            "/a/%C3%A9/b@v1,2=3:4",
        ] {
            assert_eq!(check(raw), Ok(()), "{raw}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for raw in [
            "/a//",
            "/a\\b",
            "/a%5Cb",
            "/a%5cb",
            "/a;b",
            "/a%3Bb",
            "/a%0a",
            "/a%7f",
            "/a%C2%85",
            "/a%252e%252e",
            "/a%252f",
            "/a%255c",
            "/a%2541",
            "/a/%2Fb",
            "/a/b%2F",
            "/a/b%2F%2fc",
            "/a\"",
            "/a{b}",
            "/a|b",
            "/a\u{e9}",
        ] {
            assert_eq!(check(raw), Err(Malformed), "{raw}");
        }
    }

    #[test]
    fn a_project_has_one_spelling() {
        for text in ["1", "42", "group/project", "g/sub.group/_p-1", "0a"] {
            assert!(is_project(text), "{text}");
        }
        for text in ["", "0", "042", "-42", "+42", "4 2", "a?b", "a#b", "a%62", "\u{ff14}2", "a:b"] {
            assert!(!is_project(text), "{text}");
        }
    }
}

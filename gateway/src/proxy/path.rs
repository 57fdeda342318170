//! Paths of protected routes, read more strictly than others: an upstream with other rules for paths must not find
//! another project in them than the gateway did.

use crate::path::{Malformed, decode};

/// Checks a raw path that `crate::path::check` has accepted. One slash at the end is ignored: several clients add it.
///
/// # Errors
/// Fails if two readers could read it differently: by decoding it twice, by taking a backslash for a slash or a
/// semicolon for the start of parameters, by merging slashes, or by cutting it at a control character.
pub fn check(raw: &str) -> Result<(), Malformed> {
    let raw = raw.strip_suffix('/').unwrap_or(raw);
    if !raw.bytes().all(is_path_byte) {
        return Err(Malformed);
    }
    raw.split('/').skip(1).try_for_each(check_segment)
}

/// Reports whether a raw path may contain the byte: RFC 3986, 3.3, without the semicolon.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@%/".contains(&byte)
}

fn check_segment(raw: &str) -> Result<(), Malformed> {
    let segment = decode(raw)?;
    if segment.chars().any(is_ambiguous) || segment.split('/').any(str::is_empty) || is_encoded(segment.as_bytes()) {
        return Err(Malformed);
    }
    Ok(())
}

fn is_ambiguous(character: char) -> bool {
    character.is_control() || character == '\\' || character == ';'
}

/// Reports whether another decoding would change the text.
fn is_encoded(text: &[u8]) -> bool {
    text.windows(3).any(|window| matches!(window, [b'%', rest @ ..] if rest.iter().all(u8::is_ascii_hexdigit)))
}

/// Reports whether a decoded segment can name a project, by its id or its full path, in one way only.
pub fn is_project(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    // Some readers take `-` for a sign, and no writer puts a zero in front of a number.
    let has_other_spelling = text.starts_with('-') || is_number && text.starts_with('0');
    !text.is_empty() && text.bytes().all(is_project_byte) && !has_other_spelling
}

fn is_project_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/')
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

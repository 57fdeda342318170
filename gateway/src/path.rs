//! Paths, queries and percent-encoding, read strictly: text that two readers could understand differently is refused.

use std::borrow::Cow;

/// The characters at which some readers split a query.
const SEPARATORS: [char; 2] = ['&', ';'];

/// A path, query or form that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Checks a raw path and returns it without one trailing slash.
///
/// # Errors
/// Fails unless the path starts with `/`, has no empty segment, and each segment is percent-encoded UTF-8 without NUL
/// and without a dot segment in any spelling.
pub fn check(raw: &str) -> Result<&str, Malformed> {
    let rest = raw.strip_prefix('/').ok_or(Malformed)?;
    if rest.is_empty() {
        return Ok(raw);
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    rest.split('/').try_for_each(check_segment)?;
    Ok(&raw[..=rest.len()])
}

fn check_segment(raw: &str) -> Result<(), Malformed> {
    if raw.is_empty() {
        return Err(Malformed);
    }
    let segment = decode(raw)?;
    // An encoded slash stays inside its segment, but the parts around it must not be dot segments either.
    if segment.contains('\0') || segment.split('/').any(|part| part == "." || part == "..") {
        return Err(Malformed);
    }
    Ok(())
}

/// Decodes percent-encoding once.
///
/// # Errors
/// Fails if a percent sign is not followed by two hexadecimal digits, or the result is not UTF-8.
pub fn decode(raw: &str) -> Result<Cow<'_, str>, Malformed> {
    if raw.contains('%') { decode_bytes(raw, false).map(Cow::Owned) } else { Ok(Cow::Borrowed(raw)) }
}

/// Decodes a name or value of a query or form, where `+` is a space.
///
/// # Errors
/// As [`decode`].
pub fn decode_form(raw: &str) -> Result<Cow<'_, str>, Malformed> {
    let plain = !raw.bytes().any(|byte| byte == b'%' || byte == b'+');
    if plain { Ok(Cow::Borrowed(raw)) } else { decode_bytes(raw, true).map(Cow::Owned) }
}

fn decode_bytes(raw: &str, plus_is_space: bool) -> Result<String, Malformed> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next())? << 4 | hex_digit(bytes.next())?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| Malformed)
}

fn hex_digit(byte: Option<u8>) -> Result<u8, Malformed> {
    let digit = byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(Malformed)?;
    u8::try_from(digit).map_err(|_| Malformed)
}

/// Returns the parameter that the most lenient reader finds in a decoded name of a query or form. Some readers drop
/// white space or brackets before the name, end it at a bracket or a NUL, or take a dot or a space for an underscore.
/// Sources: the query parsers of Rack and PHP.
pub fn lenient_name(name: &str) -> String {
    let name = name.trim_start_matches(is_ignored_in_name);
    let name = name.split(['[', ']', '\0']).next().unwrap_or_default().trim_end_matches(is_ignored_in_name);
    name.replace(['.', ' '], "_")
}

fn is_ignored_in_name(character: char) -> bool {
    character.is_whitespace() || character.is_control() || character == '[' || character == ']'
}

/// Returns the raw names and values of a query or form, in order. Empty pairs are left out.
pub fn pairs(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Returns the pairs of a query, split at semicolons too as some readers do, each with the separator that follows it.
pub fn lenient_pairs(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    raw.split_inclusive(SEPARATORS).map(split_separator)
}

/// Splits the separator from the end of a pair.
pub fn split_separator(pair: &str) -> (&str, &str) {
    pair.split_at(pair.trim_end_matches(SEPARATORS).len())
}

/// Removes the pairs of a query for which `is_removed` holds and leaves the others unchanged. Returns none if all pairs
/// stay.
pub fn without_pairs(raw: &str, is_removed: impl Fn(&str) -> bool) -> Option<String> {
    if !lenient_pairs(raw).any(|(pair, _)| is_removed(pair)) {
        return None;
    }
    let mut kept = String::with_capacity(raw.len());
    for (pair, separator) in lenient_pairs(raw).filter(|(pair, _)| !is_removed(pair)) {
        kept.push_str(pair);
        kept.push_str(separator);
    }
    // The last separator goes if the pair behind it was removed.
    if !raw.ends_with(SEPARATORS) && kept.ends_with(SEPARATORS) {
        kept.pop();
    }
    Some(kept)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_trailing_slash_is_taken() {
        for (raw, expected) in
            [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a/b%2Fc/", "/a/b%2Fc"), ("/a;b/...", "/a;b/...")]
        {
            assert_eq!(check(raw), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let cases = [
            "",
            "*",
            "a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/%2e%2E/b",
            "/a/%2e",
            "/a/.%2e",
            "/a/g%2F..%2Fh",
            "/a/..%2f",
            "/%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "/a%00",
            "/a%ff",
            "/a%c3%28",
            "/a%ed%a0%80",
            "/a%c0%ae",
        ];
        for raw in cases {
            assert_eq!(check(raw), Err(Malformed), "{raw}");
        }
    }

    #[test]
    fn percent_signs_are_decoded_once() {
        assert_eq!(decode("a%2Fb%252e+c").unwrap(), "a/b%2e+c");
        assert_eq!(decode_form("a+b%2B%c3%a9").unwrap(), "a b+\u{e9}");
    }

    #[test]
    fn a_parameter_is_what_the_most_lenient_reader_takes_it_for() {
        let spellings = [
            "a_b",
            " a_b",
            "\t\r\n a_b ",
            "[a_b]",
            "a_b]",
            "[[a_b]]",
            "a_b[]",
            "a_b[c]",
            "a_b\0x",
            "\0a_b",
            "a.b",
            "a b",
            "[ a_b",
        ];
        for spelling in spellings {
            assert_eq!(lenient_name(spelling), "a_b", "{spelling:?}");
        }
        assert_eq!(lenient_name("x_a_b"), "x_a_b");
        assert_eq!(lenient_name("c[a_b]"), "c");
    }

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        assert_eq!(pairs("a=b=c&&d&=e").collect::<Vec<_>>(), [("a", "b=c"), ("d", ""), ("", "e")]);
    }

    #[test]
    fn what_stays_of_a_query_stays_as_it_is() {
        for (raw, expected) in [
            ("a&b", None),
            ("", None),
            ("x", Some("")),
            ("x&a", Some("a")),
            ("a&x", Some("a")),
            ("a&x&&b[]=%2F;c", Some("a&&b[]=%2F;c")),
            ("a;x;b", Some("a;b")),
            ("x;x&a&", Some("a&")),
        ] {
            assert_eq!(without_pairs(raw, |pair| pair == "x").as_deref(), expected, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_inside_one_segment(text in "\\PC{1,40}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decode(&encoded).unwrap(), text.as_str());
            prop_assert_eq!(decode_form(&encoded).unwrap(), text.as_str());
            prop_assert!(!encoded.contains('/'));
        }

        #[test]
        fn any_path_is_read_or_refused(raw in "(/|%|2|f|F|e|\\.|a|\u{e9}|0){0,24}") {
            if let Ok(path) = check(&raw) {
                prop_assert!(path.starts_with('/') && !path.contains("//"));
                for segment in path[1..].split('/') {
                    let decoded = decode(segment).unwrap();
                    prop_assert!(decoded != "." && decoded != "..");
                }
            }
        }
    }
}

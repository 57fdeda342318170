//! Paths and percent-encoding, read strictly: what cannot be read in exactly one way is refused, so that no two parts
//! of the system can read it differently.

use std::borrow::Cow;

/// What separates the pieces of a query, to some readers.
const SEPARATORS: [char; 2] = ['&', ';'];

/// A path, query or form that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Checks a raw path and takes one trailing slash from it.
///
/// # Errors Unless it starts with `/`, has no empty segment, and every segment is percent-encoded UTF-8 without NUL and
/// is no dot segment, in any spelling.
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
    // An encoded slash stays inside the segment, but what it separates must not climb either.
    if segment.contains('\0') || segment.split('/').any(|part| part == "." || part == "..") {
        return Err(Malformed);
    }
    Ok(())
}

/// Decodes percent-encoding once.
///
/// # Errors
/// If a percent sign is not followed by two hexadecimal digits, or the result is not UTF-8.
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
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| Malformed)
}

fn digit(byte: Option<u8>) -> Result<u8, Malformed> {
    let digit = byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(Malformed)?;
    u8::try_from(digit).map_err(|_| Malformed)
}

/// The parameter that a decoded name of a query or form means to the most lenient of readers: some drop white space or brackets before
/// it, end it at a bracket or a NUL, or take a dot or a space for an underscore. Sources: the query parsers of Rack and PHP.
pub fn parameter(name: &str) -> String {
    let is_dropped = |character: char| character.is_whitespace() || character.is_control() || "[]".contains(character);
    let name = name.trim_start_matches(is_dropped);
    let name = name.split(['[', ']', '\0']).next().unwrap_or_default().trim_end_matches(is_dropped);
    name.replace(['.', ' '], "_")
}

/// The raw names and values of a query or form, in order. Empty pairs are left out.
pub fn pairs(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The pieces of a query as readers see it that split it at semicolons too, each with what separates it from the next.
pub fn pieces(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    raw.split_inclusive(SEPARATORS).map(split_separator)
}

/// A piece of a query, and the separator at its end.
pub fn split_separator(piece: &str) -> (&str, &str) {
    piece.split_at(piece.trim_end_matches(SEPARATORS).len())
}

/// A query without some of its pieces, the others as they are; none if all stay.
pub fn without_pieces(raw: &str, goes: impl Fn(&str) -> bool) -> Option<String> {
    if !pieces(raw).any(|(piece, _)| goes(piece)) {
        return None;
    }
    let mut kept: String =
        pieces(raw).filter(|(piece, _)| !goes(piece)).flat_map(|(piece, separator)| [piece, separator]).collect();
    // Nothing follows the last separator if what did has gone.
    if !raw.ends_with(SEPARATORS) && kept.ends_with(SEPARATORS) {
        kept.pop();
    }
    Some(kept)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            assert_eq!(parameter(spelling), "a_b", "{spelling:?}");
        }
        assert_eq!((parameter("x_a_b"), parameter("c[a_b]")), ("x_a_b".to_owned(), "c".to_owned()));
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
            assert_eq!(without_pieces(raw, |piece| piece == "x").as_deref(), expected, "{raw}");
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
                let is_dots = |segment| matches!(decode(segment).unwrap().as_ref(), "." | "..");
                prop_assert!(!path[1..].split('/').any(is_dots));
            }
        }
    }
}

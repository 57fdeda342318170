//! Queries, form bodies and multipart bodies: pairs of a name and a text, where brackets in the name lead into lists
//! and messages.

use bytes::Bytes;
use futures::stream;
use std::convert::Infallible;

use super::builder::{Builder, Token};
use super::coerce::Flaw;
use crate::path::{self, Malformed};

/// Names in brackets inside each other, at most; a name with more is nobody's parameter.
const MAX_BRACKETS: usize = 8;

/// Reads a query or an `application/x-www-form-urlencoded` body.
///
/// # Errors
/// If the percent-encoding is incomplete or does not spell UTF-8.
pub fn read_pairs(raw: &str, builder: &mut Builder<'_>) -> Result<(), Malformed> {
    for (name, text) in path::pairs(raw) {
        pair(&path::decode_form(name)?, &path::decode_form(text)?, builder);
    }
    Ok(())
}

/// Reads a `multipart/form-data` body. Its parts are texts; a file is no value of any parameter.
///
/// # Errors
/// If the parts cannot be told apart, a part has no name, or a text is not UTF-8.
pub async fn read_multipart(body: Bytes, boundary: String, builder: &mut Builder<'_>) -> Result<(), Malformed> {
    let whole = stream::iter([Ok::<_, Infallible>(body)]);
    let mut parts = multer::Multipart::new(whole, boundary);
    while let Some(part) = parts.next_field().await.map_err(|_| Malformed)? {
        let name = part.name().ok_or(Malformed)?.to_owned();
        let is_file = part.file_name().is_some();
        let content = part.bytes().await.map_err(|_| Malformed)?;
        if is_file {
            file(&name, builder);
        } else {
            pair(&name, std::str::from_utf8(&content).map_err(|_| Malformed)?, builder);
        }
    }
    Ok(())
}

fn pair(name: &str, text: &str, builder: &mut Builder<'_>) {
    let plan = builder.plan();
    if plan.is_carrier(name) {
        return builder.tokens.push(Token::new(text));
    }
    let Some((root, inner)) = split_name(name) else { return };
    if plan.is_carrier(root) {
        return builder.note(root, Flaw::Invalid);
    }
    let Some(place) = plan.message.find(root) else { return };
    if let Some(field) = builder.open(place) {
        builder.set_from_pair(place, field, &inner, text);
    }
}

fn file(name: &str, builder: &mut Builder<'_>) {
    let Some((root, _)) = split_name(name) else { return };
    if builder.plan().is_carrier(root) || builder.plan().message.find(root).is_some() {
        builder.note(root, Flaw::Invalid);
    }
}

/// Splits `info[config][gpus]` into `info` and its names in brackets. A name that is not of this form is nobody's
/// parameter.
fn split_name(name: &str) -> Option<(&str, Vec<&str>)> {
    let Some((root, brackets)) = name.split_once('[') else { return Some((name, Vec::new())) };
    let inner: Vec<_> = brackets.strip_suffix(']')?.splitn(MAX_BRACKETS + 1, "][").collect();
    (inner.len() <= MAX_BRACKETS).then_some((root, inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_into_brackets() {
        let cases = [
            ("a", Some(("a", vec![]))),
            ("a[]", Some(("a", vec![""]))),
            ("a[b]", Some(("a", vec!["b"]))),
            ("a[b][c]", Some(("a", vec!["b", "c"]))),
            ("a[", None),
            ("a[b", None),
            ("a[b]c", None),
        ];
        for (name, expected) in cases {
            assert_eq!(split_name(name), expected, "{name}");
        }
        assert_eq!(split_name(&format!("a{}", "[b]".repeat(9))), None);
    }
}

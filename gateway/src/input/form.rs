//! Reads queries, forms and multipart bodies: pairs of a name and a text, where brackets in the name lead into lists
//! and messages.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;

use super::{builder::MessageBuilder, coerce::Flaw};
use crate::{
    credential::token::Token,
    path::{self, Malformed},
};

/// The most names in brackets. A name with more of them is not a parameter.
const MAX_BRACKETS: usize = 8;

/// Reads a query or an `application/x-www-form-urlencoded` body.
///
/// # Errors
/// Fails if the percent-encoding is incomplete or does not spell UTF-8.
pub fn read_pairs(raw: &str, builder: &mut MessageBuilder<'_>) -> Result<(), Malformed> {
    for (name, text) in path::pairs(raw) {
        read_pair(&path::decode_form(name)?, &path::decode_form(text)?, builder);
    }
    Ok(())
}

/// Reads a `multipart/form-data` body. Its parts are texts; no parameter takes a file.
///
/// # Errors
/// Fails if the parts cannot be separated, a part has no name, or a text is not UTF-8.
pub async fn read_multipart(body: Bytes, boundary: String, builder: &mut MessageBuilder<'_>) -> Result<(), Malformed> {
    let whole = stream::iter([Ok::<_, Infallible>(body)]);
    let mut parts = multer::Multipart::new(whole, boundary);
    while let Some(part) = parts.next_field().await.map_err(|_| Malformed)? {
        let name = part.name().ok_or(Malformed)?.to_owned();
        let is_file = part.file_name().is_some();
        let content = part.bytes().await.map_err(|_| Malformed)?;
        if is_file {
            refuse_file(&name, builder);
        } else {
            read_pair(&name, std::str::from_utf8(&content).map_err(|_| Malformed)?, builder);
        }
    }
    Ok(())
}

fn read_pair(name: &str, text: &str, builder: &mut MessageBuilder<'_>) {
    let plan = builder.plan();
    if plan.is_carrier(name) {
        return builder.tokens.push(Token::new(text));
    }
    let Some((root, inner)) = split_name(name) else { return };
    if plan.is_carrier(root) {
        return builder.note(root, Flaw::Invalid);
    }
    let Some(index) = plan.message.find(root) else { return };
    if let Some(field) = builder.undecided_field(index) {
        builder.set_from_pair(index, field, &inner, text);
    }
}

fn refuse_file(name: &str, builder: &mut MessageBuilder<'_>) {
    let Some((root, _)) = split_name(name) else { return };
    if builder.plan().is_carrier(root) || builder.plan().message.find(root).is_some() {
        builder.note(root, Flaw::Invalid);
    }
}

/// Splits `info[config][gpus]` into `info` and its names in brackets. A name of another form is not a parameter.
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

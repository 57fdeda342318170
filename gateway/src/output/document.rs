//! A response that is a file, or one chunk of it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use http_body_util::Full;
use prost_reflect::{DynamicMessage, FieldDescriptor};

/// The media type of content whose declared type no header can carry.
const UNKNOWN: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Keeps browsers from guessing another media type. Source:
/// <https://fetch.spec.whatwg.org/#x-content-type-options-header>
const NO_SNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

/// Writes the file that the field holds, with its media type and its name.
pub fn write(response: &mut Response<Full<Bytes>>, field: &FieldDescriptor, message: &DynamicMessage) {
    let value = message.get_field(field);
    let Some(document) = value.as_message() else { return };
    let media = text_field(document, "content_type").filter(|media| !media.is_empty());
    let media = media.and_then(|media| HeaderValue::try_from(media).ok()).unwrap_or(UNKNOWN);
    let name = file_name(&text_field(document, "file_name").unwrap_or_default());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media);
    headers.insert(NO_SNIFF.0, NO_SNIFF.1);
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    *response.body_mut() = Full::from(content(field, message));
}

fn text_field(document: &DynamicMessage, field: &str) -> Option<String> {
    let value = document.get_field_by_name(field)?;
    value.as_str().map(str::to_owned)
}

/// Returns the content of the file that the field holds, or one chunk of it.
pub fn content(field: &FieldDescriptor, message: &DynamicMessage) -> Bytes {
    let value = message.get_field(field);
    let content = value.as_message().and_then(|document| document.get_field_by_name("content"));
    content.and_then(|value| value.as_bytes().cloned()).unwrap_or_default()
}

/// Replaces the characters of a name that could end its quotes, or lead out of the folder that the file is saved in.
fn file_name(name: &str) -> String {
    let plain: String = name.chars().map(|character| if is_plain(character) { character } else { '_' }).collect();
    let plain = plain.trim_start_matches('.');
    if plain.is_empty() { "document".to_owned() } else { plain.to_owned() }
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_stays_inside_its_quotes_and_its_folder() {
        let cases = [
            ("log-7-2026.csv", "log-7-2026.csv"),
            ("a\"; x=\"b.csv", "a___x__b.csv"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("a\r\nb\u{e9}\\c", "a__b__c"),
            ("", "document"),
            ("..", "document"),
        ];
        for (name, expected) in cases {
            assert_eq!(file_name(name), expected, "{name}");
        }
    }
}

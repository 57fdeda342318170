//! How to read a body: by its media type, or without one by its first character.

use chassis::status::Refusal;
use http::{HeaderMap, header};
use proto::paddock::contract::v1::Reason;

/// The format of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Media {
    /// The body is empty.
    Nothing,
    /// JSON.
    Json,
    /// Percent-encoded pairs.
    Form,
    /// Parts that this boundary separates.
    Multipart(String),
}

/// Returns the format of a body. An empty body may have any media type: some clients send one with every request.
///
/// # Errors
/// Fails if the API does not read the media type or the encoding.
pub fn detect(headers: &HeaderMap, body: &[u8]) -> Result<Media, Refusal> {
    if body.is_empty() {
        return Ok(Media::Nothing);
    }
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(unsupported_media_type());
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(by_first_character(body)) };
    let value = value.to_str().map_err(|_| unsupported_media_type())?;
    let name = value.split(';').next().unwrap_or_default().trim();
    if name.eq_ignore_ascii_case("application/json") {
        Ok(Media::Json)
    } else if name.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(Media::Form)
    } else if name.eq_ignore_ascii_case("multipart/form-data") {
        let boundary = multer::parse_boundary(value);
        boundary.map(Media::Multipart).map_err(|_| Refusal::new(Reason::BodyMalformed))
    } else if name.is_empty() {
        Ok(by_first_character(body))
    } else {
        Err(unsupported_media_type())
    }
}

fn unsupported_media_type() -> Refusal {
    Refusal::new(Reason::UnsupportedMediaType)
}

fn by_first_character(body: &[u8]) -> Media {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Media::Nothing,
        Some(b'{') => Media::Json,
        Some(_) => Media::Form,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(content_type: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_media_type_decides_and_without_one_the_looks() {
        let cases = [
            (Some("application/json"), "x", Media::Json),
            (Some("Application/JSON; charset=utf-8"), "x", Media::Json),
            (Some("application/json"), "", Media::Nothing),
            (Some("text/plain"), "", Media::Nothing),
            (Some("application/x-www-form-urlencoded; charset=UTF-8"), "{}", Media::Form),
            (Some("multipart/form-data; boundary=b"), "x", Media::Multipart("b".into())),
            (None, " {\"a\":1}", Media::Json),
            (None, "a=1", Media::Form),
            (None, " \n", Media::Nothing),
        ];
        for (content_type, body, expected) in cases {
            assert_eq!(detect(&headers(content_type), body.as_bytes()).unwrap(), expected, "{content_type:?} {body}");
        }
    }

    #[test]
    fn other_media_types_are_refused() {
        let cases = [
            ("text/plain", Reason::UnsupportedMediaType),
            ("application/xml", Reason::UnsupportedMediaType),
            ("json", Reason::UnsupportedMediaType),
            ("multipart/form-data", Reason::BodyMalformed),
        ];
        for (content_type, reason) in cases {
            assert_eq!(detect(&headers(Some(content_type)), b"x").unwrap_err().reason(), reason, "{content_type}");
        }
        let mut compressed = headers(Some("application/json"));
        compressed.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(detect(&compressed, b"x").unwrap_err().reason(), Reason::UnsupportedMediaType);
    }
}

//! Forms: bodies in which clients send the job token among other fields. Routes that ask for it read them whole. They
//! are written anew, so that the upstream reads the same fields as the gateway.

use std::convert::Infallible;

use bytes::Bytes;
use chassis::status::Refusal;
use form_urlencoded::Serializer;
use futures::stream;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use hyper::body::Body;
use proto::paddock::contract::v1::Reason;

use super::{checks, table::route::ProtectedRoute};
use crate::{
    credential::{carriers, redact},
    input::media::{self, Media},
    path::{self, Malformed},
    request::body::{BodyReader, ReadBody},
};

/// The most fields of a form. Each is read several times before the client is authenticated.
const MAX_FIELDS: usize = 4096;

/// The headers that describe the bytes of a body. They do not describe a form that is written anew. Sources: RFC 9110,
/// RFC 9530, RFC 3230.
const CONTENT_HEADERS: [&str; 5] = ["content-encoding", "content-md5", "content-digest", "repr-digest", "digest"];

/// The media type of a form that is written anew.
const URL_ENCODED: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// The body of a request to a protected route.
pub enum IncomingBody<'r, B> {
    /// A form that was read.
    Form(Form<'r>),
    /// Any other body, which is not read.
    Stream(B),
}

/// A form that was read.
pub struct Form<'r> {
    /// Its fields, as the pairs of a query.
    pub pairs: String,
    /// The share of the memory for bodies.
    pub share: ReadBody<'r>,
}

impl<'r, B> IncomingBody<'r, B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Reads the body if the route takes forms and an upstream could take it for one.
    ///
    /// # Errors
    /// Fails if the form is too large, comes too slowly, can be read in two ways, contains a file or a credential in
    /// another field, or gives the request another verb.
    pub async fn new(
        route: &ProtectedRoute,
        parts: &mut Parts,
        body: B,
        reader: &'r BodyReader,
    ) -> Result<Self, Refusal> {
        if !route.forms || body.is_end_stream() || !checks::may_be_form(&parts.headers) {
            return Ok(Self::Stream(body));
        }
        let read = reader.read(body, &parts.headers).await?;
        // The body is here, so the upstream must not wait for it.
        parts.headers.remove(header::EXPECT);
        let fields = read_fields(&parts.headers, &read.bytes).await?;
        check_values(&fields)?;
        let pairs = Serializer::new(String::new()).extend_pairs(fields).finish();
        checks::check_pairs(&pairs, "the form")?;
        for name in CONTENT_HEADERS {
            parts.headers.remove(name);
        }
        parts.headers.insert(header::CONTENT_TYPE, URL_ENCODED);
        Ok(Self::Form(Form { pairs, share: read }))
    }

    /// Returns the pairs of a form, or an empty text.
    pub fn pairs(&self) -> &str {
        match self {
            Self::Form(form) => &form.pairs,
            Self::Stream(_) => "",
        }
    }
}

/// Reads the fields of a body in any form that may carry a job token.
async fn read_fields(headers: &HeaderMap, body: &Bytes) -> Result<Vec<(String, String)>, Refusal> {
    if headers.get_all(header::CONTENT_TYPE).iter().count() > 1 {
        return Err(Refusal::new(Reason::UnsupportedMediaType));
    }
    match media::detect(headers, body)? {
        Media::Nothing => Ok(Vec::new()),
        Media::Multipart(boundary) => read_multipart(body.clone(), boundary).await,
        Media::Form => read_pairs(body),
        Media::Json => Err(Refusal::new(Reason::UnsupportedMediaType)),
    }
}

fn read_pairs(body: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| malformed_body())?;
    let mut fields = Fields::default();
    for (name, value) in path::pairs(text) {
        fields.push(decode_text(name)?, decode_text(value)?)?;
    }
    Ok(fields.0)
}

fn decode_text(raw: &str) -> Result<String, Refusal> {
    path::decode_form(raw).map(String::from).map_err(|Malformed| malformed_body())
}

async fn read_multipart(body: Bytes, boundary: String) -> Result<Vec<(String, String)>, Refusal> {
    let mut parts = multer::Multipart::new(stream::iter([Ok::<_, Infallible>(body)]), boundary);
    let mut fields = Fields::default();
    while let Some(part) = parts.next_field().await.map_err(|_| malformed_body())? {
        let name = part.name().ok_or_else(malformed_body)?.to_owned();
        if part.file_name().is_some() {
            let text = "415 Unsupported Media Type - this route takes no files";
            return Err(Refusal::new(Reason::UnsupportedMediaType).with_message(text));
        }
        let content = part.bytes().await.map_err(|_| malformed_body())?;
        fields.push(name, String::from_utf8(content.into()).map_err(|_| malformed_body())?)?;
    }
    Ok(fields.0)
}

/// The fields of a form, up to [`MAX_FIELDS`].
#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn push(&mut self, name: String, value: String) -> Result<(), Refusal> {
        if self.0.len() == MAX_FIELDS {
            return Err(Refusal::new(Reason::BodyTooLarge));
        }
        self.0.push((name, value));
        Ok(())
    }
}

fn malformed_body() -> Refusal {
    Refusal::new(Reason::BodyMalformed)
}

/// Refuses a credential in a field that carries none: it would reach the upstream, or silently be removed.
fn check_values(fields: &[(String, String)]) -> Result<(), Refusal> {
    for (name, value) in fields {
        if redact::is_suspicious(name) || redact::is_suspicious(value) && !carriers::is_parameter(name) {
            let text = "400 Bad request - a field of the form holds a credential under another name";
            return Err(Refusal::new(Reason::ConflictingCredentials).with_message(text));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn multipart(fields: &[(String, String)]) -> Bytes {
        let mut body = String::new();
        for (name, value) in fields {
            body += &format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        (body + "--b--\r\n").into()
    }

    fn read(body: Bytes) -> Result<Vec<(String, String)>, Reason> {
        let read = read_multipart(body, "b".to_owned()).now_or_never().unwrap();
        read.map_err(|refusal| refusal.reason())
    }

    fn part(head: &str, value: &[u8]) -> Bytes {
        let body =
            [b"--b\r\ncontent-disposition: form-data", head.as_bytes(), b"\r\n\r\n", value, b"\r\n--b--\r\n"].concat();
        body.into()
    }

    #[test]
    fn a_body_that_is_not_text_is_refused() {
        assert_eq!(read(part("; name=\"a\"", b"x")), Ok(vec![("a".to_owned(), "x".to_owned())]));
        assert_eq!(read(part("; name=\"a\"", b"\xff")), Err(Reason::BodyMalformed));
        assert_eq!(read(part("", b"x")), Err(Reason::BodyMalformed));
        assert_eq!(read(part("; name=\"a\"; filename=\"f\"", b"x")), Err(Reason::UnsupportedMediaType));
        assert_eq!(read(Bytes::from("--b\r\n")), Err(Reason::BodyMalformed));
    }

    proptest! {
        #[test]
        fn the_fields_are_those_that_were_sent(fields in prop::collection::vec(("[a-z_\\[\\]]{1,8}", "[^\r]{0,20}"), 0..6)) {
            prop_assert_eq!(read(multipart(&fields)).unwrap(), fields.clone());
            let pairs = Serializer::new(String::new()).extend_pairs(&fields).finish();
            let fields: Vec<_> = fields.into_iter().filter(|(name, value)| !(name.is_empty() && value.is_empty())).collect();
            prop_assert_eq!(read_pairs(pairs.as_bytes()).unwrap(), fields);
        }
    }
}

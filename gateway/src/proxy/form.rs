//! Forms: bodies in which clients send the job token among other fields. They are read whole, on the routes that ask for it, and
//! written anew, so that the upstream reads in them what the gateway has read and nothing else.

use std::convert::Infallible;

use bytes::Bytes;
use chassis::status::Refusal;
use form_urlencoded::Serializer;
use futures::stream;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::Body;
use proto::paddock::contract::v1::Reason;

use super::checks;
use super::table::ProtectedRoute;
use crate::input::media::{self, Media};
use crate::path::{self, Malformed};
use crate::request::{BodyReader, ReadBody};
use crate::{credentials, redact};

/// How many fields a form has at most: each is looked at several times before it is known who sent it.
const MAX_FIELDS: usize = 4096;

/// What a client says of the bytes of a body, which is not so of those that are written anew. Sources: RFC 9110, RFC 9530, RFC 3230.
const OF_CONTENT: [&str; 5] = ["content-encoding", "content-md5", "content-digest", "repr-digest", "digest"];

/// The media type of a form that is written anew.
const URL_ENCODED: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// The body of a request: a form that was read, or anything else, which streams past.
pub enum Sent<'r, B> {
    /// A form.
    Form(Form<'r>),
    /// Anything else.
    Stream(B),
}

/// A form that was read.
pub struct Form<'r> {
    /// Its fields, as the pairs of a query.
    pub pairs: String,
    /// The share of the memory for bodies.
    pub share: ReadBody<'r>,
}

impl<'r, B> Sent<'r, B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Reads the body if it is a form, or some upstream could take it for one, and the route wants to know.
    ///
    /// # Errors
    /// If the form is too large, comes too slowly, cannot be read in one way only, holds a file or a credential in another field, or
    /// passes as another verb.
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
        // It is here, so that nobody waits to be asked for it any more.
        parts.headers.remove(header::EXPECT);
        let fields = fields(&parts.headers, &read.bytes).await?;
        check_values(&fields)?;
        let pairs = Serializer::new(String::new()).extend_pairs(fields).finish();
        checks::check_pairs(&pairs, "the form")?;
        for name in OF_CONTENT {
            parts.headers.remove(name);
        }
        parts.headers.insert(header::CONTENT_TYPE, URL_ENCODED);
        Ok(Self::Form(Form { pairs, share: read }))
    }

    /// The pairs of a form; nothing of anything else.
    pub fn pairs(&self) -> &str {
        match self {
            Self::Form(form) => &form.pairs,
            Self::Stream(_) => "",
        }
    }
}

async fn fields(headers: &HeaderMap, body: &Bytes) -> Result<Vec<(String, String)>, Refusal> {
    if headers.get_all(header::CONTENT_TYPE).iter().count() > 1 {
        return Err(Refusal::new(Reason::UnsupportedMediaType));
    }
    match media::of(headers, body)? {
        Media::Nothing => Ok(Vec::new()),
        Media::Multipart(boundary) => of_parts(body.clone(), boundary).await,
        Media::Form => of_pairs(body),
        Media::Json => Err(Refusal::new(Reason::UnsupportedMediaType)),
    }
}

fn of_pairs(body: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let mut fields = Fields::default();
    for (name, value) in path::pairs(text) {
        let decode = |raw| path::decode_form(raw).map(String::from).map_err(|Malformed| malformed());
        fields.push(decode(name)?, decode(value)?)?;
    }
    Ok(fields.0)
}

async fn of_parts(body: Bytes, boundary: String) -> Result<Vec<(String, String)>, Refusal> {
    let mut parts = multer::Multipart::new(stream::iter([Ok::<_, Infallible>(body)]), boundary);
    let mut fields = Fields::default();
    while let Some(part) = parts.next_field().await.map_err(|_| malformed())? {
        let name = part.name().ok_or_else(malformed)?.to_owned();
        if part.file_name().is_some() {
            let text = "415 Unsupported Media Type - this route takes no files";
            return Err(Refusal::new(Reason::UnsupportedMediaType).with_message(text));
        }
        let content = part.bytes().await.map_err(|_| malformed())?;
        fields.push(name, String::from_utf8(content.into()).map_err(|_| malformed())?)?;
    }
    Ok(fields.0)
}

/// Fields, and not too many of them.
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

fn malformed() -> Refusal {
    Refusal::new(Reason::BodyMalformed)
}

/// A credential may stand only where it is looked for: elsewhere it would reach the upstream, or be missing there without a word.
fn check_values(fields: &[(String, String)]) -> Result<(), Refusal> {
    let is_hidden = |(name, value): &(String, String)| {
        redact::is_suspicious(name) || redact::is_suspicious(value) && !credentials::is_parameter(name)
    };
    if fields.iter().any(is_hidden) {
        let text = "400 Bad request - a field of the form holds a credential under another name";
        return Err(Refusal::new(Reason::ConflictingCredentials).with_message(text));
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
        let part = |(name, value): &(String, String)| {
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        (fields.iter().map(part).collect::<String>() + "--b--\r\n").into()
    }

    fn read(body: Bytes) -> Result<Vec<(String, String)>, Reason> {
        let read = of_parts(body, "b".to_owned()).now_or_never().unwrap();
        read.map_err(|refusal| refusal.reason())
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let part = |head: &str, value: &[u8]| {
            [b"--b\r\ncontent-disposition: form-data", head.as_bytes(), b"\r\n\r\n", value, b"\r\n--b--\r\n"]
                .concat()
                .into()
        };
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
            prop_assert_eq!(of_pairs(pairs.as_bytes()).unwrap(), fields);
        }
    }
}

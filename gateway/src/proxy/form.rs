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
use crate::request::{BodyReader, ReadBody};

/// The media type of a form that is written anew.
pub const URL_ENCODED: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

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
    _read: ReadBody<'r>,
}

impl<'r, B> Sent<'r, B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Reads the body if it is a form, or some upstream could take it for one, and the route wants to know.
    ///
    /// # Errors
    /// If the form is too large, comes too slowly, cannot be read in one way only, holds a file, or passes as another verb.
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
        let pairs = pairs(&parts.headers, &read.bytes).await?;
        checks::check_pairs(&pairs, "the form")?;
        Ok(Self::Form(Form { pairs, _read: read }))
    }

    /// The pairs of a form; nothing of anything else.
    pub fn pairs(&self) -> &str {
        match self {
            Self::Form(form) => &form.pairs,
            Self::Stream(_) => "",
        }
    }
}

async fn pairs(headers: &HeaderMap, body: &Bytes) -> Result<String, Refusal> {
    if headers.get_all(header::CONTENT_TYPE).iter().count() > 1 {
        return Err(Refusal::new(Reason::UnsupportedMediaType));
    }
    let malformed = || Refusal::new(Reason::BodyMalformed);
    match media::of(headers, body)? {
        Media::Nothing => Ok(String::new()),
        Media::Multipart(boundary) => from_parts(body.clone(), boundary).await,
        Media::Form => Ok(std::str::from_utf8(body).map_err(|_| malformed())?.to_owned()),
        Media::Json => Err(Refusal::new(Reason::UnsupportedMediaType)),
    }
}

async fn from_parts(body: Bytes, boundary: String) -> Result<String, Refusal> {
    let malformed = || Refusal::new(Reason::BodyMalformed);
    let mut parts = multer::Multipart::new(stream::iter([Ok::<_, Infallible>(body)]), boundary);
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(|_| malformed())? {
        let name = part.name().ok_or_else(malformed)?.to_owned();
        if part.file_name().is_some() {
            let text = "415 Unsupported Media Type - this route takes no files";
            return Err(Refusal::new(Reason::UnsupportedMediaType).with_message(text));
        }
        let content = part.bytes().await.map_err(|_| malformed())?;
        fields.push((name, String::from_utf8(content.into()).map_err(|_| malformed())?));
    }
    Ok(Serializer::new(String::new()).extend_pairs(fields).finish())
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

    fn read(body: Bytes) -> Result<String, Reason> {
        let read = from_parts(body, "b".to_owned()).now_or_never().unwrap();
        read.map_err(|refusal| refusal.reason())
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let part = |head: &str, value: &[u8]| {
            [b"--b\r\ncontent-disposition: form-data", head.as_bytes(), b"\r\n\r\n", value, b"\r\n--b--\r\n"]
                .concat()
                .into()
        };
        assert_eq!(read(part("; name=\"a\"", b"x")), Ok("a=x".to_owned()));
        assert_eq!(read(part("; name=\"a\"", b"\xff")), Err(Reason::BodyMalformed));
        assert_eq!(read(part("", b"x")), Err(Reason::BodyMalformed));
        assert_eq!(read(part("; name=\"a\"; filename=\"f\"", b"x")), Err(Reason::UnsupportedMediaType));
        assert_eq!(read(Bytes::from("--b\r\n")), Err(Reason::BodyMalformed));
    }

    proptest! {
        #[test]
        fn the_fields_are_those_that_were_sent(fields in prop::collection::vec(("[a-z_\\[\\]]{1,8}", "[^\r]{0,20}"), 0..6)) {
            let pairs = read(multipart(&fields)).unwrap();
            let again: Vec<_> = form_urlencoded::parse(pairs.as_bytes()).into_owned().collect();
            prop_assert_eq!(again, fields);
        }
    }
}

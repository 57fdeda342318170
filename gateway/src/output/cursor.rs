//! The headers of a page of a growing list, with the cursor of the next page. Source:
//! <https://docs.gitlab.com/api/rest/#keyset-based-pagination>.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost_reflect::DynamicMessage;
use proto::paddock::page::v1::Cursor;

use super::paging;

/// Adds the headers. `url` is the address of the list, `query` its query without credentials.
pub fn add_headers(headers: &mut HeaderMap, cursor: &DynamicMessage, url: &str, query: &str) {
    // The plan found the message by its name, so it has this type.
    let Ok(cursor) = cursor.transcode_to::<Cursor>() else { return };
    headers.insert(HeaderName::from_static("x-per-page"), HeaderValue::from(cursor.per_page));
    let next = cursor.next.as_deref().unwrap_or_default();
    if let Ok(next) = HeaderValue::try_from(next) {
        headers.insert(HeaderName::from_static("x-next-cursor"), next);
    }
    if next.is_empty() {
        return;
    }
    let base = paging::link_base(url, query, &["cursor"]);
    let next = utf8_percent_encode(next, NON_ALPHANUMERIC);
    if let Ok(link) = HeaderValue::try_from(format!("<{base}cursor={next}>; rel=\"next\"")) {
        headers.insert(header::LINK, link);
    }
}

//! The headers of a page of a list, with links to the other pages. Source:
//! <https://docs.gitlab.com/api/rest/#pagination>.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use prost_reflect::DynamicMessage;
use proto::paddock::page::v1::Page;

/// Adds the headers. `url` is the address of the list, `query` its query without credentials.
pub fn add_headers(headers: &mut HeaderMap, page: &DynamicMessage, url: &str, query: &str) {
    // The plan found the message by its name, so it has this type.
    let Ok(page) = page.transcode_to::<Page>() else { return };
    let next = page.has_next.then(|| page.page.saturating_add(1));
    let previous = (page.page > 1).then(|| page.page - 1);
    let pages = page.total.map(|total| total_pages(total, page.per_page));

    set_number(headers, "x-page", Some(page.page.into()));
    set_number(headers, "x-per-page", Some(page.per_page.into()));
    set_number(headers, "x-next-page", next.map(i64::from));
    set_number(headers, "x-prev-page", previous.map(i64::from));
    if page.total.is_some() {
        set_number(headers, "x-total", page.total);
        set_number(headers, "x-total-pages", pages);
    }
    let base = link_base(url, query, &["page", "per_page"]);
    let mut links = Vec::new();
    for (relation, number) in
        [("prev", previous.map(i64::from)), ("next", next.map(i64::from)), ("first", Some(1)), ("last", pages)]
    {
        if let Some(number) = number {
            links.push(format!("<{base}page={number}&per_page={}>; rel=\"{relation}\"", page.per_page));
        }
    }
    if let Ok(value) = HeaderValue::try_from(links.join(", ")) {
        headers.insert(header::LINK, value);
    }
}

/// Sets a header to a number, or to an empty value without one.
fn set_number(headers: &mut HeaderMap, name: &'static str, number: Option<i64>) {
    let value = number.map_or(HeaderValue::from_static(""), HeaderValue::from);
    headers.insert(HeaderName::from_static(name), value);
}

/// Returns the number of pages of a list of this length. An empty list has one page.
fn total_pages(total: i64, per_page: i32) -> i64 {
    let per_page = i64::from(per_page.max(1));
    (total.max(0).saturating_add(per_page - 1) / per_page).max(1)
}

/// Returns the address with the query, without the parameters that the links set, ready for more parameters.
pub fn link_base(url: &str, query: &str, own: &[&str]) -> String {
    let mut base = format!("{url}?");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default();
        // A raw angle bracket would end the link early.
        if !own.contains(&name) && !pair.contains(['<', '>']) {
            base.push_str(pair);
            base.push('&');
        }
    }
    base
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    fn headers(page: &Page, query: &str) -> HeaderMap {
        let pool = DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
        let mut message = DynamicMessage::new(pool.get_message_by_name("paddock.page.v1.Page").unwrap());
        message.transcode_from(page).unwrap();
        let mut headers = HeaderMap::new();
        add_headers(&mut headers, &message, "http://h/api/v4/x", query);
        headers
    }

    fn text(headers: &HeaderMap, name: &str) -> Option<String> {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_page_in_the_middle_links_to_all_its_neighbours() {
        let headers =
            headers(&Page { page: 2, per_page: 3, total: Some(8), has_next: true }, "a=b%2Fc&page=2&tag_list[]=x");
        let values = ["x-page", "x-per-page", "x-next-page", "x-prev-page", "x-total", "x-total-pages"];
        let values: Vec<_> = values.iter().map(|name| text(&headers, name).unwrap()).collect();
        assert_eq!(values, ["2", "3", "3", "1", "8", "3"]);
        let expected = [(1, "prev"), (3, "next"), (1, "first"), (3, "last")].map(|(page, relation)| {
            format!("<http://h/api/v4/x?a=b%2Fc&tag_list[]=x&page={page}&per_page=3>; rel=\"{relation}\"")
        });
        assert_eq!(text(&headers, "link").unwrap(), expected.join(", "));
    }

    #[test]
    fn an_only_page_has_no_neighbours() {
        let headers = headers(&Page { page: 1, per_page: 20, total: Some(0), has_next: false }, "");
        assert_eq!(text(&headers, "x-next-page").unwrap(), "");
        assert_eq!(text(&headers, "x-prev-page").unwrap(), "");
        assert_eq!(text(&headers, "x-total-pages").unwrap(), "1");
        let only = "<http://h/api/v4/x?page=1&per_page=20>";
        assert_eq!(text(&headers, "link").unwrap(), format!("{only}; rel=\"first\", {only}; rel=\"last\""));
    }

    #[test]
    fn a_list_that_was_not_counted_has_no_totals_and_no_last_page() {
        let headers =
            headers(&Page { page: i32::MAX, per_page: 100, total: None, has_next: true }, "per_page=100&x=<>");
        assert_eq!(text(&headers, "x-total"), None);
        assert_eq!(text(&headers, "x-total-pages"), None);
        assert!(!text(&headers, "link").unwrap().contains("rel=\"last\""));
        assert!(!text(&headers, "link").unwrap().contains("<>"));
    }
}

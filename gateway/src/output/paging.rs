//! The headers that say where a page stands in its list. Source: <https://docs.gitlab.com/api/rest/#pagination>.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use prost_reflect::DynamicMessage;
use proto::paddock::page::v1::Page;

/// Adds the headers. `url` is the address of the list, `query` what stood after its question mark, without credentials.
pub fn add_headers(headers: &mut HeaderMap, page: &DynamicMessage, url: &str, query: &str) {
    // The message is of this type: the plan found it by its name.
    let Ok(page) = page.transcode_to::<Page>() else { return };
    let next = page.has_next.then(|| page.page.saturating_add(1));
    let previous = (page.page > 1).then(|| page.page - 1);
    let pages = page.total.map(|total| total_pages(total, page.per_page));

    let mut set = |name: &'static str, value: Option<String>| {
        if let Ok(value) = HeaderValue::try_from(value.unwrap_or_default()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-page", Some(page.page.to_string()));
    set("x-per-page", Some(page.per_page.to_string()));
    set("x-next-page", next.map(|page| page.to_string()));
    set("x-prev-page", previous.map(|page| page.to_string()));
    if let (Some(total), Some(pages)) = (page.total, pages) {
        set("x-total", Some(total.to_string()));
        set("x-total-pages", Some(pages.to_string()));
    }
    let base = base(url, query, &["page", "per_page"]);
    let relations =
        [("prev", previous.map(i64::from)), ("next", next.map(i64::from)), ("first", Some(1)), ("last", pages)];
    let links = relations.into_iter().filter_map(|(relation, number)| {
        number.map(|number| format!("<{base}page={number}&per_page={}>; rel=\"{relation}\"", page.per_page))
    });
    if let Ok(value) = HeaderValue::try_from(links.collect::<Vec<_>>().join(", ")) {
        headers.insert(header::LINK, value);
    }
}

/// Pages of a list of this length. An empty list has one page.
fn total_pages(total: i64, per_page: i32) -> i64 {
    let per_page = i64::from(per_page.max(1));
    (total.max(0).saturating_add(per_page - 1) / per_page).max(1)
}

/// The address with the query, less what the links set themselves, ready for more parameters.
pub fn base(url: &str, query: &str, own: &[&str]) -> String {
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
    use super::*;
    use prost_reflect::DescriptorPool;

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
        let link = |page: u8, relation: &str| {
            format!("<http://h/api/v4/x?a=b%2Fc&tag_list[]=x&page={page}&per_page=3>; rel=\"{relation}\"")
        };
        let expected = [link(1, "prev"), link(3, "next"), link(1, "first"), link(3, "last")].join(", ");
        assert_eq!(text(&headers, "link").unwrap(), expected);
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

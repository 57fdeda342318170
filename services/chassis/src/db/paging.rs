//! Pages of a list: the rows of one page, their total number, and whether more follow.

use proto::paddock::{contract::v1::Reason, page::v1::Page};
use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, QuerySelect as _, Select,
    sea_query::{Alias, Expr, Query},
};

use crate::status::Refusal;

/// The number of items of a page, unless the caller asks for another one.
const DEFAULT_PER_PAGE: i32 = 20;

/// The largest number of items of a page.
const MAX_PER_PAGE: i32 = 100;

/// Lists are counted up to this number, as with GitLab: <https://docs.gitlab.com/api/rest/#other-pagination-headers>
const MAX_COUNTED: u64 = 10_000;

/// The part of a list that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    page: i32,
    per_page: i32,
}

/// The rows of one page, and the position of the page in its list.
#[derive(Debug)]
pub struct Paged<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Their position.
    pub page: Page,
}

impl Window {
    /// Reads the parameters of a list request.
    ///
    /// # Errors
    /// A refusal for a number below 1.
    pub fn new(page: Option<i32>, per_page: Option<i32>) -> Result<Self, Refusal> {
        let page = page.unwrap_or(1);
        let per_page = per_page.unwrap_or(DEFAULT_PER_PAGE);
        for (name, value) in [("page", page), ("per_page", per_page)] {
            if value < 1 {
                let text = format!("{name} does not have a valid value");
                return Err(Refusal::new(Reason::ParameterInvalid).with_message(text));
            }
        }
        Ok(Self { page, per_page: per_page.min(MAX_PER_PAGE) })
    }

    fn limit(self) -> u64 {
        u64::from(self.per_page.unsigned_abs())
    }

    fn offset(self) -> u64 {
        u64::from((self.page - 1).unsigned_abs()) * self.limit()
    }

    /// Cuts this part out of a list that is in memory.
    #[must_use]
    pub fn slice<T>(self, all: Vec<T>) -> Paged<T> {
        let count = all.len() as u64;
        let has_next = count > self.offset() + self.limit();
        let items = all.into_iter().skip(to_usize(self.offset())).take(to_usize(self.limit())).collect();
        Paged { items, page: self.page_message(count, has_next) }
    }

    /// Runs an ordered query for the rows of this part.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn fetch<E: EntityTrait>(
        self,
        query: Select<E>,
        db: &impl ConnectionTrait,
    ) -> Result<Paged<E::Model>, DbErr> {
        let counted = count_rows(&query, db).await?;
        // One row more than the page holds shows whether another page follows.
        let mut items = query.limit(self.limit() + 1).offset(self.offset()).all(db).await?;
        let has_next = items.len() > to_usize(self.limit());
        if has_next {
            items.pop();
        }
        Ok(Paged { items, page: self.page_message(counted, has_next) })
    }

    fn page_message(self, count: u64, has_next: bool) -> Page {
        let total = i64::try_from(count).ok().filter(|_| count <= MAX_COUNTED);
        Page { page: self.page, per_page: self.per_page, total, has_next }
    }
}

impl<T> Paged<T> {
    /// Converts every row.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Paged<U> {
        Paged { items: self.items.into_iter().map(f).collect(), page: self.page }
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Counts the rows up to one more than [`MAX_COUNTED`]: a count over a large table is slow.
async fn count_rows<E: EntityTrait>(query: &Select<E>, db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    let mut rows = sea_orm::QueryTrait::query(&mut query.clone()).to_owned();
    rows.clear_selects().clear_order_by().expr(Expr::val(1)).limit(MAX_COUNTED + 1);
    let count =
        Query::select().expr_as(Expr::cust("COUNT(*)"), "count").from_subquery(rows, Alias::new("counted")).to_owned();
    let row = db.query_one(&count).await?.ok_or_else(|| DbErr::Custom("a count has no row".to_owned()))?;
    let count: i64 = row.try_get("", "count")?;
    u64::try_from(count).map_err(|error| DbErr::Custom(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_cut_to_its_bounds() {
        let cases = [
            (None, None, Some((0, 20))),
            (Some(1), Some(100), Some((0, 100))),
            (Some(3), Some(1000), Some((200, 100))),
            (Some(i32::MAX), Some(i32::MAX), Some((214_748_364_600, 100))),
            (Some(0), None, None),
            (Some(-1), None, None),
            (None, Some(0), None),
            (None, Some(i32::MIN), None),
        ];
        for (page, per_page, expected) in cases {
            let window = Window::new(page, per_page).ok().map(|window| (window.offset(), window.limit()));
            assert_eq!(window, expected, "{page:?} {per_page:?}");
        }
    }

    #[test]
    fn a_list_is_cut_into_its_pages() {
        let cases = [(1, vec![1, 2], true), (2, vec![3, 4], true), (3, vec![5], false), (4, vec![], false)];
        for (page, items, has_next) in cases {
            let paged = Window::new(Some(page), Some(2)).unwrap().slice(vec![1, 2, 3, 4, 5]);
            assert_eq!(paged.items, items);
            assert_eq!(paged.page, Page { page, per_page: 2, total: Some(5), has_next });
        }
        assert!(!Window::new(None, Some(2)).unwrap().slice(vec![1, 2]).page.has_next);
    }
}

//! Pages of a list: which rows, how many there are in all, and whether more follow.

use proto::paddock::{contract::v1::Reason, page::v1::Page};
use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, QuerySelect as _, Select,
    sea_query::{Alias, Expr, Query},
};

use crate::status::Refusal;

/// How many items a page holds when the caller does not say.
const DEFAULT_PER_PAGE: i32 = 20;

/// How many items a page holds at most.
const MAX_PER_PAGE: i32 = 100;

/// Lists are counted up to this number, as with GitLab: <https://docs.gitlab.com/api/rest/#other-pagination-headers>
const MAX_COUNTED: u64 = 10_000;

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    page: i32,
    per_page: i32,
}

/// A page of rows and where it stands in its list.
#[derive(Debug)]
pub struct Paged<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where they stand.
    pub page: Page,
}

impl Window {
    /// The part that the parameters of a list request ask for.
    ///
    /// # Errors
    /// A refusal for a number below 1.
    pub fn new(page: Option<i32>, per_page: Option<i32>) -> Result<Self, Refusal> {
        let (page, per_page) = (page.unwrap_or(1), per_page.unwrap_or(DEFAULT_PER_PAGE));
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

    /// Cuts this part out of a list that is short enough to be held whole.
    #[must_use]
    pub fn slice<T>(self, all: Vec<T>) -> Paged<T> {
        let (count, end) = (all.len() as u64, self.offset() + self.limit());
        let within = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let items = all.into_iter().skip(within(self.offset())).take(within(self.limit())).collect();
        let total = i64::try_from(count).ok().filter(|_| count <= MAX_COUNTED);
        Paged { items, page: Page { page: self.page, per_page: self.per_page, total, has_next: count > end } }
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
        let counted = count(&query, db).await?;
        // One row more than the page holds tells whether a further page follows.
        let mut items = query.limit(self.limit() + 1).offset(self.offset()).all(db).await?;
        let has_next = items.len() > usize::try_from(self.limit()).unwrap_or(usize::MAX);
        if has_next {
            items.pop();
        }
        let total = i64::try_from(counted).ok().filter(|_| counted <= MAX_COUNTED);
        Ok(Paged { items, page: Page { page: self.page, per_page: self.per_page, total, has_next } })
    }
}

impl<T> Paged<T> {
    /// The same page with every row turned into something else.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Paged<U> {
        Paged { items: self.items.into_iter().map(f).collect(), page: self.page }
    }
}

/// Counts the rows, but not far beyond what is shown: a count over a large table is slow.
async fn count<E: EntityTrait>(query: &Select<E>, db: &impl ConnectionTrait) -> Result<u64, DbErr> {
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

//! The `search` parameter of lists: a text that must occur in one of a few columns, regardless of case.

use chassis::db::paging::Window;
use sea_orm::{
    ColumnTrait, Condition,
    sea_query::{BinOper, Expr, ExprTrait as _, Func},
};

/// Marks a character of the text that has a meaning in a pattern.
const ESCAPE: char = '!';

/// What lists of groups and of projects have in common.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    /// Only what this user sees; none: everything.
    pub seen_by: Option<i64>,
    /// Only what contains this text.
    pub search: Option<&'a str>,
    /// The part of the list.
    pub window: Window,
}

impl Listing<'_> {
    /// The condition on the rows. `visible` is the condition for what a user sees.
    pub fn condition<C: ColumnTrait>(&self, visible: fn(i64) -> Condition, searched: &[C]) -> Condition {
        Condition::all()
            .add_option(self.seen_by.map(visible))
            .add_option(self.search.map(|text| contains(searched, text)))
    }
}

/// Reports whether one of the columns contains the text. Both sides are lowered by the database, so that it compares
/// like with like.
pub fn contains<C: ColumnTrait>(columns: &[C], text: &str) -> Condition {
    let lower = Expr::from(Func::lower(Expr::val(like_pattern(text))));
    let pattern = lower.binary(BinOper::Escape, Expr::Constant(ESCAPE.into()));
    columns.iter().fold(Condition::any(), |any, column| {
        any.add(Expr::from(Func::lower(column.into_expr())).binary(BinOper::Like, pattern.clone()))
    })
}

/// Reports whether the column is the text.
pub fn equals(column: impl ColumnTrait, text: &str) -> Expr {
    Expr::from(Func::lower(column.into_expr())).eq(Func::lower(Expr::val(text)))
}

fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | ESCAPE) {
            pattern.push(ESCAPE);
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::user;
    use sea_orm::{DbBackend, EntityTrait as _, QueryFilter as _, QueryTrait as _};

    #[test]
    fn wildcards_lose_their_meaning() {
        let cases = [("a", "%a%"), ("", "%%"), ("50%_!", "%50!%!_!!%"), ("\\", "%\\%")];
        for (text, expected) in cases {
            assert_eq!(like_pattern(text), expected);
        }
    }

    #[test]
    fn both_databases_get_the_same_condition() {
        for backend in [DbBackend::Sqlite, DbBackend::Postgres] {
            let query = user::Entity::find().filter(contains(&[user::Column::Name], "a_")).build(backend).to_string();
            let condition = r#"LOWER("users"."name") LIKE LOWER('%a!_%') ESCAPE '!'"#;
            assert!(query.ends_with(condition), "{query}");
        }
    }
}

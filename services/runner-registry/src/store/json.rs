//! Conditions on a column that holds a JSON array of strings; the two databases spell them differently.

use sea_orm::{
    ColumnTrait, Condition, DatabaseBackend,
    sea_query::{Expr, ExprTrait as _},
};

/// Reports whether the column's array holds all the strings.
pub fn has_all(backend: DatabaseBackend, column: impl ColumnTrait, strings: &[String]) -> Condition {
    strings.iter().map(|string| contains_string(backend, column, string)).fold(Condition::all(), Condition::add)
}

/// Returns the condition that the list in the column contains the string.
fn contains_string(backend: DatabaseBackend, column: impl ColumnTrait, string: &str) -> Expr {
    match backend {
        DatabaseBackend::Sqlite => {
            let each = Expr::cust_with_exprs("(SELECT value FROM json_each(?))", [column.into_expr()]);
            Expr::val(string).binary(sea_orm::sea_query::BinOper::In, each)
        }
        _ => Expr::cust_with_exprs("$1 @> $2", [column.into_expr(), Expr::val(serde_json::json!([string]))]),
    }
}

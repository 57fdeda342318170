//! Comparison of times inside a query. SQLite keeps a time as text without trailing zeros, so that text order is not
//! time order within one second; there both sides are first brought to the same form.

use sea_orm::{
    ColumnTrait, DatabaseBackend,
    sea_query::{Expr, ExprTrait as _, Func},
};
use time::OffsetDateTime;

/// Whether the column's time is before the instant.
pub fn before(backend: DatabaseBackend, column: impl ColumnTrait, at: OffsetDateTime) -> Expr {
    comparable(backend, column.into_expr()).lt(comparable(backend, Expr::val(at)))
}

/// Whether the column's time is the instant or after it.
pub fn not_before(backend: DatabaseBackend, column: impl ColumnTrait, at: OffsetDateTime) -> Expr {
    comparable(backend, column.into_expr()).gte(comparable(backend, Expr::val(at)))
}

fn comparable(backend: DatabaseBackend, time: Expr) -> Expr {
    match backend {
        DatabaseBackend::Sqlite => Func::cust("strftime").arg("%Y-%m-%dT%H:%M:%fZ").arg(time).into(),
        _ => time,
    }
}

//! The usage of a project: its accesses, counted.

use sea_orm::{
    ConnectionTrait, ExprTrait as _, FromQueryResult,
    sea_query::{Expr, Func, Query},
};

use super::filter::EVENTS;
use crate::error::Result;

/// Accesses that differ only in their time, job and user.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct UsageRow {
    /// The project of the jobs.
    pub origin_project_id: i64,
    /// Verb and path template.
    pub route: String,
    /// The names of the policies, separated by commas.
    pub policies: String,
    /// The number of accesses.
    pub count: i64,
    /// The latest access, in milliseconds.
    pub last_authorized_at: i64,
}

/// Counts the accesses to a project since a time, grouped by origin, route and policies.
pub async fn usages(db: &impl ConnectionTrait, target_project_id: i64, since: i64) -> Result<Vec<UsageRow>> {
    let groups = ["origin_project_id", "route", "policies"];
    let query = Query::select()
        .columns(groups)
        .expr_as(Func::count(Expr::col("id")), "count")
        .expr_as(Func::max(Expr::col("accessed_at")), "last_authorized_at")
        .from(EVENTS)
        .and_where(Expr::col("target_project_id").eq(target_project_id))
        .and_where(Expr::col("accessed_at").gte(since))
        .group_by_columns(groups)
        .to_owned();
    let rows = db.query_all(&query).await?;
    Ok(rows.iter().map(|row| UsageRow::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

//! Single accesses, and requests without a verdict.

use sea_orm::{ConnectionTrait, ExprTrait as _, FromQueryResult, Order, sea_query::Expr};

use super::filter::{EVENTS, LogFilter};
use crate::error::Result;

/// Which events to read, in addition to the [`LogFilter`].
#[derive(Clone, Copy, Debug)]
pub struct EventFilter {
    /// Only accesses of this job.
    pub job_id: Option<i64>,
    /// Only accesses of jobs of this user.
    pub user_id: Option<i64>,
    /// Selects requests that got no verdict in time, instead of accesses.
    pub unresolved: bool,
}

/// One access, or a request without a verdict.
#[derive(Clone, Debug, FromQueryResult)]
pub struct EventRow {
    /// The id of the capture.
    pub id: String,
    /// The project that was reached.
    pub target_project_id: i64,
    /// The project whose job reached it.
    pub origin_project_id: i64,
    /// The job.
    pub job_id: i64,
    /// The user of the job.
    pub user_id: i64,
    /// Verb and path template.
    pub route: String,
    /// The names of the policies, separated by commas.
    pub policies: String,
    /// The capture mode of the route, by its number in the contract.
    pub mode: i16,
    /// The time of the access, in milliseconds.
    pub accessed_at: i64,
    /// The id of the request.
    pub request_id: String,
    /// The address of the client; empty: unknown.
    pub remote_ip: String,
    /// The status of the response; 0: no verdict.
    pub status: i16,
}

/// The position of an event in its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPosition {
    /// The time of the access, in milliseconds.
    pub at: i64,
    /// The id of the capture.
    pub id: String,
    /// The project that was reached.
    pub target: i64,
}

impl EventRow {
    /// Returns the position in its list.
    pub fn position(&self) -> EventPosition {
        EventPosition { at: self.accessed_at, id: self.id.clone(), target: self.target_project_id }
    }
}

/// Returns the events after a position, the latest first.
pub async fn events(
    db: &impl ConnectionTrait,
    filter: &LogFilter,
    event_filter: EventFilter,
    after: Option<&EventPosition>,
    limit: u64,
) -> Result<Vec<EventRow>> {
    let mut query = filter.of_events(if event_filter.unresolved { "unresolved_captures" } else { EVENTS });
    let sort_key = ["accessed_at", "id", "target_project_id"];
    query
        .columns([
            "id",
            "target_project_id",
            "origin_project_id",
            "job_id",
            "user_id",
            "route",
            "policies",
            "mode",
            "accessed_at",
            "request_id",
            "remote_ip",
        ])
        .and_where_option(event_filter.job_id.map(|id| Expr::col("job_id").eq(id)))
        .and_where_option(event_filter.user_id.map(|id| Expr::col("user_id").eq(id)))
        .limit(limit);
    match event_filter.unresolved {
        true => query.expr_as(Expr::cust("CAST(0 AS SMALLINT)"), "status"),
        false => query.column("status"),
    };
    for column in sort_key {
        query.order_by(column, Order::Desc);
    }
    if let Some(after) = after {
        let last = [Expr::val(after.at), Expr::val(after.id.as_str()), Expr::val(after.target)];
        query.and_where(Expr::tuple(sort_key.map(Expr::col)).lt(Expr::tuple(last)));
    }
    let rows = db.query_all(&query).await?;
    Ok(rows.iter().map(|row| EventRow::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

//! Single accesses, and requests without a verdict.

use sea_orm::{ConnectionTrait, ExprTrait as _, FromQueryResult, Order, sea_query::Expr};

use super::{EVENTS, Filter};
use crate::error::Result;

/// Which events to read, besides the [`Filter`].
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Only accesses of this job.
    pub job_id: Option<i64>,
    /// Only accesses of this user's jobs.
    pub user_id: Option<i64>,
    /// Instead of accesses, those requests of which no verdict came in time.
    pub unresolved: bool,
}

/// One access, or a request without a verdict.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Event {
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
    /// What the route promised, by its number in the contract.
    pub mode: i16,
    /// When, in milliseconds.
    pub accessed_at: i64,
    /// The id of the request.
    pub request_id: String,
    /// The address that it came from; empty: unknown.
    pub remote_ip: String,
    /// The status of the answer; 0: there was no verdict.
    pub status: i16,
}

/// The place of an event in its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventKey {
    /// When, in milliseconds.
    pub at: i64,
    /// The id of the capture.
    pub id: String,
    /// The project that was reached.
    pub target: i64,
}

impl Event {
    /// The place in a list.
    pub fn key(&self) -> EventKey {
        EventKey { at: self.accessed_at, id: self.id.clone(), target: self.target_project_id }
    }
}

/// Events behind the given place, the latest first.
pub async fn events(
    db: &impl ConnectionTrait,
    filter: &Filter,
    events: Events,
    after: Option<&EventKey>,
    limit: u64,
) -> Result<Vec<Event>> {
    let mut query = filter.of_events(if events.unresolved { "unresolved_captures" } else { EVENTS });
    let key = ["accessed_at", "id", "target_project_id"];
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
        .and_where_option(events.job_id.map(|id| Expr::col("job_id").eq(id)))
        .and_where_option(events.user_id.map(|id| Expr::col("user_id").eq(id)))
        .limit(limit);
    match events.unresolved {
        true => query.expr_as(Expr::cust("CAST(0 AS SMALLINT)"), "status"),
        false => query.column("status"),
    };
    for column in key {
        query.order_by(column, Order::Desc);
    }
    if let Some(after) = after {
        let last = [Expr::val(after.at), Expr::val(after.id.as_str()), Expr::val(after.target)];
        query.and_where(Expr::tuple(key.map(Expr::col)).lt(Expr::tuple(last)));
    }
    let rows = db.query_all(&query).await?;
    Ok(rows.iter().map(|row| Event::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

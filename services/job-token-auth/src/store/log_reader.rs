//! Reads the log: the view of pairs, single events, and what the events of a project add up to. Lists are read by keyset: each
//! page begins behind the last row of the one before, so that rows that arrive in the meantime shift nothing. A pair with a new
//! access moves to the start of its list, so that whoever needs the list of one moment takes it whole.

use std::collections::HashMap;

use proto::paddock::job_token::v1::JobTokenPolicy;
use sea_orm::{
    ConnectionTrait, ExprTrait as _, FromQueryResult, Order,
    sea_query::{Expr, Func, LikeExpr, Query, SelectStatement},
};

use crate::{error::Result, policy};

/// How many ids one statement names.
const BATCH: usize = 1000;

/// Which side of the accesses the project is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It was reached.
    Target,
    /// Its jobs reached others.
    Origin,
}

/// Which rows to read.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The project whose log it is.
    pub project_id: i64,
    /// The side that it is on.
    pub side: Side,
    /// Only accesses with this project on the other side.
    pub other_project_id: Option<i64>,
    /// Only accesses under this policy.
    pub policy: Option<JobTokenPolicy>,
    /// Only accesses at or after this time, in milliseconds.
    pub since: Option<i64>,
    /// Only accesses before this time, in milliseconds.
    pub until: Option<i64>,
}

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

/// All accesses of one project to another. Times are milliseconds.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Pair {
    /// The project that was reached.
    pub target_project_id: i64,
    /// The project whose jobs reached it.
    pub origin_project_id: i64,
    /// The first access.
    pub first_authorized_at: i64,
    /// The latest access.
    pub last_authorized_at: i64,
    /// How many there were.
    pub access_count: i64,
    /// The job of the latest one.
    pub last_job_id: i64,
    /// The user of that job.
    pub last_user_id: i64,
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

/// Accesses that differ in their time, job and user only.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Use {
    /// The project whose jobs reached.
    pub origin_project_id: i64,
    /// Verb and path template.
    pub route: String,
    /// The names of the policies, separated by commas.
    pub policies: String,
    /// How many there were.
    pub count: i64,
    /// The latest, in milliseconds.
    pub last_authorized_at: i64,
}

/// The place of a pair in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairKey {
    /// The latest access, in milliseconds.
    pub at: i64,
    /// The project on the other side.
    pub other: i64,
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

impl Side {
    fn own(self) -> &'static str {
        match self {
            Self::Target => "target_project_id",
            Self::Origin => "origin_project_id",
        }
    }

    fn other(self) -> &'static str {
        match self {
            Self::Target => "origin_project_id",
            Self::Origin => "target_project_id",
        }
    }
}

impl Pair {
    /// The project on the other side.
    pub fn other(&self, side: Side) -> i64 {
        match side {
            Side::Target => self.origin_project_id,
            Side::Origin => self.target_project_id,
        }
    }

    /// The place in the list of one of the projects.
    pub fn key(&self, side: Side) -> PairKey {
        PairKey { at: self.last_authorized_at, other: self.other(side) }
    }
}

impl Event {
    /// The place in a list.
    pub fn key(&self) -> EventKey {
        EventKey { at: self.accessed_at, id: self.id.clone(), target: self.target_project_id }
    }
}

impl Filter {
    /// The rows of a table whose time is in this column.
    fn select(&self, table: &'static str, time: &'static str) -> SelectStatement {
        Query::select()
            .from(table)
            .and_where(Expr::col(self.side.own()).eq(self.project_id))
            .and_where_option(self.other_project_id.map(|id| Expr::col(self.side.other()).eq(id)))
            .and_where_option(self.since.map(|since| Expr::col(time).gte(since)))
            .and_where_option(self.until.map(|until| Expr::col(time).lt(until)))
            .to_owned()
    }
}

/// Pairs behind the given place, the latest access first; all of them without a limit.
pub async fn pairs(
    db: &impl ConnectionTrait,
    filter: &Filter,
    after: Option<PairKey>,
    limit: Option<u64>,
) -> Result<Vec<Pair>> {
    let (at, other) = ("last_authorized_at", filter.side.other());
    let mut query = filter.select("access_pairs", at);
    query
        .columns([
            "target_project_id",
            "origin_project_id",
            "first_authorized_at",
            "last_authorized_at",
            "access_count",
            "last_job_id",
            "last_user_id",
        ])
        .order_by(at, Order::Desc)
        .order_by(other, Order::Desc);
    if let Some(policy) = filter.policy {
        let used = Query::select()
            .column(other)
            .from("access_pair_policies")
            .and_where(Expr::col(filter.side.own()).eq(filter.project_id))
            .and_where(Expr::col("policy").eq(policy as i32))
            .to_owned();
        query.and_where(Expr::col(other).in_subquery(used));
    }
    if let Some(after) = after {
        let place = Expr::tuple([Expr::col(at), Expr::col(other)]);
        query.and_where(place.lt(Expr::tuple([Expr::val(after.at), Expr::val(after.other)])));
    }
    if let Some(limit) = limit {
        query.limit(limit);
    }
    let rows = db.query_all(&query).await?;
    Ok(rows.iter().map(|row| Pair::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// When each policy was last used by the pairs, by the project on the other side. A policy that this version does not know
/// is left out.
pub async fn policies(
    db: &impl ConnectionTrait,
    filter: &Filter,
    others: &[i64],
) -> Result<HashMap<i64, Vec<(JobTokenPolicy, i64)>>> {
    let mut policies = HashMap::<_, Vec<_>>::new();
    for others in others.chunks(BATCH) {
        let other = filter.side.other();
        let query = Query::select()
            .columns([other, "policy", "last_authorized_at"])
            .from("access_pair_policies")
            .and_where(Expr::col(filter.side.own()).eq(filter.project_id))
            .and_where(Expr::col(other).is_in(others.iter().copied()))
            .order_by("policy", Order::Asc)
            .to_owned();
        for row in db.query_all(&query).await? {
            let number: i32 = row.try_get("", "policy")?;
            let Ok(policy) = JobTokenPolicy::try_from(number) else { continue };
            let used = (policy, row.try_get("", "last_authorized_at")?);
            policies.entry(row.try_get("", other)?).or_default().push(used);
        }
    }
    Ok(policies)
}

/// Events behind the given place, the latest first.
pub async fn events(
    db: &impl ConnectionTrait,
    filter: &Filter,
    events: Events,
    after: Option<&EventKey>,
    limit: u64,
) -> Result<Vec<Event>> {
    let table = if events.unresolved { "unresolved_captures" } else { "access_events" };
    let mut query = filter.select(table, "accessed_at");
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
        .and_where_option(filter.policy.map(has_policy))
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

/// Whether the list of names in `policies` has the policy.
fn has_policy(policy: JobTokenPolicy) -> Expr {
    let name = policy::name(policy).replace('_', "!_");
    let listed = |pattern: String| Expr::col("policies").like(LikeExpr::new(pattern).escape('!'));
    listed(name.clone())
        .or(listed(format!("{name},%")))
        .or(listed(format!("%,{name}")))
        .or(listed(format!("%,{name},%")))
}

/// What the accesses to a project since the time add up to.
pub async fn uses(db: &impl ConnectionTrait, target_project_id: i64, since: i64) -> Result<Vec<Use>> {
    let groups = ["origin_project_id", "route", "policies"];
    let query = Query::select()
        .columns(groups)
        .expr_as(Func::count(Expr::col("id")), "count")
        .expr_as(Func::max(Expr::col("accessed_at")), "last_authorized_at")
        .from("access_events")
        .and_where(Expr::col("target_project_id").eq(target_project_id))
        .and_where(Expr::col("accessed_at").gte(since))
        .group_by_columns(groups)
        .to_owned();
    let rows = db.query_all(&query).await?;
    Ok(rows.iter().map(|row| Use::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

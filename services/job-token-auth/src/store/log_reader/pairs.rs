//! Pairs of projects: from the table of pairs, which counts every access, or from the events if the filter selects only some of the
//! accesses of a pair.

use std::collections::{BTreeMap, HashMap};

use proto::paddock::job_token::v1::JobTokenPolicy;
use sea_orm::{
    ConnectionTrait, ExprTrait as _, FromQueryResult, Order,
    sea_query::{Expr, Func, Query, SelectStatement},
};

use super::filter::{EVENTS, LogFilter, ProjectSide};
use crate::{allowlist::policy, error::Result};

/// The table of pairs.
const PAIRS: &str = "access_pairs";

/// The maximum number of ids in one statement.
const BATCH: usize = 1000;

/// The columns with the projects of a pair.
const PROJECTS: [&str; 2] = ["target_project_id", "origin_project_id"];

/// The columns with the times and the number of accesses.
const TOTALS: [&str; 3] = ["first_authorized_at", "last_authorized_at", "access_count"];

/// The columns of the latest access, and the same columns of an event.
const LATEST: [(&str, &str); 2] = [("last_job_id", "job_id"), ("last_user_id", "user_id")];

/// All accesses of one project to another. Times are milliseconds.
#[derive(Clone, Debug, FromQueryResult)]
pub struct PairRow {
    /// The project that was reached.
    pub target_project_id: i64,
    /// The project whose jobs reached it.
    pub origin_project_id: i64,
    /// The first access.
    pub first_authorized_at: i64,
    /// The latest access.
    pub last_authorized_at: i64,
    /// The number of accesses.
    pub access_count: i64,
    /// The job of the latest access.
    pub last_job_id: i64,
    /// The user of that job.
    pub last_user_id: i64,
}

/// The time of the last use of each policy, in milliseconds, in the order of the policies.
pub type PolicyTimes = BTreeMap<JobTokenPolicy, i64>;

/// The position of a pair in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairPosition {
    /// The latest access, in milliseconds.
    pub at: i64,
    /// The project on the other side.
    pub other: i64,
}

impl PairRow {
    /// Returns the project on the other side.
    pub fn other(&self, side: ProjectSide) -> i64 {
        match side {
            ProjectSide::Target => self.origin_project_id,
            ProjectSide::Origin => self.target_project_id,
        }
    }

    /// Returns the position in the list of one of the projects.
    pub fn position(&self, side: ProjectSide) -> PairPosition {
        PairPosition { at: self.last_authorized_at, other: self.other(side) }
    }
}

/// Returns the pairs after a position, the latest access first. A pair with a new access moves to the start of this list.
pub async fn pairs(
    db: &impl ConnectionTrait,
    filter: &LogFilter,
    after: Option<PairPosition>,
    limit: u64,
) -> Result<Vec<PairRow>> {
    let other = filter.side.other();
    let mut query = select_pairs(filter, limit);
    let at = if filter.selects_whole_pairs() { Expr::col("last_authorized_at") } else { latest_access() };
    if let Some(after) = after {
        let position = Expr::tuple([at.clone(), Expr::col(other)]);
        let is_after = position.lt(Expr::tuple([Expr::val(after.at), Expr::val(after.other)]));
        if filter.selects_whole_pairs() {
            query.and_where(is_after)
        } else {
            query.and_having(is_after)
        };
    }
    query.order_by_expr(at, Order::Desc).order_by(other, Order::Desc);
    let mut pairs = fetch_pairs(db, filter, query).await?;
    pairs.sort_by_key(|pair| std::cmp::Reverse((pair.last_authorized_at, pair.other(filter.side))));
    Ok(pairs)
}

/// Returns the pairs after the given project on the other side, by its id. The position of a pair in this list never changes.
pub async fn pairs_by_project(
    db: &impl ConnectionTrait,
    filter: &LogFilter,
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<PairRow>> {
    let other = filter.side.other();
    let mut query = select_pairs(filter, limit);
    query.and_where_option(after.map(|after| Expr::col(other).gt(after))).order_by(other, Order::Asc);
    let mut pairs = fetch_pairs(db, filter, query).await?;
    pairs.sort_by_key(|pair| pair.other(filter.side));
    Ok(pairs)
}

/// Selects the pairs that match the filter, up to the limit, in any order. From the events, the columns of the latest access are
/// missing.
fn select_pairs(filter: &LogFilter, limit: u64) -> SelectStatement {
    let mut query = if filter.selects_whole_pairs() { filter.of_projects(PAIRS) } else { filter.of_events(EVENTS) };
    query.columns(PROJECTS).limit(limit);
    if filter.selects_whole_pairs() {
        query.columns(TOTALS).columns(LATEST.map(|(column, _)| column));
    } else {
        let [first, last, count] = TOTALS;
        query
            .expr_as(Func::min(Expr::col("accessed_at")), first)
            .expr_as(latest_access(), last)
            .expr_as(Func::count(Expr::col("id")), count)
            .group_by_columns(PROJECTS);
    }
    query
}

fn latest_access() -> Expr {
    Func::max(Expr::col("accessed_at")).into()
}

async fn fetch_pairs(
    db: &impl ConnectionTrait,
    filter: &LogFilter,
    mut query: SelectStatement,
) -> Result<Vec<PairRow>> {
    if !filter.selects_whole_pairs() {
        // The look-ups of the latest access wrap the page, so that they run for its pairs only.
        let page = query;
        query = Query::select().columns(PROJECTS).columns(TOTALS).from_subquery(page, "page").to_owned();
        for (column, of_event) in LATEST {
            let other = filter.side.other();
            let mut event = filter.of_events(EVENTS);
            event
                .column((EVENTS, of_event))
                .and_where(Expr::col((EVENTS, other)).equals(("page", other)))
                .order_by("accessed_at", Order::Desc)
                .order_by("id", Order::Desc)
                .limit(1);
            query.expr_as(Expr::from(event), column);
        }
    }
    let rows = db.query_all(&query).await?;
    Ok(rows.iter().map(|row| PairRow::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// Returns the time of the last use of each policy by the pairs, by the project on the other side. Policies that this version does
/// not know are skipped.
pub async fn policies(
    db: &impl ConnectionTrait,
    filter: &LogFilter,
    others: &[i64],
) -> Result<HashMap<i64, PolicyTimes>> {
    let mut found = HashMap::<i64, PolicyTimes>::new();
    let other = filter.side.other();
    let last = "last_authorized_at";
    for others in others.chunks(BATCH) {
        let mut query = if filter.selects_whole_pairs() {
            filter.of_projects("access_pair_policies").columns([other, "policy", last]).to_owned()
        } else {
            let groups = [other, "policies"];
            filter.of_events(EVENTS).columns(groups).expr_as(latest_access(), last).group_by_columns(groups).to_owned()
        };
        query.and_where(Expr::col(other).is_in(others.iter().copied()));
        for row in db.query_all(&query).await? {
            let policies = if filter.selects_whole_pairs() {
                JobTokenPolicy::try_from(row.try_get::<i32>("", "policy")?).into_iter().collect()
            } else {
                policy::split(&row.try_get::<String>("", "policies")?)
            };
            let other: i64 = row.try_get("", other)?;
            let at: i64 = row.try_get("", last)?;
            for policy in policies {
                let latest = found.entry(other).or_default().entry(policy).or_insert(at);
                *latest = std::cmp::max(at, *latest);
            }
        }
    }
    Ok(found)
}

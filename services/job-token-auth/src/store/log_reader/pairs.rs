//! The pairs of projects: from the view, which counts every access, or from the events, when only some of the accesses count.

use std::collections::{BTreeMap, HashMap};

use proto::paddock::job_token::v1::JobTokenPolicy;
use sea_orm::{
    ConnectionTrait, ExprTrait as _, FromQueryResult, Order,
    sea_query::{Expr, Func, Query, SelectStatement},
};

use super::{EVENTS, Filter, Side};
use crate::{error::Result, policy};

/// The view.
const VIEW: &str = "access_pairs";

/// How many ids one statement names.
const BATCH: usize = 1000;

/// The columns of a pair that say which projects it is of.
const PROJECTS: [&str; 2] = ["target_project_id", "origin_project_id"];

/// The columns that say when there were how many accesses.
const TIMES: [&str; 3] = ["first_authorized_at", "last_authorized_at", "access_count"];

/// The columns that are those of the latest access, and how its event names them.
const LATEST: [(&str, &str); 2] = [("last_job_id", "job_id"), ("last_user_id", "user_id")];

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

/// The place of a pair in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairKey {
    /// The latest access, in milliseconds.
    pub at: i64,
    /// The project on the other side.
    pub other: i64,
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

/// Pairs behind the given place, the latest access first. A pair with a new access moves to the start of this list.
pub async fn pairs(
    db: &impl ConnectionTrait,
    filter: &Filter,
    after: Option<PairKey>,
    limit: u64,
) -> Result<Vec<Pair>> {
    let other = filter.side.other();
    let mut query = query(filter, limit);
    let at = if filter.takes_whole_pairs() { Expr::col("last_authorized_at") } else { latest() };
    if let Some(after) = after {
        let place = Expr::tuple([at.clone(), Expr::col(other)]);
        let behind = place.lt(Expr::tuple([Expr::val(after.at), Expr::val(after.other)]));
        if filter.takes_whole_pairs() {
            query.and_where(behind)
        } else {
            query.and_having(behind)
        };
    }
    query.order_by_expr(at, Order::Desc).order_by(other, Order::Desc);
    let mut pairs = read(db, filter, query).await?;
    pairs.sort_by_key(|pair| std::cmp::Reverse((pair.last_authorized_at, pair.other(filter.side))));
    Ok(pairs)
}

/// Pairs with the projects behind the given one on the other side, by its id. The place of a pair in this list never changes.
pub async fn pairs_by_project(
    db: &impl ConnectionTrait,
    filter: &Filter,
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<Pair>> {
    let other = filter.side.other();
    let mut query = query(filter, limit);
    query.and_where_option(after.map(|after| Expr::col(other).gt(after))).order_by(other, Order::Asc);
    let mut pairs = read(db, filter, query).await?;
    pairs.sort_by_key(|pair| pair.other(filter.side));
    Ok(pairs)
}

/// The pairs that the filter leaves, up to the limit, in no order, without the columns of the latest access if it is not the
/// view that tells of them.
fn query(filter: &Filter, limit: u64) -> SelectStatement {
    let mut query = if filter.takes_whole_pairs() { filter.of_projects(VIEW) } else { filter.of_events(EVENTS) };
    query.columns(PROJECTS).limit(limit);
    if filter.takes_whole_pairs() {
        query.columns(TIMES).columns(LATEST.map(|(column, _)| column));
    } else {
        let [first, last, count] = TIMES;
        query
            .expr_as(Func::min(Expr::col("accessed_at")), first)
            .expr_as(latest(), last)
            .expr_as(Func::count(Expr::col("id")), count)
            .group_by_columns(PROJECTS);
    }
    query
}

fn latest() -> Expr {
    Func::max(Expr::col("accessed_at")).into()
}

async fn read(db: &impl ConnectionTrait, filter: &Filter, mut query: SelectStatement) -> Result<Vec<Pair>> {
    if !filter.takes_whole_pairs() {
        // Around the page, so that only its pairs are looked up.
        let page = query;
        query = Query::select().columns(PROJECTS).columns(TIMES).from_subquery(page, "page").to_owned();
        for (column, of_event) in LATEST {
            let (other, mut event) = (filter.side.other(), filter.of_events(EVENTS));
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
    Ok(rows.iter().map(|row| Pair::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// When each policy was last used by the pairs, in the order of the policies, by the project on the other side. A policy that
/// this version does not know is left out.
pub async fn policies(
    db: &impl ConnectionTrait,
    filter: &Filter,
    others: &[i64],
) -> Result<HashMap<i64, BTreeMap<JobTokenPolicy, i64>>> {
    let mut found = HashMap::<_, BTreeMap<_, _>>::new();
    let other = filter.side.other();
    let last = "last_authorized_at";
    for others in others.chunks(BATCH) {
        let mut query = if filter.takes_whole_pairs() {
            filter.of_projects("access_pair_policies").columns([other, "policy", last]).to_owned()
        } else {
            let groups = [other, "policies"];
            filter.of_events(EVENTS).columns(groups).expr_as(latest(), last).group_by_columns(groups).to_owned()
        };
        query.and_where(Expr::col(other).is_in(others.iter().copied()));
        for row in db.query_all(&query).await? {
            let policies = if filter.takes_whole_pairs() {
                JobTokenPolicy::try_from(row.try_get::<i32>("", "policy")?).into_iter().collect()
            } else {
                policy::split(&row.try_get::<String>("", "policies")?)
            };
            let (other, at): (i64, i64) = (row.try_get("", other)?, row.try_get("", last)?);
            for policy in policies {
                let latest = found.entry(other).or_default().entry(policy).or_insert(at);
                *latest = std::cmp::max(at, *latest);
            }
        }
    }
    Ok(found)
}

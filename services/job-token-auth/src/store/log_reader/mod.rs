//! Reads the log: the view of pairs, single events, and what the events of a project add up to. Lists are read by keyset: each
//! page begins behind the last row of the one before, so that rows that arrive in the meantime shift nothing.

mod events;
mod pairs;

use proto::paddock::job_token::v1::JobTokenPolicy;
use sea_orm::{
    ConnectionTrait, ExprTrait as _, FromQueryResult,
    sea_query::{Expr, Func, LikeExpr, Query, SelectStatement},
};

pub use events::{Event, EventKey, Events, events};
pub use pairs::{Pair, PairKey, pairs, pairs_by_project, policies};

use crate::{error::Result, policy};

/// The table of single events.
const EVENTS: &str = "access_events";

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

impl Filter {
    /// Whether it leaves all accesses of a pair, or none: then the view of pairs tells of them.
    fn takes_whole_pairs(&self) -> bool {
        self.policy.is_none() && self.since.is_none() && self.until.is_none()
    }

    /// The rows of a table with the projects that it names.
    fn of_projects(&self, table: &'static str) -> SelectStatement {
        Query::select()
            .from(table)
            .and_where(Expr::col(self.side.own()).eq(self.project_id))
            .and_where_option(self.other_project_id.map(|id| Expr::col(self.side.other()).eq(id)))
            .to_owned()
    }

    /// The rows of a table of events that fit all of it.
    fn of_events(&self, table: &'static str) -> SelectStatement {
        let at = || Expr::col("accessed_at");
        self.of_projects(table)
            .and_where_option(self.since.map(|since| at().gte(since)))
            .and_where_option(self.until.map(|until| at().lt(until)))
            .and_where_option(self.policy.map(has_policy))
            .to_owned()
    }
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
        .from(EVENTS)
        .and_where(Expr::col("target_project_id").eq(target_project_id))
        .and_where(Expr::col("accessed_at").gte(since))
        .group_by_columns(groups)
        .to_owned();
    let rows = db.query_all(&query).await?;
    Ok(rows.iter().map(|row| Use::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

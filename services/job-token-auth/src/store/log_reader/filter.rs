//! Which rows of the log to read.

use proto::paddock::job_token::v1::JobTokenPolicy;
use sea_orm::{
    ExprTrait as _,
    sea_query::{Expr, LikeExpr, Query, SelectStatement},
};

use crate::allowlist::policy;

/// The table of single events.
pub(super) const EVENTS: &str = "access_events";

/// The side of the accesses on which the project is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectSide {
    /// Jobs of other projects reached it.
    Target,
    /// Its jobs reached other projects.
    Origin,
}

/// Which rows to read.
#[derive(Clone, Debug)]
pub struct LogFilter {
    /// The project whose log it is.
    pub project_id: i64,
    /// The side of the project.
    pub side: ProjectSide,
    /// Only accesses with this project on the other side.
    pub other_project_id: Option<i64>,
    /// Only accesses under this policy.
    pub policy: Option<JobTokenPolicy>,
    /// Only accesses at or after this time, in milliseconds.
    pub since: Option<i64>,
    /// Only accesses before this time, in milliseconds.
    pub until: Option<i64>,
}

impl ProjectSide {
    pub(super) fn own(self) -> &'static str {
        match self {
            Self::Target => "target_project_id",
            Self::Origin => "origin_project_id",
        }
    }

    pub(super) fn other(self) -> &'static str {
        match self {
            Self::Target => "origin_project_id",
            Self::Origin => "target_project_id",
        }
    }
}

impl LogFilter {
    /// Reports whether the filter selects all accesses of a pair or none of them. Then the table of pairs has the result.
    pub(super) fn selects_whole_pairs(&self) -> bool {
        self.policy.is_none() && self.since.is_none() && self.until.is_none()
    }

    /// Selects the rows of a table with the projects of the filter.
    pub(super) fn of_projects(&self, table: &'static str) -> SelectStatement {
        Query::select()
            .from(table)
            .and_where(Expr::col(self.side.own()).eq(self.project_id))
            .and_where_option(self.other_project_id.map(|id| Expr::col(self.side.other()).eq(id)))
            .to_owned()
    }

    /// Selects the rows of a table of events that match the whole filter.
    pub(super) fn of_events(&self, table: &'static str) -> SelectStatement {
        self.of_projects(table)
            .and_where_option(self.since.map(|since| Expr::col("accessed_at").gte(since)))
            .and_where_option(self.until.map(|until| Expr::col("accessed_at").lt(until)))
            .and_where_option(self.policy.map(has_policy))
            .to_owned()
    }
}

/// Matches rows whose list of names in `policies` has the policy.
fn has_policy(policy: JobTokenPolicy) -> Expr {
    let name = policy::name(policy).replace('_', "!_");
    policies_like(name.clone())
        .or(policies_like(format!("{name},%")))
        .or(policies_like(format!("%,{name}")))
        .or(policies_like(format!("%,{name},%")))
}

fn policies_like(pattern: String) -> Expr {
    Expr::col("policies").like(LikeExpr::new(pattern).escape('!'))
}

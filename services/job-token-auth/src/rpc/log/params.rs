//! The parameters that lists and exports of the log share.

use chassis::status::Refusal;
use proto::iso8601;
use proto::paddock::{
    contract::v1::Reason,
    job_token::v1::{Direction, JobTokenPolicy},
    page::v1::Cursor,
};

use super::cursor::{self, Place};
use proto::timestamp::millis;

use crate::store::log_reader::{Filter, Side};

/// How many items a page holds when the caller does not say.
const DEFAULT_PER_PAGE: i32 = 20;

/// How many items a page holds at most.
const MAX_PER_PAGE: i32 = 100;

/// How many days of the log count when the caller does not say.
const DEFAULT_DAYS: i32 = 30;

/// Which accesses are wanted, before it is known of which project.
pub struct Criteria {
    side: Side,
    other_project_id: Option<i64>,
    policy: Option<JobTokenPolicy>,
    since: Option<i64>,
    until: Option<i64>,
}

impl Criteria {
    /// What the parameters say.
    ///
    /// # Errors
    /// A refusal with `PARAMETER_INVALID`.
    pub fn new(
        direction: Option<i32>,
        other_project_id: Option<i64>,
        policy: Option<i32>,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            side: side(direction)?,
            other_project_id,
            policy: policy.map(self::policy).transpose()?,
            since: since.map(|text| time("since", text)).transpose()?,
            until: until.map(|text| time("until", text)).transpose()?,
        })
    }

    /// The rows of a project.
    pub fn of(self, project_id: i64) -> Filter {
        let Self { side, other_project_id, policy, since, until } = self;
        Filter { project_id, side, other_project_id, policy, since, until }
    }
}

/// Which part of a list is wanted.
pub struct Part<P> {
    per_page: i32,
    /// The place that it begins behind.
    pub after: Option<P>,
}

impl<P: Place> Part<P> {
    /// What the parameters say.
    ///
    /// # Errors
    /// A refusal with `PARAMETER_INVALID`.
    pub fn new(cursor: Option<&str>, per_page: Option<i32>) -> Result<Self, Refusal> {
        let per_page = per_page.unwrap_or(DEFAULT_PER_PAGE);
        if per_page < 1 {
            return Err(not_valid("per_page"));
        }
        Ok(Self { per_page: per_page.min(MAX_PER_PAGE), after: cursor.map(cursor::read).transpose()? })
    }

    /// How many rows to read: one more than the page holds tells whether a further page follows.
    pub fn limit(&self) -> u64 {
        u64::from(self.per_page.unsigned_abs()) + 1
    }

    /// Cuts the rows to the page.
    pub fn cut<T>(&self, rows: &mut Vec<T>, place: impl Fn(&T) -> P) -> Cursor {
        let size = usize::try_from(self.per_page).unwrap_or(usize::MAX);
        let has_next = rows.len() > size;
        rows.truncate(size);
        let next = rows.last().filter(|_| has_next).map(|last| cursor::write(&place(last)));
        Cursor { per_page: self.per_page, next }
    }
}

/// How many days of the log count.
///
/// # Errors
/// A refusal with `PARAMETER_INVALID`.
pub fn days(days: Option<i32>) -> Result<i64, Refusal> {
    let days = days.unwrap_or(DEFAULT_DAYS);
    if (1..=366).contains(&days) { Ok(days.into()) } else { Err(not_valid("days")) }
}

fn side(direction: Option<i32>) -> Result<Side, Refusal> {
    match direction.map(Direction::try_from) {
        None | Some(Ok(Direction::Inbound)) => Ok(Side::Target),
        Some(Ok(Direction::Outbound)) => Ok(Side::Origin),
        Some(Ok(Direction::Unspecified) | Err(_)) => Err(not_valid("direction")),
    }
}

fn policy(number: i32) -> Result<JobTokenPolicy, Refusal> {
    let policy = JobTokenPolicy::try_from(number).ok().filter(|policy| *policy != JobTokenPolicy::Unspecified);
    policy.ok_or_else(|| not_valid("policy"))
}

fn time(name: &str, text: &str) -> Result<i64, Refusal> {
    let time = iso8601::parse(text).map(millis);
    time.ok_or_else(|| Refusal::new(Reason::ParameterInvalid).with_message(format!("{name} is invalid")))
}

fn not_valid(name: &str) -> Refusal {
    Refusal::new(Reason::ParameterInvalid).with_message(format!("{name} does not have a valid value"))
}

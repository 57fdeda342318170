//! The parameters that the requests on the log share.

use chassis::status::Refusal;
use proto::{
    iso8601,
    paddock::{
        job_token::v1::{
            Direction, JobTokenPolicy, ListAccessEventsRequest, ListAuthenticationLogRequest,
            StreamAccessEventsJsonLinesRequest, StreamAuthenticationLogCsvRequest,
            StreamAuthenticationLogJsonLinesRequest,
        },
        page::v1::Cursor,
    },
    timestamp::millis,
};
use tonic::{Request, Status};

use super::cursor::{self, Position};
use crate::{
    error::Result,
    rpc::{
        State,
        parameters::{invalid, invalid_value, policy},
        state::UserCall,
    },
    store::log_reader::{LogFilter, ProjectSide},
};

/// The default number of items on a page.
const DEFAULT_PER_PAGE: i32 = 20;

/// The maximum number of items on a page.
const MAX_PER_PAGE: i32 = 100;

/// The default number of days of the log to examine.
const DEFAULT_DAYS: i32 = 30;

/// The maximum number of days of the log to examine.
const MAX_DAYS: i32 = 366;

/// A request for the log of a project.
pub struct LogRequest<M> {
    /// The call.
    pub call: UserCall,
    /// The message.
    pub message: M,
    criteria: AccessCriteria,
}

/// The accesses that a request selects from the log of its project.
pub struct AccessCriteria {
    side: ProjectSide,
    other_project_id: Option<i64>,
    policy: Option<JobTokenPolicy>,
    since: Option<i64>,
    until: Option<i64>,
}

/// A message for the log of a project.
pub trait LogMessage {
    /// Returns the project: its id or its full path.
    fn project(&self) -> &str;

    /// Reads the parameters that select accesses.
    ///
    /// # Errors
    /// A refusal with `PARAMETER_INVALID`.
    fn criteria(&self) -> Result<AccessCriteria, Refusal>;
}

macro_rules! log_message {
    ($($message:ident),*) => {
        $(impl LogMessage for $message {
            fn project(&self) -> &str {
                &self.id
            }

            fn criteria(&self) -> Result<AccessCriteria, Refusal> {
                Ok(AccessCriteria {
                    side: project_side(self.direction)?,
                    other_project_id: self.other_project_id,
                    policy: self.policy.map(|number| policy("policy", number)).transpose()?,
                    since: self.since.as_deref().map(|text| parse_millis("since", text)).transpose()?,
                    until: self.until.as_deref().map(|text| parse_millis("until", text)).transpose()?,
                })
            }
        })*
    };
}

log_message!(
    ListAuthenticationLogRequest,
    ListAccessEventsRequest,
    StreamAuthenticationLogCsvRequest,
    StreamAuthenticationLogJsonLinesRequest,
    StreamAccessEventsJsonLinesRequest
);

impl<M: LogMessage> LogRequest<M> {
    /// Reads a request.
    ///
    /// # Errors
    /// A refusal with `PARAMETER_INVALID`, or a fault.
    pub fn read(request: Request<M>) -> Result<Self, Status> {
        let (call, message) = UserCall::read(request)?;
        let criteria = message.criteria()?;
        Ok(Self { call, message, criteria })
    }
}

impl State {
    /// Returns the filter for the rows that a request selects, if the user administers the project.
    ///
    /// # Errors
    /// As [`State::administered_project`].
    pub(super) async fn log_filter<M: LogMessage>(&self, request: &LogRequest<M>) -> Result<LogFilter> {
        let project = self.administered_project(request.message.project(), &request.call).await?;
        Ok(LogFilter {
            project_id: project.id,
            side: request.criteria.side,
            other_project_id: request.criteria.other_project_id,
            policy: request.criteria.policy,
            since: request.criteria.since,
            until: request.criteria.until,
        })
    }
}

/// The page of a list that a request asks for.
pub struct PageRequest<P> {
    per_page: i32,
    /// The position of the last item before the page.
    pub after: Option<P>,
}

impl<P: Position> PageRequest<P> {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A refusal with `PARAMETER_INVALID`.
    pub fn new(cursor: Option<&str>, per_page: Option<i32>) -> Result<Self, Refusal> {
        let per_page = per_page.unwrap_or(DEFAULT_PER_PAGE);
        if per_page < 1 {
            return Err(invalid_value("per_page"));
        }
        Ok(Self { per_page: per_page.min(MAX_PER_PAGE), after: cursor.map(cursor::read).transpose()? })
    }

    /// Returns the number of rows to read. It is one more than the page holds, to see whether another page follows.
    pub fn limit(&self) -> u64 {
        u64::from(self.per_page.unsigned_abs()) + 1
    }

    /// Truncates the rows to the page, and returns where the next page begins.
    pub fn truncate<T>(&self, rows: &mut Vec<T>, position: impl Fn(&T) -> P) -> Cursor {
        let size = usize::try_from(self.per_page).unwrap_or(usize::MAX);
        let has_next = rows.len() > size;
        rows.truncate(size);
        let next = rows.last().filter(|_| has_next).map(|last| cursor::write(&position(last)));
        Cursor { per_page: self.per_page, next }
    }
}

/// Reads the number of days of the log to examine.
///
/// # Errors
/// A refusal with `PARAMETER_INVALID`.
pub fn days(days: Option<i32>) -> Result<i64, Refusal> {
    let days = days.unwrap_or(DEFAULT_DAYS);
    if (1..=MAX_DAYS).contains(&days) { Ok(days.into()) } else { Err(invalid_value("days")) }
}

/// Returns the side of an access that the project is on.
fn project_side(direction: Option<i32>) -> Result<ProjectSide, Refusal> {
    match direction.map(Direction::try_from) {
        None | Some(Ok(Direction::Inbound)) => Ok(ProjectSide::Target),
        Some(Ok(Direction::Outbound)) => Ok(ProjectSide::Origin),
        Some(Ok(Direction::Unspecified) | Err(_)) => Err(invalid_value("direction")),
    }
}

/// Reads a time as milliseconds.
fn parse_millis(name: &str, text: &str) -> Result<i64, Refusal> {
    iso8601::parse(text).map(millis).ok_or_else(|| invalid(format!("{name} is invalid")))
}

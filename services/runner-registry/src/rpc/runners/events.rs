//! The list of what happened to the tokens of a runner.

use chassis::db::paging::Window;
use proto::{
    paddock::runner::v1::{
        ListRunnerTokenEventsRequest, RunnerTokenEvent, TokenEventGrade as GradeMessage, TokenEventKind as KindMessage,
    },
    timestamp,
};

use super::message::not_in_list;
use crate::{
    entity::runner_token_event::{self, TokenEventGrade, TokenEventKind},
    error::{Error, Result},
    store::runner_token_events::Filter,
};

/// The filter and the part of the list that a request asks for.
pub fn read(request: &ListRunnerTokenEventsRequest) -> Result<(Filter, Window)> {
    let filter =
        Filter { kind: request.kind.map(known_kind).transpose()?, grade: request.grade.map(known_grade).transpose()? };
    let window = Window::new(request.page, request.per_page);
    Ok((filter, window.map_err(|refusal| Error::ParameterInvalid(refusal.message().to_owned()))?))
}

fn known_kind(value: i32) -> Result<TokenEventKind> {
    let known = KindMessage::try_from(value).ok().and_then(TokenEventKind::from_message);
    known.ok_or_else(|| not_in_list("kind"))
}

fn known_grade(value: i32) -> Result<TokenEventGrade> {
    let known = GradeMessage::try_from(value).ok().and_then(TokenEventGrade::from_message);
    known.ok_or_else(|| not_in_list("grade"))
}

/// An event as messages show it.
pub fn message(row: runner_token_event::Model) -> RunnerTokenEvent {
    RunnerTokenEvent {
        id: row.id,
        kind: row.kind.message().into(),
        grade: row.grade.message().into(),
        generation: row.generation,
        system_id: Some(row.system_id).filter(|system_id| !system_id.is_empty()),
        ip_address: Some(row.ip_address).filter(|address| !address.is_empty()),
        user_agent: row.user_agent,
        created_at: Some(timestamp::from_millis(row.first_at)),
        last_seen_at: Some(timestamp::from_millis(row.last_at)),
        count: row.count,
        actor_id: row.actor_id,
    }
}

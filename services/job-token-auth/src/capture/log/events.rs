//! The rows of single events, and of requests without a verdict.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use proto::paddock::job_token::v1::{Capture, FlushRequest};
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbErr};
use serde::Serialize;

use super::rows::{ROWS_PER_STATEMENT, names, parameter, source, statement, text_list};
use crate::allowlist::policy;

/// The columns of `access_events`. `unresolved_captures` has all but the last.
const COLUMNS: [(&str, &str); 12] = [
    ("id", "text"),
    ("target_project_id", "bigint"),
    ("origin_project_id", "bigint"),
    ("job_id", "bigint"),
    ("user_id", "bigint"),
    ("route", "text"),
    ("policies", "text"),
    ("mode", "smallint"),
    ("accessed_at", "bigint"),
    ("request_id", "text"),
    ("remote_ip", "text"),
    ("status", "smallint"),
];

/// One target of one request, as a row.
#[derive(Serialize)]
pub struct Event<'a> {
    pub id: &'a str,
    pub target_project_id: i64,
    pub origin_project_id: i64,
    pub job_id: i64,
    pub user_id: i64,
    route: Cow<'a, str>,
    policies: Cow<'a, str>,
    mode: i16,
    pub accessed_at: i64,
    request_id: Cow<'a, str>,
    remote_ip: Cow<'a, str>,
    status: i16,
    #[serde(skip)]
    pub capture: &'a Capture,
}

/// Inserts the events of the accesses and returns those that are new.
pub async fn insert<'a>(tx: &DatabaseTransaction, flushes: &[&'a FlushRequest]) -> Result<Vec<Event<'a>>, DbErr> {
    let captures = flushes.iter().filter_map(|flush| Some((flush.capture.as_ref()?, flush.status)));
    let mut events = distinct_events(captures);
    let sql = format!(
        "INSERT INTO access_events ({names}) SELECT {names} FROM {source} WHERE true ON CONFLICT DO NOTHING \
         RETURNING id, target_project_id",
        names = names(&COLUMNS),
        source = source(tx.get_database_backend(), &COLUMNS),
    );
    let inserted = insert_returning(tx, &sql, &events).await?;
    if inserted.len() < events.len() {
        events.retain(|event| inserted.contains(&(event.id.to_owned(), event.target_project_id)));
    }
    Ok(events)
}

/// Removes captures that are accesses now from the unresolved ones.
pub async fn remove_resolved(tx: &DatabaseTransaction, events: &[Event<'_>]) -> Result<(), DbErr> {
    let ids = text_list(tx.get_database_backend());
    let sql = format!("DELETE FROM unresolved_captures WHERE id IN ({ids})");
    for events in events.chunks(ROWS_PER_STATEMENT) {
        let mut resolved: Vec<_> = events.iter().map(|event| event.id).collect();
        resolved.dedup();
        tx.execute_raw(statement(tx, &sql, [parameter(&resolved)?])).await?;
    }
    Ok(())
}

/// Inserts requests without a verdict, unless they are accesses. Returns how many captures are new, by their mode.
pub async fn insert_unresolved(tx: &DatabaseTransaction, captures: &[&Capture]) -> Result<BTreeMap<i32, u64>, DbErr> {
    let events = distinct_events(captures.iter().map(|capture| (*capture, 0)));
    let columns = &COLUMNS[..COLUMNS.len() - 1];
    let sql = format!(
        "INSERT INTO unresolved_captures ({names}) SELECT {names} FROM {source} \
         WHERE NOT EXISTS (SELECT 1 FROM access_events WHERE access_events.id = given.id) ON CONFLICT DO NOTHING \
         RETURNING id, target_project_id",
        names = names(columns),
        source = source(tx.get_database_backend(), columns),
    );
    let inserted: HashSet<_> = insert_returning(tx, &sql, &events).await?.into_iter().map(|(id, _)| id).collect();
    let mut by_mode = BTreeMap::new();
    let mut counted_id = "";
    for event in &events {
        // The events of one capture follow each other; the capture counts once.
        if inserted.contains(event.id) && event.id != counted_id {
            *by_mode.entry(event.capture.mode).or_default() += 1;
            counted_id = event.id;
        }
    }
    Ok(by_mode)
}

/// Runs the statement for all events. Returns the ids and targets of the rows that it inserted.
async fn insert_returning(
    tx: &DatabaseTransaction,
    sql: &str,
    events: &[Event<'_>],
) -> Result<HashSet<(String, i64)>, DbErr> {
    let mut inserted = HashSet::with_capacity(events.len());
    for events in events.chunks(ROWS_PER_STATEMENT) {
        for row in tx.query_all_raw(statement(tx, sql, [parameter(events)?])).await? {
            inserted.insert((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
        }
    }
    Ok(inserted)
}

/// Returns one event for each target, in the order of their keys, without repetitions: the first one counts.
fn distinct_events<'a>(captures: impl Iterator<Item = (&'a Capture, i32)>) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    for (capture, status) in captures {
        push_targets(&mut events, capture, status);
    }
    events.sort_by_key(|event| (event.id, event.target_project_id));
    events.dedup_by_key(|event| (event.id, event.target_project_id));
    events
}

fn push_targets<'a>(events: &mut Vec<Event<'a>>, capture: &'a Capture, status: i32) {
    let policies = policy::join(&capture.policies().collect::<Vec<_>>());
    let accessed_at = capture.accessed_at.as_ref().map(proto::timestamp::to_millis).unwrap_or_default();
    for target in &capture.target_project_ids {
        events.push(Event {
            id: &capture.id,
            target_project_id: *target,
            origin_project_id: capture.origin_project_id,
            job_id: capture.job_id,
            user_id: capture.user_id,
            route: storable_text(&capture.route),
            policies: policies.clone().into(),
            mode: i16::try_from(capture.mode).unwrap_or_default(),
            accessed_at,
            request_id: storable_text(&capture.request_id),
            remote_ip: storable_text(&capture.remote_ip),
            status: i16::try_from(status).unwrap_or_default(),
            capture,
        });
    }
}

/// Replaces the character 0, which Postgres cannot keep in a text; a record must not be lost because of it.
fn storable_text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(id: &str, targets: &[i64]) -> Capture {
        Capture {
            id: id.to_owned(),
            target_project_ids: targets.to_vec(),
            route: "a\0b".to_owned(),
            ..Capture::default()
        }
    }

    #[test]
    fn every_target_is_an_event_and_a_repeated_one_counts_once() {
        let three_targets = capture("b", &[7, 5, 7]);
        let repeated = capture("b", &[5]);
        let one_target = capture("a", &[9]);
        let events = distinct_events([(&three_targets, 200), (&one_target, 201), (&repeated, 302)].into_iter());
        let keys: Vec<_> = events.iter().map(|event| (event.id, event.target_project_id, event.status)).collect();
        assert_eq!(keys, [("a", 9, 201), ("b", 5, 200), ("b", 7, 200)]);
        assert_eq!(events[0].route, "a\u{fffd}b");
    }
}

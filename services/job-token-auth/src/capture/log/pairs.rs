//! The view of pairs. It grows only by new events, in the transaction that inserts them.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbErr};
use serde::Serialize;

use super::{
    events::Event,
    rows::{ROWS_PER_STATEMENT, names, parameter, source, statement},
};

const PAIR_COLUMNS: [(&str, &str); 7] = [
    ("target_project_id", "bigint"),
    ("origin_project_id", "bigint"),
    ("first_authorized_at", "bigint"),
    ("last_authorized_at", "bigint"),
    ("access_count", "bigint"),
    ("last_job_id", "bigint"),
    ("last_user_id", "bigint"),
];

const POLICY_COLUMNS: [(&str, &str); 4] = [
    ("target_project_id", "bigint"),
    ("origin_project_id", "bigint"),
    ("policy", "integer"),
    ("last_authorized_at", "bigint"),
];

#[derive(Debug, PartialEq, Serialize)]
struct Pair {
    target_project_id: i64,
    origin_project_id: i64,
    first_authorized_at: i64,
    last_authorized_at: i64,
    access_count: i64,
    last_job_id: i64,
    last_user_id: i64,
}

#[derive(Debug, PartialEq, Serialize)]
struct PairPolicy {
    target_project_id: i64,
    origin_project_id: i64,
    policy: i32,
    last_authorized_at: i64,
}

/// Adds new events to their pairs.
pub async fn add(tx: &DatabaseTransaction, events: &[Event<'_>]) -> Result<(), DbErr> {
    let (pairs, policies) = aggregate_pairs(events);
    let backend = tx.get_database_backend();
    let sql = format!(
        "INSERT INTO access_pairs ({names}) SELECT {names} FROM {source} WHERE true \
         ON CONFLICT (target_project_id, origin_project_id) DO UPDATE SET {set}",
        names = names(&PAIR_COLUMNS),
        source = source(backend, &PAIR_COLUMNS),
        set = PAIR_MERGE.replace("OF_LATEST", "excluded.last_authorized_at >= access_pairs.last_authorized_at"),
    );
    for pairs in pairs.chunks(ROWS_PER_STATEMENT) {
        tx.execute_raw(statement(tx, &sql, [parameter(pairs)?])).await?;
    }
    let sql = format!(
        "INSERT INTO access_pair_policies ({names}) SELECT {names} FROM {source} WHERE true \
         ON CONFLICT (target_project_id, origin_project_id, policy) \
         DO UPDATE SET last_authorized_at = excluded.last_authorized_at \
         WHERE excluded.last_authorized_at > access_pair_policies.last_authorized_at",
        names = names(&POLICY_COLUMNS),
        source = source(backend, &POLICY_COLUMNS),
    );
    for policies in policies.chunks(ROWS_PER_STATEMENT) {
        tx.execute_raw(statement(tx, &sql, [parameter(policies)?])).await?;
    }
    Ok(())
}

/// How a new pair is merged into one that exists. The databases have different functions for the smaller of two values, so this
/// uses CASE.
const PAIR_MERGE: &str = "\
    first_authorized_at = CASE WHEN excluded.first_authorized_at < access_pairs.first_authorized_at \
        THEN excluded.first_authorized_at ELSE access_pairs.first_authorized_at END, \
    last_authorized_at = CASE WHEN OF_LATEST THEN excluded.last_authorized_at ELSE access_pairs.last_authorized_at END, \
    last_job_id = CASE WHEN OF_LATEST THEN excluded.last_job_id ELSE access_pairs.last_job_id END, \
    last_user_id = CASE WHEN OF_LATEST THEN excluded.last_user_id ELSE access_pairs.last_user_id END, \
    access_count = access_pairs.access_count + excluded.access_count";

/// Returns one row for each pair, and for each policy of a pair, in the order of their keys.
fn aggregate_pairs(events: &[Event<'_>]) -> (Vec<Pair>, Vec<PairPolicy>) {
    let mut pairs = BTreeMap::new();
    let mut policies = BTreeMap::new();
    for event in events {
        let key = (event.target_project_id, event.origin_project_id);
        let pair = pairs.entry(key).or_insert_with(|| Pair {
            target_project_id: event.target_project_id,
            origin_project_id: event.origin_project_id,
            first_authorized_at: event.accessed_at,
            last_authorized_at: event.accessed_at,
            access_count: 0,
            last_job_id: event.job_id,
            last_user_id: event.user_id,
        });
        pair.access_count += 1;
        pair.first_authorized_at = pair.first_authorized_at.min(event.accessed_at);
        if event.accessed_at >= pair.last_authorized_at {
            pair.last_authorized_at = event.accessed_at;
            pair.last_job_id = event.job_id;
            pair.last_user_id = event.user_id;
        }
        for policy in &event.capture.policies {
            let row = policies.entry((key, *policy)).or_insert_with(|| PairPolicy {
                target_project_id: event.target_project_id,
                origin_project_id: event.origin_project_id,
                policy: *policy,
                last_authorized_at: event.accessed_at,
            });
            row.last_authorized_at = row.last_authorized_at.max(event.accessed_at);
        }
    }
    (pairs.into_values().collect(), policies.into_values().collect())
}

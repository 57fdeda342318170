//! Captures in the database of the service: the pending ones in a table, the others in the log at once.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use proto::paddock::job_token::v1::Capture;
use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult};
use serde::Serialize;

use super::{
    log::{
        self, Record,
        rows::{parameter, source, statement, text_list},
    },
    metrics,
    step::{QueuedStep, Step},
};

/// The database store has one partition.
const PARTITION: u16 = 0;

/// The database, as the writer holds it.
pub struct DatabaseStore {
    /// The database.
    pub database: DatabaseConnection,
}

/// What a batch of steps changes.
#[derive(Default)]
struct BatchChanges<'a> {
    /// The captures to insert, with their deadlines, by id.
    pending: BTreeMap<&'a str, (&'a Capture, i64)>,
    /// The ids of captures that have a verdict.
    resolved: BTreeSet<&'a str>,
    /// The ids of captures that become unresolved.
    overdue: BTreeSet<&'a str>,
    /// What the log gets.
    records: Vec<Record>,
}

/// A row of `pending_captures`. The capture is in hexadecimal digits, which both databases read from JSON.
#[derive(Serialize)]
struct PendingRow<'a> {
    id: &'a str,
    deadline: i64,
    capture: String,
}

const COLUMNS: [(&str, &str); 3] = [("id", "text"), ("deadline", "bigint"), ("capture", "text")];

impl DatabaseStore {
    /// Applies the steps in one transaction.
    ///
    /// # Errors
    /// Database errors.
    pub async fn apply(&self, batch: &[QueuedStep]) -> Result<(), DbErr> {
        let mut changes = BatchChanges::of(batch);
        let tx = log::begin(&self.database, PARTITION).await?;
        for capture in take_pending(&tx, &changes.overdue).await? {
            changes.records.push(Record::Unresolved(capture));
        }
        remove_pending(&tx, &changes.resolved).await?;
        insert_pending(&tx, &changes.pending).await?;
        let written = log::write(&tx, &changes.records).await?;
        tx.commit().await?;
        metrics::count_unresolved(&written);
        Ok(())
    }
}

impl<'a> BatchChanges<'a> {
    fn of(batch: &'a [QueuedStep]) -> Self {
        let mut changes = Self::default();
        for queued in batch {
            changes.add_step(&queued.step);
        }
        // A verdict in the same batch is in time.
        let resolved = &changes.resolved;
        changes.overdue.retain(|id| !resolved.contains(id));
        changes
    }

    fn add_step(&mut self, step: &'a Step) {
        let id = step.capture_id();
        match step {
            Step::Begin { capture, deadline } => {
                self.pending.insert(id, (capture, *deadline));
            }
            Step::Flush(flush) => {
                self.pending.remove(id);
                self.resolved.insert(id);
                self.records.push(Record::Access(flush.clone()));
            }
            Step::Discard { .. } => {
                self.pending.remove(id);
                self.resolved.insert(id);
            }
            Step::Expire { .. } => {
                self.pending.remove(id);
                self.overdue.insert(id);
            }
        }
    }
}

/// Finds the ids of captures whose deadline has passed, the oldest first. `now` is in milliseconds since the Unix epoch.
///
/// # Errors
/// Database errors.
pub async fn overdue(database: &DatabaseConnection, now: i64, limit: u64) -> Result<Vec<String>, DbErr> {
    let sql = "SELECT id FROM pending_captures WHERE deadline <= $1 ORDER BY deadline LIMIT $2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = database.query_all_raw(statement(database, sql, [now.into(), limit.into()])).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Deletes pending captures and returns them. One that cannot be decoded would fail again and again, so it is deleted and logged.
async fn take_pending(tx: &DatabaseTransaction, ids: &BTreeSet<&str>) -> Result<Vec<Capture>, DbErr> {
    let mut captures = Vec::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(captures);
    }
    for row in delete_pending(tx, ids, " RETURNING id, capture").await? {
        let id: String = row.try_get_by_index(0)?;
        let bytes: Vec<u8> = row.try_get_by_index(1)?;
        match Capture::decode(bytes.as_slice()) {
            Ok(capture) => captures.push(capture),
            Err(error) => {
                metrics::count_unreadable();
                tracing::error!(id, %error, capture = hex::encode(bytes), "a pending capture cannot be read");
            }
        }
    }
    Ok(captures)
}

async fn remove_pending(tx: &DatabaseTransaction, ids: &BTreeSet<&str>) -> Result<(), DbErr> {
    if !ids.is_empty() {
        delete_pending(tx, ids, "").await?;
    }
    Ok(())
}

async fn delete_pending(
    tx: &DatabaseTransaction,
    ids: &BTreeSet<&str>,
    returning: &str,
) -> Result<Vec<QueryResult>, DbErr> {
    let given = text_list(tx.get_database_backend());
    let sql = format!("DELETE FROM pending_captures WHERE id IN ({given}){returning}");
    let ids: Vec<_> = ids.iter().collect();
    tx.query_all_raw(statement(tx, sql, [parameter(&ids)?])).await
}

async fn insert_pending(tx: &DatabaseTransaction, pending: &BTreeMap<&str, (&Capture, i64)>) -> Result<(), DbErr> {
    if pending.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(pending.len());
    for (id, (capture, deadline)) in pending {
        rows.push(PendingRow { id, deadline: *deadline, capture: hex::encode(capture.encode_to_vec()) });
    }
    let bytes = match tx.get_database_backend() {
        DatabaseBackend::Sqlite => "unhex(capture)",
        _ => "decode(capture, 'hex')",
    };
    let source = source(tx.get_database_backend(), &COLUMNS);
    let sql = format!(
        "INSERT INTO pending_captures (id, deadline, capture) SELECT id, deadline, {bytes} FROM {source} WHERE true \
         ON CONFLICT DO NOTHING"
    );
    tx.execute_raw(statement(tx, sql, [parameter(&rows)?])).await?;
    Ok(())
}

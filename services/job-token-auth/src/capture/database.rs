//! Captures in the database of the service: the pending ones in a table, the others in the log at once.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use proto::paddock::job_token::v1::Capture;
use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr};
use serde::Serialize;

use super::{
    metrics,
    op::{Op, Queued},
};
use crate::store::log_writer::{
    self, Record,
    rows::{parameter, source, statement},
};

/// All captures are in the one partition.
const PARTITION: u16 = 0;

/// The database, as the writer holds it.
pub struct DatabaseStore {
    /// The database.
    pub database: DatabaseConnection,
}

/// What a batch comes to.
#[derive(Default)]
struct Outcome<'a> {
    pending: BTreeMap<&'a str, (&'a Capture, i64)>,
    gone: BTreeSet<&'a str>,
    overdue: BTreeSet<&'a str>,
    records: Vec<Record>,
}

/// A row of `pending_captures`; the capture in hexadecimal digits, which both databases read from JSON.
#[derive(Serialize)]
struct Pending<'a> {
    id: &'a str,
    deadline: i64,
    capture: String,
}

const COLUMNS: [(&str, &str); 3] = [("id", "text"), ("deadline", "bigint"), ("capture", "text")];

impl DatabaseStore {
    /// Applies the steps in one transaction.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn apply(&self, batch: &[Queued]) -> Result<(), DbErr> {
        let mut outcome = Outcome::of(batch);
        let tx = log_writer::begin(&self.database, PARTITION).await?;
        for capture in take(&tx, &outcome.overdue).await? {
            outcome.records.push(Record::Unresolved(capture));
        }
        remove(&tx, &outcome.gone).await?;
        insert(&tx, &outcome.pending).await?;
        let written = log_writer::write(&tx, &outcome.records).await?;
        tx.commit().await?;
        metrics::unresolved(&written);
        Ok(())
    }
}

impl<'a> Outcome<'a> {
    fn of(batch: &'a [Queued]) -> Self {
        let mut outcome = Self::default();
        for queued in batch {
            let id = queued.op.id();
            if let Op::Pend { capture, deadline } = &queued.op {
                outcome.pending.insert(id, (capture, *deadline));
                continue;
            }
            outcome.pending.remove(id);
            match &queued.op {
                Op::Expire { .. } => outcome.overdue.insert(id),
                _ => outcome.gone.insert(id),
            };
            if let Op::Flush(flush) = &queued.op {
                outcome.records.push(Record::Access(flush.clone()));
            }
        }
        // A verdict in the same batch is in time.
        outcome.overdue.retain(|id| !outcome.gone.contains(id));
        outcome
    }
}

/// Finds captures that have been pending for too long, the oldest first.
///
/// # Errors
/// Those of the database.
pub async fn overdue(database: &DatabaseConnection, now: i64, limit: u64) -> Result<Vec<String>, DbErr> {
    let sql = "SELECT id FROM pending_captures WHERE deadline <= $1 ORDER BY deadline LIMIT $2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = database.query_all_raw(statement(database, sql, [now.into(), limit.into()])).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Takes pending captures out. One that cannot be read is not brought back by trying again, so it goes, with a line.
async fn take(tx: &DatabaseTransaction, ids: &BTreeSet<&str>) -> Result<Vec<Capture>, DbErr> {
    let mut captures = Vec::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(captures);
    }
    for row in delete(tx, ids, " RETURNING id, capture").await? {
        let (id, bytes): (String, Vec<u8>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        match Capture::decode(bytes.as_slice()) {
            Ok(capture) => captures.push(capture),
            Err(error) => {
                metrics::unreadable();
                tracing::error!(id, %error, capture = hex::encode(bytes), "a pending capture cannot be read");
            }
        }
    }
    Ok(captures)
}

async fn remove(tx: &DatabaseTransaction, ids: &BTreeSet<&str>) -> Result<(), DbErr> {
    if !ids.is_empty() {
        delete(tx, ids, "").await?;
    }
    Ok(())
}

async fn delete(
    tx: &DatabaseTransaction,
    ids: &BTreeSet<&str>,
    returning: &str,
) -> Result<Vec<sea_orm::QueryResult>, DbErr> {
    let given = match tx.get_database_backend() {
        DatabaseBackend::Sqlite => "SELECT value FROM json_each($1)",
        _ => "SELECT json_array_elements_text($1::json)",
    };
    let sql = format!("DELETE FROM pending_captures WHERE id IN ({given}){returning}");
    tx.query_all_raw(statement(tx, sql, [parameter(&ids.iter().collect::<Vec<_>>())?])).await
}

async fn insert(tx: &DatabaseTransaction, pending: &BTreeMap<&str, (&Capture, i64)>) -> Result<(), DbErr> {
    if pending.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(pending.len());
    for (id, (capture, deadline)) in pending {
        rows.push(Pending { id, deadline: *deadline, capture: hex::encode(capture.encode_to_vec()) });
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

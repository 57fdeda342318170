//! Writes the log: every event, the view of pairs, the requests without a verdict and the numbers that have arrived, all
//! in one transaction, so that they always tell the same story.

mod events;
mod pairs;
pub mod ranges;
pub mod rows;

use std::collections::BTreeMap;

use proto::paddock::job_token::v1::{Capture, FlushRequest};
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr};

pub use ranges::Number;

/// The first half of the key of the lock that a transaction which writes a partition's part of the log holds; the second
/// is the partition. Nothing else uses it.
const PARTITION_LOCK: i32 = 0x0063_6170;

/// How many rows one statement writes: enough to make its round trip cheap, few enough to keep its text small.
const ROWS: usize = 4096;

/// What the log keeps of one capture.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A request that succeeded.
    Access(FlushRequest),
    /// A request without a verdict.
    Unresolved(Capture),
}

/// What a call of [`write`] added.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many events are new.
    pub events: u64,
    /// How many captures are newly without a verdict, by their mode.
    pub unresolved: BTreeMap<i32, u64>,
}

/// Begins a transaction that writes the log of a partition. Two of them never run at the same time, so that what one
/// decides (an event is there, a range ends here) still holds when it commits.
///
/// # Errors
/// Those of the database.
pub async fn begin(database: &DatabaseConnection, partition: u16) -> Result<DatabaseTransaction, DbErr> {
    let tx = chassis::db::begin_write(database).await?;
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        let lock = rows::statement(
            &tx,
            "SELECT pg_advisory_xact_lock($1, $2)",
            [PARTITION_LOCK.into(), i32::from(partition).into()],
        );
        tx.execute_raw(lock).await?;
    }
    Ok(tx)
}

/// Adds the records that the log does not have yet. Rows are written in the order of their keys, so that transactions of
/// several processes wait for each other instead of blocking each other.
///
/// # Errors
/// Those of the database; the transaction is then of no use.
pub async fn write(tx: &DatabaseTransaction, records: &[Record]) -> Result<Written, DbErr> {
    let accesses: Vec<_> = records.iter().filter_map(Record::access).collect();
    let unresolved: Vec<_> = records.iter().filter_map(Record::unresolved).collect();
    let new = events::insert(tx, &accesses).await?;
    events::resolve(tx, &new).await?;
    let unresolved = events::insert_unresolved(tx, &unresolved).await?;
    // The rows that several partitions share come last: they stay locked until the commit.
    pairs::count(tx, &new).await?;
    Ok(Written { events: new.len() as u64, unresolved })
}

impl Record {
    fn access(&self) -> Option<&FlushRequest> {
        match self {
            Self::Access(flush) => Some(flush),
            Self::Unresolved(_) => None,
        }
    }

    fn unresolved(&self) -> Option<&Capture> {
        match self {
            Self::Access(_) => None,
            Self::Unresolved(capture) => Some(capture),
        }
    }
}

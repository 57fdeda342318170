//! Writes the log: every event, the view of pairs, the requests without a verdict and the numbers of the records that have
//! arrived, all in one transaction, so that they always agree.

mod events;
pub mod gaps;
mod pairs;
pub mod ranges;
mod record;
pub mod rows;
mod transaction;
mod write_slots;

use std::collections::BTreeMap;

use sea_orm::{DatabaseTransaction, DbErr};

pub use ranges::RecordNumber;
pub use record::Record;
pub use transaction::begin;
pub use write_slots::LogDatabase;

/// What a call of [`write`] added.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many events are new.
    pub events: u64,
    /// How many captures are newly unresolved, by their mode.
    pub unresolved: BTreeMap<i32, u64>,
}

/// Adds the records that the log does not have yet. Rows are written in the order of their keys, so that transactions of
/// several processes wait for each other instead of deadlocking.
///
/// # Errors
/// Database errors; the transaction is then unusable.
pub async fn write(tx: &DatabaseTransaction, records: &[Record]) -> Result<Written, DbErr> {
    let mut accesses = Vec::new();
    let mut unresolved = Vec::new();
    for record in records {
        match record {
            Record::Access(flush) => accesses.push(flush),
            Record::Unresolved(capture) => unresolved.push(capture),
        }
    }
    let new_events = events::insert(tx, &accesses).await?;
    events::remove_resolved(tx, &new_events).await?;
    let unresolved = events::insert_unresolved(tx, &unresolved).await?;
    // The rows that several partitions share come last: they stay locked until the commit.
    pairs::add(tx, &new_events).await?;
    Ok(Written { events: new_events.len() as u64, unresolved })
}

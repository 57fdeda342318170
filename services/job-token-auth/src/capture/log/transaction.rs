//! The transaction that writes the log.

use sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr};

use super::rows::statement;

/// The first half of the key of the advisory lock that a transaction holds while it writes a partition's part of the log; the
/// second half is the partition. No other lock uses it.
const PARTITION_LOCK: i32 = 0x0063_6170;

/// Begins a transaction that writes the log of a partition. Two of them never run at the same time, so that what one
/// decides (an event is there, a range ends here) still holds when it commits.
///
/// # Errors
/// Database errors.
pub async fn begin(database: &DatabaseConnection, partition: u16) -> Result<DatabaseTransaction, DbErr> {
    let tx = chassis::db::begin_write(database).await?;
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        let values = [PARTITION_LOCK.into(), i32::from(partition).into()];
        tx.execute_raw(statement(&tx, "SELECT pg_advisory_xact_lock($1, $2)", values)).await?;
    }
    Ok(tx)
}

//! Compares the record numbers that producers were acknowledged with those that have arrived in the log.

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbErr};

use super::{
    ranges::{self, RecordNumber},
    rows::statement,
    transaction::begin,
};

/// A producer of which the log does not have every known record number: they are on their way, or lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompleteProducer {
    /// The producer.
    pub producer: String,
    /// The partition.
    pub partition: u16,
    /// The highest number that is known to be acknowledged.
    pub highest: i64,
}

/// Record numbers that were acknowledged and never arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: i64,
    /// The last of them.
    pub last: i64,
}

impl Gap {
    /// Returns how many records are lost.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.last - self.first + 1
    }
}

/// Saves the highest number that a producer was acknowledged. `now` is in milliseconds since the Unix epoch.
///
/// # Errors
/// Database errors.
pub async fn save_acknowledged(
    db: &DatabaseConnection,
    partition: u16,
    highest: &RecordNumber,
    now: i64,
) -> Result<(), DbErr> {
    let sql = r#"INSERT INTO capture_producers (producer, "partition", acknowledged, updated_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (producer, "partition") DO UPDATE SET acknowledged = excluded.acknowledged, updated_at = excluded.updated_at
        WHERE excluded.acknowledged > capture_producers.acknowledged"#;
    let values = [highest.producer.as_str().into(), i32::from(partition).into(), highest.number.into(), now.into()];
    db.execute_raw(statement(db, sql, values)).await?;
    Ok(())
}

/// Finds the producers of which not every known number has arrived.
///
/// # Errors
/// Database errors.
pub async fn incomplete_producers(db: &DatabaseConnection, partition: u16) -> Result<Vec<IncompleteProducer>, DbErr> {
    let sql = r#"SELECT known.producer, known.highest
        FROM (SELECT producer, MAX(highest) AS highest
              FROM (SELECT producer, last AS highest FROM capture_ranges WHERE "partition" = $1
                    UNION ALL
                    SELECT producer, acknowledged FROM capture_producers WHERE "partition" = $1) AS numbers
              GROUP BY producer) AS known
        WHERE known.highest > 0 AND NOT EXISTS (
            SELECT 1 FROM capture_ranges AS whole
            WHERE whole.producer = known.producer AND whole."partition" = $1 AND whole.first = 1 AND whole.last >= known.highest)"#;
    let rows = db.query_all_raw(statement(db, sql, [i32::from(partition).into()])).await?;
    let mut incomplete = Vec::with_capacity(rows.len());
    for row in rows {
        let producer = row.try_get_by_index(0)?;
        let highest = row.try_get_by_index(1)?;
        incomplete.push(IncompleteProducer { producer, partition, highest });
    }
    Ok(incomplete)
}

/// Records the numbers that are still missing as lost. Of several processes that do it at once, one calls `announce`. It does so
/// before the commit, so that a loss may be announced twice, but is never left out. `now` is in milliseconds since the Unix epoch.
///
/// # Errors
/// Database errors.
pub async fn record_gaps(
    db: &DatabaseConnection,
    incomplete: &IncompleteProducer,
    now: i64,
    mut announce: impl FnMut(&Gap),
) -> Result<(), DbErr> {
    let IncompleteProducer { producer, partition, highest } = incomplete;
    let tx = begin(db, *partition).await?;
    let arrived = ranges::load(&tx, producer, *partition).await?;
    let mut closed = arrived.clone();
    for (first, last) in arrived.missing(*highest) {
        let sql = r#"INSERT INTO capture_gaps (producer, "partition", first, last, detected_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (producer, "partition", first) DO NOTHING"#;
        let values = [producer.as_str().into(), i32::from(*partition).into(), first.into(), last.into(), now.into()];
        tx.execute_raw(statement(&tx, sql, values)).await?;
        // A gap that is recorded is not looked for again.
        closed.insert(first, last);
        announce(&Gap { first, last });
    }
    ranges::save(&tx, producer, *partition, &arrived, &closed).await?;
    tx.commit().await
}

/// Returns how many records were found to be lost since then, in milliseconds since the Unix epoch.
///
/// # Errors
/// Database errors.
pub async fn lost_since(db: &DatabaseConnection, since: i64) -> Result<i64, DbErr> {
    let sql = "SELECT CAST(COALESCE(SUM(last - first + 1), 0) AS BIGINT) FROM capture_gaps WHERE detected_at >= $1";
    let row = db.query_one_raw(statement(db, sql, [since.into()])).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default())
}

/// Saves that `count` partitions are in use. Returns the greatest number that ever was.
///
/// # Errors
/// Database errors.
pub async fn save_partition_count(db: &DatabaseConnection, count: u16, producer: &str, now: i64) -> Result<u16, DbErr> {
    let none_acknowledged = RecordNumber { producer: producer.to_owned(), number: 0 };
    save_acknowledged(db, count.saturating_sub(1), &none_acknowledged, now).await?;
    let sql = r#"SELECT CAST(MAX("partition") AS INTEGER) FROM capture_producers"#;
    let row = db.query_one_raw(statement(db, sql, [])).await?;
    let last: Option<i32> = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
    let ever_used = last.and_then(|last| u16::try_from(last + 1).ok()).unwrap_or_default();
    Ok(ever_used.max(count))
}

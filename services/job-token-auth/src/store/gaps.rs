//! What producers were acknowledged, compared with what has arrived.

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbErr};

use super::log_writer::{
    begin,
    ranges::{self, Number},
    rows::statement,
};

/// The numbers of a producer in a partition, of which some may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The producer.
    pub producer: String,
    /// The partition.
    pub partition: u16,
    /// The highest number that is known to be acknowledged.
    pub upto: i64,
}

/// Numbers that were acknowledged and never arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: i64,
    /// The last of them.
    pub last: i64,
}

impl Gap {
    /// How many records are lost.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.last - self.first + 1
    }
}

/// Notes the highest number that a producer was acknowledged.
///
/// # Errors
/// Those of the database.
pub async fn checkpoint(db: &DatabaseConnection, partition: u16, at: &Number, now: i64) -> Result<(), DbErr> {
    let sql = r#"INSERT INTO capture_producers (producer, "partition", acknowledged, updated_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (producer, "partition") DO UPDATE SET acknowledged = excluded.acknowledged, updated_at = excluded.updated_at
        WHERE excluded.acknowledged > capture_producers.acknowledged"#;
    let values = [at.producer.as_str().into(), i32::from(partition).into(), at.number.into(), now.into()];
    db.execute_raw(statement(db, sql, values)).await?;
    Ok(())
}

/// Finds the producers of which not every known number has arrived: those that are on their way, and those that are lost.
///
/// # Errors
/// Those of the database.
pub async fn suspects(db: &DatabaseConnection, partition: u16) -> Result<Vec<Suspect>, DbErr> {
    let sql = r#"SELECT known.producer, known.upto
        FROM (SELECT producer, MAX(upto) AS upto
              FROM (SELECT producer, last AS upto FROM capture_ranges WHERE "partition" = $1
                    UNION ALL
                    SELECT producer, acknowledged FROM capture_producers WHERE "partition" = $1) AS numbers
              GROUP BY producer) AS known
        WHERE known.upto > 0 AND NOT EXISTS (
            SELECT 1 FROM capture_ranges AS whole
            WHERE whole.producer = known.producer AND whole."partition" = $1 AND whole.first = 1 AND whole.last >= known.upto)"#;
    let rows = db.query_all_raw(statement(db, sql, [i32::from(partition).into()])).await?;
    let suspect = |row: &sea_orm::QueryResult| {
        Ok(Suspect { producer: row.try_get_by_index(0)?, partition, upto: row.try_get_by_index(1)? })
    };
    rows.iter().map(suspect).collect()
}

/// Records what is still missing as lost. Of several processes that do it at once, one tells; it does so before it is recorded, so
/// that a loss may be told twice, but not never.
///
/// # Errors
/// Those of the database.
pub async fn report(
    db: &DatabaseConnection,
    suspect: &Suspect,
    now: i64,
    mut tell: impl FnMut(&Gap),
) -> Result<(), DbErr> {
    let Suspect { producer, partition, upto } = suspect;
    let tx = begin(db, *partition).await?;
    let arrived = ranges::load(&tx, producer, *partition).await?;
    let mut closed = arrived.clone();
    for (first, last) in arrived.missing(*upto) {
        let sql = r#"INSERT INTO capture_gaps (producer, "partition", first, last, detected_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (producer, "partition", first) DO NOTHING"#;
        let values = [producer.as_str().into(), i32::from(*partition).into(), first.into(), last.into(), now.into()];
        tx.execute_raw(statement(&tx, sql, values)).await?;
        // From now on the numbers count as dealt with.
        closed.insert(first, last);
        tell(&Gap { first, last });
    }
    ranges::save(&tx, producer, *partition, &arrived, &closed).await?;
    tx.commit().await
}

/// How many records were found to be lost since then.
///
/// # Errors
/// Those of the database.
pub async fn lost_since(db: &DatabaseConnection, since: i64) -> Result<i64, DbErr> {
    let sql = "SELECT CAST(COALESCE(SUM(last - first + 1), 0) AS BIGINT) FROM capture_gaps WHERE detected_at >= $1";
    let row = db.query_one_raw(statement(db, sql, [since.into()])).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default())
}

/// Notes that partitions up to this one are used, and returns the number of those that ever were.
///
/// # Errors
/// Those of the database.
pub async fn use_partitions(db: &DatabaseConnection, count: u16, producer: &str, now: i64) -> Result<u16, DbErr> {
    let at = Number { producer: producer.to_owned(), number: 0 };
    checkpoint(db, count.saturating_sub(1), &at, now).await?;
    let sql = r#"SELECT CAST(MAX("partition") AS INTEGER) FROM capture_producers"#;
    let row = db.query_one_raw(statement(db, sql, [])).await?;
    let last: Option<i32> = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
    Ok(last.and_then(|last| u16::try_from(last + 1).ok()).unwrap_or_default().max(count))
}

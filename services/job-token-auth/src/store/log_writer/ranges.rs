//! Which numbers of each producer have arrived. Numbers come nearly in order, so a few ranges say it all; a second range
//! shows that some before it have not.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::rows::statement;

/// The place of one record among those of its producer in its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// The producer.
    pub producer: String,
    /// From 1.
    pub number: i64,
}

/// Whole numbers as ranges that neither touch nor overlap: from the first of each to its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// Adds the numbers from `first` to `last`.
    pub fn insert(&mut self, first: i64, last: i64) {
        let (mut first, mut last) = (first, last);
        // Whatever begins before the end of the new range, or right after it, and does not end before it, becomes part of it.
        while let Some((&start, &end)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if end < first.saturating_sub(1) {
                break;
            }
            self.0.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.0.insert(first, last);
    }

    /// The ranges of numbers from 1 to `upto` that are not in it.
    #[must_use]
    pub fn missing(&self, upto: i64) -> Vec<(i64, i64)> {
        let mut missing = Vec::new();
        let mut next = 1;
        for (&first, &last) in self.0.range(..=upto) {
            if first > next {
                missing.push((next, first - 1));
            }
            next = next.max(last.saturating_add(1));
        }
        if next <= upto {
            missing.push((next, upto));
        }
        missing
    }
}

/// Notes that the numbers have arrived.
///
/// # Errors
/// Those of the database.
pub async fn receive(tx: &DatabaseTransaction, partition: u16, numbers: &[Number]) -> Result<(), DbErr> {
    let mut by_producer = BTreeMap::<_, Ranges>::new();
    for number in numbers {
        by_producer.entry(number.producer.as_str()).or_default().insert(number.number, number.number);
    }
    for (producer, arrived) in by_producer {
        let old = load(tx, producer, partition).await?;
        let mut new = old.clone();
        for (first, last) in arrived.0 {
            new.insert(first, last);
        }
        save(tx, producer, partition, &old, &new).await?;
    }
    Ok(())
}

/// What has arrived of a producer.
pub async fn load(db: &impl ConnectionTrait, producer: &str, partition: u16) -> Result<Ranges, DbErr> {
    let sql = r#"SELECT first, last FROM capture_ranges WHERE producer = $1 AND "partition" = $2"#;
    let rows = db.query_all_raw(statement(db, sql, [producer.into(), i32::from(partition).into()])).await?;
    let range = |row: &sea_orm::QueryResult| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
    rows.iter().map(range).collect::<Result<_, _>>().map(Ranges)
}

/// Writes what differs.
pub async fn save(
    db: &impl ConnectionTrait,
    producer: &str,
    partition: u16,
    old: &Ranges,
    new: &Ranges,
) -> Result<(), DbErr> {
    let key = || (producer.into(), i32::from(partition).into());
    for first in old.0.keys().filter(|first| !new.0.contains_key(first)) {
        let sql = r#"DELETE FROM capture_ranges WHERE producer = $1 AND "partition" = $2 AND first = $3"#;
        let (producer, partition) = key();
        db.execute_raw(statement(db, sql, [producer, partition, (*first).into()])).await?;
    }
    for (first, last) in new.0.iter().filter(|(first, last)| old.0.get(first) != Some(last)) {
        let sql = r#"INSERT INTO capture_ranges (producer, "partition", first, last) VALUES ($1, $2, $3, $4)
            ON CONFLICT (producer, "partition", first) DO UPDATE SET last = excluded.last"#;
        let (producer, partition) = key();
        db.execute_raw(statement(db, sql, [producer, partition, (*first).into(), (*last).into()])).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_exactly_the_numbers_that_were_added(added in prop::collection::vec((1..60_i64, 0..6_i64), 0..40)) {
            let (mut ranges, mut numbers) = (Ranges::default(), BTreeSet::new());
            for (first, more) in added {
                ranges.insert(first, first + more);
                numbers.extend(first..=first + more);
            }
            let held: Vec<_> = ranges.0.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(held, numbers.iter().copied().collect::<Vec<_>>());
            let starts: Vec<_> = ranges.0.iter().collect();
            prop_assert!(starts.windows(2).all(|pair| pair[0].1 + 1 < *pair[1].0), "{:?} touch", ranges);
            let missing: Vec<_> = ranges.missing(50).into_iter().flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(missing, (1..=50).filter(|number| !numbers.contains(number)).collect::<Vec<_>>());
        }
    }
}

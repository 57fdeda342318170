//! Which record numbers of each producer have arrived. Numbers come nearly in order, so a few ranges hold them all; a second
//! range shows that some numbers before it are missing.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::rows::statement;

/// The number of one record, which its producer counts in each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordNumber {
    /// The producer.
    pub producer: String,
    /// The number; the first is 1.
    pub number: i64,
}

/// A set of whole numbers as ranges that neither touch nor overlap: the first number of each range, and its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberRanges(BTreeMap<i64, i64>);

impl NumberRanges {
    /// Adds the numbers from `first` to `last`.
    pub fn insert(&mut self, mut first: i64, mut last: i64) {
        // Merges every range that overlaps the new one, or touches it.
        while let Some((&start, &end)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if end < first.saturating_sub(1) {
                break;
            }
            self.0.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.0.insert(first, last);
    }

    /// Returns the ranges of numbers from 1 to `highest` that are not in the set.
    #[must_use]
    pub fn missing(&self, highest: i64) -> Vec<(i64, i64)> {
        let mut missing = Vec::new();
        let mut next = 1;
        for (&first, &last) in self.0.range(..=highest) {
            if first > next {
                missing.push((next, first - 1));
            }
            next = next.max(last.saturating_add(1));
        }
        if next <= highest {
            missing.push((next, highest));
        }
        missing
    }
}

/// Saves that the numbers have arrived.
///
/// # Errors
/// Database errors.
pub async fn add_arrived(tx: &DatabaseTransaction, partition: u16, numbers: &[RecordNumber]) -> Result<(), DbErr> {
    let mut by_producer = BTreeMap::<_, NumberRanges>::new();
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

/// Loads the numbers of a producer that have arrived.
///
/// # Errors
/// Database errors.
pub async fn load(db: &impl ConnectionTrait, producer: &str, partition: u16) -> Result<NumberRanges, DbErr> {
    let sql = r#"SELECT first, last FROM capture_ranges WHERE producer = $1 AND "partition" = $2"#;
    let rows = db.query_all_raw(statement(db, sql, [producer.into(), i32::from(partition).into()])).await?;
    let mut ranges = BTreeMap::new();
    for row in rows {
        ranges.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    }
    Ok(NumberRanges(ranges))
}

/// Saves the ranges that differ between `old` and `new`.
///
/// # Errors
/// Database errors.
pub async fn save(
    db: &impl ConnectionTrait,
    producer: &str,
    partition: u16,
    old: &NumberRanges,
    new: &NumberRanges,
) -> Result<(), DbErr> {
    let partition = i32::from(partition);
    for first in old.0.keys().filter(|first| !new.0.contains_key(first)) {
        let sql = r#"DELETE FROM capture_ranges WHERE producer = $1 AND "partition" = $2 AND first = $3"#;
        let values = [producer.into(), partition.into(), (*first).into()];
        db.execute_raw(statement(db, sql, values)).await?;
    }
    for (first, last) in new.0.iter().filter(|(first, last)| old.0.get(first) != Some(last)) {
        let sql = r#"INSERT INTO capture_ranges (producer, "partition", first, last) VALUES ($1, $2, $3, $4)
            ON CONFLICT (producer, "partition", first) DO UPDATE SET last = excluded.last"#;
        let values = [producer.into(), partition.into(), (*first).into(), (*last).into()];
        db.execute_raw(statement(db, sql, values)).await?;
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
            let mut ranges = NumberRanges::default();
            let mut numbers = BTreeSet::new();
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

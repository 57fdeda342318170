//! Finds records that were acknowledged and never arrived. Record numbers that the log does not have are on their way, or lost.
//! They are lost if they are still missing after everything that was in the stream at the time has left it.

use std::collections::HashMap;

use super::{
    failure::StoreError,
    log::{
        LogDatabase,
        gaps::{self, Gap, IncompleteProducer},
    },
    metrics,
    redis::stream::{EntryId, RecordStream},
};

/// How many times in a row numbers must be missing before they count as lost. A process can hold records that Redis has lost, and
/// write them later: it may pause before it tries again, and wait as long for the lock of a process that hangs.
const ROUNDS: u32 = 15;

/// Watches one partition.
#[derive(Default)]
pub struct GapWatch {
    /// By producer.
    missing: HashMap<String, MissingNumbers>,
}

/// The numbers of a producer that were found to be missing.
#[derive(Clone, Copy)]
struct MissingNumbers {
    /// The highest number that was acknowledged then.
    highest: i64,
    /// The newest entry of the stream then.
    newest: Option<EntryId>,
    /// How many times they were missing.
    rounds: u32,
}

impl GapWatch {
    /// Looks for gaps once. Call it regularly. `now` is in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// If the database or Redis fails.
    pub async fn check(
        &mut self,
        log: &LogDatabase,
        stream: &mut RecordStream,
        partition: u16,
        now: i64,
    ) -> Result<(), StoreError> {
        let incomplete = gaps::incomplete_producers(&*log.acquire().await, partition).await?;
        self.missing.retain(|producer, _| incomplete.iter().any(|found| found.producer == *producer));
        if incomplete.is_empty() {
            return Ok(());
        }
        // The stream is read after the log: what was acknowledged before is in the stream, in the log, or lost.
        let oldest = stream.oldest().await?;
        let newest = stream.newest().await?;
        for found in incomplete {
            let first_seen = MissingNumbers { highest: found.highest, newest, rounds: 0 };
            let missing = self.missing.entry(found.producer.clone()).or_insert(first_seen);
            if newest < missing.newest && newest.is_some() {
                // Redis began anew, with a clock that went back: the old ids mean nothing any more.
                *missing = first_seen;
            }
            missing.rounds += 1;
            let has_drained = oldest.is_none() || oldest > missing.newest;
            if has_drained && missing.rounds > ROUNDS {
                let lost = IncompleteProducer { highest: missing.highest, ..found };
                gaps::record_gaps(&*log.acquire().await, &lost, now, |gap| report_gap(&lost, gap)).await?;
                self.missing.remove(&lost.producer);
            }
        }
        Ok(())
    }
}

fn report_gap(lost: &IncompleteProducer, gap: &Gap) {
    metrics::count_lost(u64::try_from(gap.count()).unwrap_or_default());
    tracing::error!(
        producer = lost.producer,
        partition = lost.partition,
        first = gap.first,
        last = gap.last,
        count = gap.count(),
        "captures are lost: redis had confirmed these records and no longer has them; see whether it writes every change to \
         disk (appendonly yes, appendfsync always) and who emptied it"
    );
}

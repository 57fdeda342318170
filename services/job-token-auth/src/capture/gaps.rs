//! Finds records that were acknowledged and never arrived. Numbers that the log does not have are either still on their way
//! or lost; they are lost when everything that was in the stream when they were missed has left it, and they still are not there.

use std::collections::HashMap;

use super::{
    log::Log,
    metrics,
    redis::stream::{EntryId, Stream},
    store::StoreError,
};
use crate::store::gaps::{self, Gap, Suspect};

/// How often in a row they must be missing: a process can hold records that Redis has lost, and write them yet. It may wait for a
/// while before it tries again, and as long for the lock of a process that stands still.
const ROUNDS: u32 = 15;

/// Watches one partition.
#[derive(Default)]
pub struct Watch {
    /// By producer.
    suspects: HashMap<String, Missed>,
}

#[derive(Clone, Copy)]
struct Missed {
    upto: i64,
    /// The newest entry of the stream when the numbers were missed.
    newest: Option<EntryId>,
    rounds: u32,
}

impl Watch {
    /// Looks once; to be called again and again.
    ///
    /// # Errors
    /// If the database or Redis cannot be asked.
    pub async fn look(&mut self, log: &Log, stream: &mut Stream, partition: u16, now: i64) -> Result<(), StoreError> {
        let suspects = gaps::suspects(&*log.turn().await, partition).await?;
        self.suspects.retain(|producer, _| suspects.iter().any(|suspect| suspect.producer == *producer));
        if suspects.is_empty() {
            return Ok(());
        }
        // In this order: what was acknowledged before the question is in the stream, in the log, or lost.
        let (oldest, newest) = (stream.oldest().await?, stream.newest().await?);
        for suspect in suspects {
            let upto = suspect.upto;
            let missed = self.suspects.entry(suspect.producer.clone()).or_insert(Missed { upto, newest, rounds: 0 });
            if newest < missed.newest && newest.is_some() {
                // Redis began anew, with a clock that went back: the old ids say nothing any more.
                *missed = Missed { upto, newest, rounds: 0 };
            }
            missed.rounds += 1;
            let has_drained = oldest.is_none() || oldest > missed.newest;
            if has_drained && missed.rounds > ROUNDS {
                let suspect = Suspect { upto: missed.upto, ..suspect };
                gaps::report(&*log.turn().await, &suspect, now, |gap| report(&suspect, gap)).await?;
                self.suspects.remove(&suspect.producer);
            }
        }
        Ok(())
    }
}

fn report(suspect: &Suspect, gap: &Gap) {
    metrics::lost(u64::try_from(gap.count()).unwrap_or_default());
    let Suspect { producer, partition, .. } = suspect;
    tracing::error!(
        producer,
        partition,
        first = gap.first,
        last = gap.last,
        count = gap.count(),
        "captures are lost: redis had confirmed these records and no longer has them; see whether it writes every change to \
         disk (appendonly yes, appendfsync always) and who emptied it"
    );
}

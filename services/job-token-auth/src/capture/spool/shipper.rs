//! The task that brings the records of the spool to the store, in order, and deletes what has arrived.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, SeekFrom},
    path::Path,
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use proto::paddock::job_token::v1::FlushRequest;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::oneshot,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{frame, state::SpoolState};
use crate::capture::{
    metrics::{self, WaitingSince},
    outage::Outage,
    queue::StepQueues,
    step::Step,
};

/// How many bytes are read at once, without the rest of the record at their end.
const CHUNK: usize = 1 << 18;

/// Maximum number of records that wait for the store. The rest of the queue is for callers that wait.
const MAX_IN_FLIGHT: usize = 1024;

/// After this time a segment that could not be read or deleted is tried again. The others go on in the meantime.
const RETRY_SEGMENT_AFTER: Duration = Duration::from_secs(10);

/// The shipper. [`Shipper::run`] is its task.
pub struct Shipper {
    state: Arc<SpoolState>,
    /// Records that the store has not confirmed yet, the oldest first.
    in_flight: VecDeque<InFlightRecord>,
    max_in_flight: usize,
    /// Segments that could not be read or deleted, and when they are tried again.
    set_aside: BTreeMap<u64, Instant>,
    waiting: WaitingSince,
}

/// A record that the store has not confirmed yet.
struct InFlightRecord {
    answer: oneshot::Receiver<()>,
    /// When the access took place, in milliseconds since the Unix epoch.
    accessed_at: i64,
}

/// The segment to ship next.
#[derive(Clone, Copy)]
struct NextSegment {
    number: u64,
    /// How many of its bytes are on disk.
    synced: u64,
    /// Whether it still grows.
    is_open: bool,
}

/// Why a segment cannot be shipped to its end.
enum ShipError {
    /// The file cannot be read or deleted.
    Io(io::Error),
    /// The store takes nothing more: the process is stopping.
    Stopping,
}

impl Shipper {
    pub(super) fn new(state: Arc<SpoolState>, queue_length: usize) -> Self {
        let max_in_flight = (queue_length / 2).clamp(1, MAX_IN_FLIGHT);
        let waiting = WaitingSince::default();
        Self { state, in_flight: VecDeque::new(), max_in_flight, set_aside: BTreeMap::new(), waiting }
    }

    /// Returns since when the oldest record waits in the spool.
    pub fn waiting(&self) -> WaitingSince {
        self.waiting.clone()
    }

    /// Ships until the spool is closed and empty, or until `abort`.
    pub async fn run(mut self, queues: StepQueues, abort: CancellationToken) {
        abort.run_until_cancelled(self.ship_all(&queues)).await;
    }

    async fn ship_all(&mut self, queues: &StepQueues) {
        let mut outage =
            Outage::new("a segment of the spool cannot be read or deleted; its records stay where they are");
        let mut segment = 0;
        // How many bytes of the segment are shipped.
        let mut offset = 0;
        loop {
            let Some(next) = self.next_segment() else {
                if self.state.segments().is_closed {
                    return;
                }
                self.wait_for_change().await;
                continue;
            };
            if next.number != segment {
                segment = next.number;
                offset = 0;
            }
            match self.advance_segment(queues, next, &mut offset).await {
                Ok(()) if self.set_aside.is_empty() => outage.ended(),
                Ok(()) => {}
                Err(ShipError::Stopping) => return,
                Err(ShipError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    self.report_missing(next.number);
                }
                Err(ShipError::Io(error)) => {
                    outage.failed(&format_args!("segment {}: {error}", next.number));
                    self.set_aside.insert(next.number, Instant::now() + RETRY_SEGMENT_AFTER);
                }
            }
        }
    }

    /// Ships a part of the segment, or waits for more of it, or deletes it.
    async fn advance_segment(
        &mut self,
        queues: &StepQueues,
        next: NextSegment,
        offset: &mut u64,
    ) -> Result<(), ShipError> {
        if *offset < next.synced {
            return self.ship_chunk(queues, next, offset).await;
        }
        while !self.in_flight.is_empty() {
            self.confirm_oldest().await?;
        }
        if next.is_open {
            self.wait_for_change().await;
            return Ok(());
        }
        self.delete_segment(next.number).await
    }

    /// Returns the oldest segment that is not set aside.
    fn next_segment(&mut self) -> Option<NextSegment> {
        let now = Instant::now();
        self.set_aside.retain(|_, retry_at| *retry_at > now);
        let segments = self.state.segments();
        let mut ready = segments.synced.iter().filter(|(number, _)| !self.set_aside.contains_key(number));
        let (number, synced) = ready.next()?;
        Some(NextSegment { number: *number, synced: *synced, is_open: segments.open == Some(*number) })
    }

    /// Waits until something is appended, or a segment is to be tried again.
    async fn wait_for_change(&self) {
        let changed = self.state.changed.notified();
        match self.set_aside.values().min() {
            Some(retry_at) => drop(tokio::time::timeout_at(*retry_at, changed).await),
            None => changed.await,
        }
    }

    /// Reads one chunk from the offset on, and queues its records.
    async fn ship_chunk(&mut self, queues: &StepQueues, next: NextSegment, offset: &mut u64) -> Result<(), ShipError> {
        let Some(folder) = self.state.folder.get() else { return Ok(()) };
        let path = folder.path(next.number);
        let chunk = read_chunk(&path, *offset, next.synced).await.map_err(ShipError::Io)?;
        let mut rest = chunk.as_slice();
        while let Some((record, used)) = frame::first(rest) {
            match FlushRequest::decode(record) {
                Ok(flush) => self.push_flush(queues, flush).await?,
                Err(error) => report_unreadable(&path, *offset, &error.to_string()),
            }
            rest = &rest[used..];
            *offset += used as u64;
        }
        // A chunk is larger than a record, so without a whole record at its start the bytes are damaged.
        if rest.len() == chunk.len() {
            *offset += skip_damage(&path, *offset, rest, next.synced - *offset);
        }
        Ok(())
    }

    async fn push_flush(&mut self, queues: &StepQueues, flush: FlushRequest) -> Result<(), ShipError> {
        while self.in_flight.len() >= self.max_in_flight {
            self.confirm_oldest().await?;
        }
        let accessed_at = flush.capture.as_ref().and_then(|capture| capture.accessed_at.as_ref());
        let accessed_at = accessed_at.map(proto::timestamp::to_millis).unwrap_or_default();
        if self.in_flight.is_empty() {
            self.waiting.set(Some(accessed_at));
        }
        let answer = queues.push(Step::Flush(flush)).await.map_err(|_| ShipError::Stopping)?;
        self.in_flight.push_back(InFlightRecord { answer, accessed_at });
        Ok(())
    }

    /// Waits until the store has the oldest record in flight.
    async fn confirm_oldest(&mut self) -> Result<(), ShipError> {
        // The record stays in the queue until its answer is there, because `abort` can come in between.
        if let Some(oldest) = self.in_flight.front_mut() {
            (&mut oldest.answer).await.map_err(|_| ShipError::Stopping)?;
            self.in_flight.pop_front();
            self.waiting.set(self.in_flight.front().map(|oldest| oldest.accessed_at));
        }
        Ok(())
    }

    /// Deletes a segment of which the store has everything.
    async fn delete_segment(&self, number: u64) -> Result<(), ShipError> {
        let Some(folder) = self.state.folder.get() else { return Ok(()) };
        match tokio::fs::remove_file(folder.path(number)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ShipError::Io(error)),
            _ => self.forget_segment(number),
        }
        Ok(())
    }

    /// Reports a segment that another program has deleted.
    fn report_missing(&self, number: u64) {
        metrics::count_unreadable();
        tracing::error!(
            segment = number,
            "a segment of the spool is gone; records in it that were not shipped are lost"
        );
        self.forget_segment(number);
    }

    fn forget_segment(&self, number: u64) {
        self.state.change(|segments| {
            segments.synced.remove(&number);
        });
    }
}

/// Reads the bytes from `offset` to `end`, but at most a chunk and the rest of the record at its end.
async fn read_chunk(path: &Path, offset: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(CHUNK + frame::MAX_FRAME);
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Returns how many bytes to leave out: up to the next record, or all that cannot be the beginning of one. `left` is how many bytes
/// of the segment are left, of which `rest` was read.
fn skip_damage(path: &Path, offset: u64, rest: &[u8], left: u64) -> u64 {
    let next = (1..rest.len()).find(|at| frame::first(&rest[*at..]).is_some());
    if let Some(next) = next {
        report_unreadable(path, offset, "its bytes are not those that were written; the next one follows");
        return next as u64;
    }
    if rest.len() > CHUNK && (rest.len() as u64) < left {
        // A record that begins in the first part would end in what was read.
        return CHUNK as u64;
    }
    // A crash in the middle of a write leaves this. The caller of that write never learned that its record is kept.
    tracing::warn!(path = %path.display(), offset, bytes = left, "the end of a segment of the spool is torn, and is left out");
    left
}

fn report_unreadable(path: &Path, offset: u64, problem: &str) {
    metrics::count_unreadable();
    tracing::error!(path = %path.display(), offset, problem, "a record of the spool cannot be read");
}

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

use super::{Shared, frame};
use crate::capture::{
    metrics::{self, Waiting},
    op::Op,
    outage::Outage,
    queue::Queues,
};

/// How much is read at once, besides what a record at its end may need.
const CHUNK: usize = 1 << 18;

/// How many records may wait for the store. The rest of the queue is for those who wait themselves.
const UNDER_WAY: usize = 1024;

/// After which time a segment that could not be read or deleted is tried again. The others go on in the meantime.
const SET_ASIDE: Duration = Duration::from_secs(10);

pub struct Shipper {
    shared: Arc<Shared>,
    under_way: VecDeque<UnderWay>,
    most: usize,
    /// Segments that cannot be read or deleted, and when they are tried again.
    set_aside: BTreeMap<u64, Instant>,
    waiting: Waiting,
}

/// A record that the store has not taken yet.
struct UnderWay {
    answer: oneshot::Receiver<()>,
    /// When the access took place, in milliseconds since the Unix epoch.
    accessed_at: i64,
}

/// The segment that is next.
#[derive(Clone, Copy)]
struct Next {
    number: u64,
    /// How many of its bytes are on disk.
    synced: u64,
    /// Whether it still grows.
    is_open: bool,
}

/// Why the shipper stops before a segment is shipped.
enum Halt {
    /// The file cannot be read or deleted.
    Io(io::Error),
    /// The store takes nothing more: the process is stopping.
    Stopping,
}

impl Shipper {
    pub(super) fn new(shared: Arc<Shared>, queue_length: usize) -> Self {
        let most = (queue_length / 2).clamp(1, UNDER_WAY);
        Self { shared, under_way: VecDeque::new(), most, set_aside: BTreeMap::new(), waiting: Waiting::default() }
    }

    /// Since when the oldest record waits in the spool.
    pub fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// Ships until everything is shipped and nothing is appended any more, or until it is told to stop.
    pub async fn run(mut self, queues: Queues, abort: CancellationToken) {
        abort.run_until_cancelled(self.ship_all(&queues)).await;
    }

    async fn ship_all(&mut self, queues: &Queues) {
        let mut outage =
            Outage::new("a segment of the spool cannot be read or deleted; its records stay where they are");
        // Where the segment that is being shipped goes on.
        let (mut segment, mut offset) = (0, 0);
        loop {
            let Some(next) = self.next() else {
                if self.shared.segments().is_closed {
                    return;
                }
                self.wait().await;
                continue;
            };
            if next.number != segment {
                (segment, offset) = (next.number, 0);
            }
            match self.step(queues, next, &mut offset).await {
                Ok(()) if self.set_aside.is_empty() => outage.ended(),
                Ok(()) => {}
                Err(Halt::Stopping) => return,
                Err(Halt::Io(error)) if error.kind() == io::ErrorKind::NotFound => self.is_gone(next.number),
                Err(Halt::Io(error)) => {
                    outage.failed(&format_args!("segment {}: {error}", next.number));
                    self.set_aside.insert(next.number, Instant::now() + SET_ASIDE);
                }
            }
        }
    }

    async fn step(&mut self, queues: &Queues, next: Next, offset: &mut u64) -> Result<(), Halt> {
        if *offset < next.synced {
            return self.ship(queues, next, offset).await;
        }
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        if next.is_open {
            self.wait().await;
            return Ok(());
        }
        self.delete(next.number).await
    }

    /// The oldest segment, of those that are not set aside.
    fn next(&mut self) -> Option<Next> {
        let now = Instant::now();
        self.set_aside.retain(|_, again_at| *again_at > now);
        let segments = self.shared.segments();
        let mut there = segments.synced.iter().filter(|(number, _)| !self.set_aside.contains_key(number));
        let (number, synced) = there.next()?;
        Some(Next { number: *number, synced: *synced, is_open: segments.open == Some(*number) })
    }

    /// Until something is appended, or a segment is to be tried again.
    async fn wait(&self) {
        let changed = self.shared.changed.notified();
        match self.set_aside.values().min() {
            Some(again_at) => drop(tokio::time::timeout_at(*again_at, changed).await),
            None => changed.await,
        }
    }

    /// Queues the records from the offset on, as far as they are read at once.
    async fn ship(&mut self, queues: &Queues, next: Next, offset: &mut u64) -> Result<(), Halt> {
        let Some(folder) = self.shared.folder.get() else { return Ok(()) };
        let path = folder.path(next.number);
        let chunk = read(&path, *offset, next.synced).await.map_err(Halt::Io)?;
        let mut rest = chunk.as_slice();
        while let Some((record, used)) = frame::first(rest) {
            match FlushRequest::decode(record) {
                Ok(flush) => self.push(queues, flush).await?,
                Err(error) => unreadable(&path, *offset, &error.to_string()),
            }
            rest = &rest[used..];
            *offset += used as u64;
        }
        // What is read holds at least one whole record, unless there is none.
        if rest.len() == chunk.len() {
            *offset += skip(&path, *offset, rest, next.synced - *offset);
        }
        Ok(())
    }

    async fn push(&mut self, queues: &Queues, flush: FlushRequest) -> Result<(), Halt> {
        while self.under_way.len() >= self.most {
            self.settle_one().await?;
        }
        let accessed_at = flush.capture.as_ref().and_then(|capture| capture.accessed_at.as_ref());
        let accessed_at = accessed_at.map(proto::timestamp::to_millis).unwrap_or_default();
        if self.under_way.is_empty() {
            self.waiting.since(Some(accessed_at));
        }
        let answer = queues.push(Op::Flush(flush)).await.ok_or(Halt::Stopping)?;
        self.under_way.push_back(UnderWay { answer, accessed_at });
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), Halt> {
        // It stays in the queue until its answer is there: `abort` can come in between.
        if let Some(oldest) = self.under_way.front_mut() {
            (&mut oldest.answer).await.map_err(|_| Halt::Stopping)?;
            self.under_way.pop_front();
            self.waiting.since(self.under_way.front().map(|oldest| oldest.accessed_at));
        }
        Ok(())
    }

    /// Deletes a segment of which the store has everything.
    async fn delete(&self, number: u64) -> Result<(), Halt> {
        let Some(folder) = self.shared.folder.get() else { return Ok(()) };
        match tokio::fs::remove_file(folder.path(number)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Halt::Io(error)),
            _ => self.forget(number),
        }
        Ok(())
    }

    /// Somebody else has deleted a segment.
    fn is_gone(&self, number: u64) {
        metrics::unreadable();
        tracing::error!(
            segment = number,
            "a segment of the spool is gone; records in it that were not shipped are lost"
        );
        self.forget(number);
    }

    fn forget(&self, number: u64) {
        self.shared.change(|segments| {
            segments.synced.remove(&number);
        });
    }
}

async fn read(path: &Path, offset: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(CHUNK + frame::MAX_FRAME);
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// How many of the bytes that are left to leave out: up to the next record, or all that cannot be the beginning of one.
fn skip(path: &Path, offset: u64, rest: &[u8], left: u64) -> u64 {
    let next = (1..rest.len()).find(|at| frame::first(&rest[*at..]).is_some());
    if let Some(next) = next {
        unreadable(path, offset, "its bytes are not those that were written; the next one follows");
        return next as u64;
    }
    if rest.len() > CHUNK && (rest.len() as u64) < left {
        // What begins in the first part would end in what was read.
        return CHUNK as u64;
    }
    // A crash in the middle of a write leaves this; whoever waited for it was never told that it is kept.
    tracing::warn!(path = %path.display(), offset, bytes = left, "the end of a segment of the spool is torn, and is left out");
    left
}

fn unreadable(path: &Path, offset: u64, problem: &str) {
    metrics::unreadable();
    tracing::error!(path = %path.display(), offset, problem, "a record of the spool cannot be read");
}

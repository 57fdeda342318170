//! The task that brings the records of the spool to the store, in order, and deletes what has arrived.

use std::{
    collections::VecDeque,
    io::{self, SeekFrom},
    path::Path,
    sync::Arc,
};

use prost::Message as _;
use proto::paddock::job_token::v1::FlushRequest;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

use super::{Shared, frame};
use crate::capture::{metrics, op::Op, outage::Outage, queue::Queues};

/// How much is read at once.
const CHUNK: usize = 1 << 18;

/// How many records may wait for the store. The rest of the queue is for those who wait themselves.
const UNDER_WAY: usize = 1024;

pub struct Shipper {
    shared: Arc<Shared>,
    under_way: VecDeque<oneshot::Receiver<()>>,
    most: usize,
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
        Self { shared, under_way: VecDeque::new(), most: (queue_length / 2).clamp(1, UNDER_WAY) }
    }

    /// Ships until everything is shipped and nothing is appended any more, or until it is told to stop.
    pub async fn run(mut self, queues: Queues, abort: CancellationToken) {
        abort.run_until_cancelled(self.ship_all(&queues)).await;
    }

    async fn ship_all(&mut self, queues: &Queues) {
        let mut outage = Outage::new("the spool cannot be read; its records stay where they are");
        let never = CancellationToken::new();
        // Where the segment that is being shipped goes on.
        let (mut segment, mut offset) = (0, 0);
        loop {
            let Some((number, synced, is_open)) = self.oldest() else {
                if self.shared.segments().is_closed {
                    return;
                }
                self.shared.changed.notified().await;
                continue;
            };
            if number != segment {
                (segment, offset) = (number, 0);
            }
            let step = if offset < synced {
                self.ship(queues, number, &mut offset, synced).await
            } else if is_open {
                self.shared.changed.notified().await;
                Ok(())
            } else {
                self.delete(number).await
            };
            match step {
                Ok(()) => outage.ended(),
                Err(Halt::Stopping) => return,
                Err(Halt::Io(error)) => {
                    outage.failed(&error);
                    outage.wait(&never).await;
                }
            }
        }
    }

    fn oldest(&self) -> Option<(u64, u64, bool)> {
        let segments = self.shared.segments();
        let (number, synced) = segments.synced.first_key_value()?;
        Some((*number, *synced, segments.open == Some(*number)))
    }

    /// Queues the records from the offset on, as far as they are read at once.
    async fn ship(&mut self, queues: &Queues, number: u64, offset: &mut u64, synced: u64) -> Result<(), Halt> {
        let Some(folder) = self.shared.folder.get() else { return Ok(()) };
        let path = folder.path(number);
        let chunk = read(&path, *offset, synced).await.map_err(Halt::Io)?;
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
            *offset += skip(&path, *offset, rest).unwrap_or(synced - *offset);
        }
        Ok(())
    }

    async fn push(&mut self, queues: &Queues, flush: FlushRequest) -> Result<(), Halt> {
        while self.under_way.len() >= self.most {
            self.settle_one().await?;
        }
        self.under_way.push_back(queues.push(Op::Flush(flush)).await.ok_or(Halt::Stopping)?);
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), Halt> {
        // It stays in the queue until its answer is there: `abort` can come in between.
        if let Some(answer) = self.under_way.front_mut() {
            answer.await.map_err(|_| Halt::Stopping)?;
            self.under_way.pop_front();
        }
        Ok(())
    }

    /// Deletes a segment as soon as the store has all of it.
    async fn delete(&mut self, number: u64) -> Result<(), Halt> {
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        let Some(folder) = self.shared.folder.get() else { return Ok(()) };
        match tokio::fs::remove_file(folder.path(number)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Halt::Io(error)),
            _ => {
                self.shared.change(|segments| {
                    segments.synced.remove(&number);
                });
                Ok(())
            }
        }
    }
}

async fn read(path: &Path, offset: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(CHUNK + frame::MAX_RECORD);
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// How many bytes to leave out to come to the next record. None: no further one follows.
fn skip(path: &Path, offset: u64, rest: &[u8]) -> Option<u64> {
    let next = (1..rest.len()).find(|at| frame::first(&rest[*at..]).is_some());
    if let Some(next) = next {
        unreadable(path, offset, "its bytes are not those that were written; the next one follows");
        return u64::try_from(next).ok();
    }
    // A crash in the middle of a write leaves this; whoever waited for it was never told that it is kept.
    let bytes = rest.len();
    tracing::warn!(path = %path.display(), offset, bytes, "the end of a segment of the spool is torn, and is left out");
    None
}

fn unreadable(path: &Path, offset: u64, problem: &str) {
    metrics::unreadable();
    tracing::error!(path = %path.display(), offset, problem, "a record of the spool cannot be read");
}

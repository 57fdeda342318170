//! The thread that appends. A record counts as written only when the system has confirmed that it is on disk. After a failed sync
//! the segment is given up, because a later sync would say nothing about what was written before.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{folder::SpoolFolder, state::SpoolState};
use crate::capture::outage::Outage;

/// Maximum number of records in one write.
const GROUP: usize = 1024;

/// Maximum size of a segment, in bytes.
const SEGMENT: u64 = 16 << 20;

/// Minimum time from one sync to the next while many records come: a sync of one record takes as much processor time as a sync of
/// many.
const GATHER: Duration = Duration::from_millis(2);

/// The average time between records below which they count as many.
const MANY: Duration = Duration::from_micros(100);

/// After this time without a record a segment is complete.
const QUIET: Duration = Duration::from_millis(500);

/// A record to append.
pub struct AppendRequest {
    /// The record in its frame.
    pub frame: Vec<u8>,
    /// Gets whether the record is on disk.
    pub reply: oneshot::Sender<bool>,
}

/// The appender. Call [`Appender::run`] on its thread.
pub struct Appender {
    state: Arc<SpoolState>,
    requests: Receiver<AppendRequest>,
    open: Option<OpenSegment>,
    next_number: u64,
    segment_bytes: u64,
    /// When the last group was written.
    last_write: Instant,
    /// How long the next group gathers from then on.
    gather: Duration,
    outage: Outage,
}

/// The segment that grows.
struct OpenSegment {
    number: u64,
    file: File,
    bytes: u64,
}

impl Appender {
    /// Makes the appender. It opens the folder later, and tries again while that fails.
    pub(super) fn new(state: Arc<SpoolState>, requests: Receiver<AppendRequest>) -> Self {
        let segment_bytes = (state.max_bytes / 8).min(SEGMENT);
        Self {
            state,
            requests,
            open: None,
            next_number: 0,
            segment_bytes,
            last_write: Instant::now(),
            gather: Duration::ZERO,
            outage: Outage::new("the spool cannot be written; captures go to the store directly"),
        }
    }

    /// Appends until the spool is closed.
    pub fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            // What an earlier process left is shipped even if this one never spools anything.
            if self.state.folder.get().is_none() && self.state.path.exists() {
                let opened = self.open_folder();
                self.note_outcome(&opened);
            }
            match self.requests.recv_timeout(QUIET) {
                Ok(request) => group.push(request),
                Err(RecvTimeoutError::Timeout) => {
                    self.close_segment();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            std::thread::sleep(self.gather.saturating_sub(self.last_write.elapsed()));
            group.extend(self.requests.try_iter().take(GROUP - 1));
            self.set_pace(group.len());
            let (count, outcome) = self.append_group(&group);
            self.note_outcome(&outcome);
            for (at, request) in group.drain(..).enumerate() {
                // A caller that no longer waits has kept the record elsewhere.
                let _ = request.reply.send(at < count);
            }
        }
        self.close_segment();
        self.state.change(|segments| segments.is_closed = true);
    }

    /// Lets the next group gather if many records come.
    fn set_pace(&mut self, count: usize) {
        let are_many = self.last_write.elapsed() < MANY * u32::try_from(count).unwrap_or(u32::MAX);
        self.gather = if are_many { GATHER } else { Duration::ZERO };
        self.last_write = Instant::now();
    }

    /// Appends the records of the group, in their order, as far as they fit. Returns how many are on disk, and the error that kept
    /// the others out.
    fn append_group(&mut self, group: &[AppendRequest]) -> (usize, io::Result<()>) {
        if let Err(error) = self.open_folder() {
            return (0, Err(error));
        }
        let room = self.state.max_bytes.saturating_sub(self.state.segments().bytes());
        let mut bytes = Vec::with_capacity(group.iter().map(|request| request.frame.len()).sum());
        let mut count = 0;
        for request in group {
            if (bytes.len() + request.frame.len()) as u64 > room {
                break;
            }
            bytes.extend(&request.frame);
            count += 1;
        }
        if count > 0
            && let Err(error) = self.write_segment(&bytes)
        {
            return (0, Err(error));
        }
        if count < group.len() {
            let full = io::Error::new(io::ErrorKind::StorageFull, "it has the size that spool_max_bytes allows");
            return (count, Err(full));
        }
        (count, Ok(()))
    }

    fn write_segment(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut open = self.open_segment()?;
        let written = open.file.write_all(bytes).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // The records of this group may be in it, whole or in part, and their callers learn that they are not.
            let _ = open.file.set_len(open.bytes);
            self.state.change(|segments| {
                segments.synced.insert(open.number, open.bytes);
                segments.open = None;
            });
            return Err(error);
        }
        open.bytes += bytes.len() as u64;
        self.state.change(|segments| {
            segments.synced.insert(open.number, open.bytes);
            segments.open = Some(open.number);
        });
        let is_full = open.bytes >= self.segment_bytes;
        self.open = Some(open);
        if is_full {
            self.close_segment();
        }
        Ok(())
    }

    fn open_folder(&mut self) -> io::Result<()> {
        if self.state.folder.get().is_some() {
            return Ok(());
        }
        let folder = SpoolFolder::open(&self.state.path)?;
        let segments = folder.segments()?;
        self.next_number = segments.last_key_value().map_or(0, |(last, _)| last + 1);
        if self.state.folder.set(folder).is_ok() {
            self.state.change(|state| state.synced = segments);
        }
        Ok(())
    }

    fn open_segment(&mut self) -> io::Result<OpenSegment> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let folder = self.state.folder.get().ok_or_else(|| io::Error::other("it is not open"))?;
        let number = self.next_number;
        self.next_number += 1;
        Ok(OpenSegment { number, file: folder.create(number)?, bytes: 0 })
    }

    /// Lets the shipper delete the segment when it is shipped.
    fn close_segment(&mut self) {
        if self.open.take().is_some() {
            self.state.change(|segments| segments.open = None);
        }
    }

    fn note_outcome(&mut self, outcome: &io::Result<()>) {
        match outcome {
            Ok(()) => self.outage.ended(),
            Err(error) => self.outage.failed(&format_args!("{}: {error}", self.state.path.display())),
        }
    }
}

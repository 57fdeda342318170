//! The thread that appends. A record counts as written only when the system has confirmed that it is on disk; after a failure of
//! that the segment is given up, because later confirmations would say nothing about what was written before.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Append, Shared, folder::Folder};
use crate::capture::outage::Outage;

/// How many records one write holds at most.
const GROUP: usize = 1024;

/// How large a segment becomes, at most.
const SEGMENT: u64 = 16 << 20;

/// How long at least from one sync to the next while many records come: a sync costs as much processor time for one of them as for
/// all.
const GATHER: Duration = Duration::from_millis(2);

/// From which distance on, on average, records are not many.
const MANY: Duration = Duration::from_micros(100);

/// After which time without a record a segment is complete.
const QUIET: Duration = Duration::from_millis(500);

pub struct Appender {
    shared: Arc<Shared>,
    records: Receiver<Append>,
    open: Option<Open>,
    next: u64,
    segment_bytes: u64,
    /// When the last group was written.
    last: Instant,
    /// How long the next one gathers from then on.
    gather: Duration,
    outage: Outage,
}

/// The segment that grows.
struct Open {
    number: u64,
    file: File,
    bytes: u64,
}

impl Appender {
    pub fn new(shared: Arc<Shared>, records: Receiver<Append>) -> Self {
        let segment_bytes = (shared.max_bytes / 8).min(SEGMENT);
        let outage = Outage::new("the spool cannot be written; captures go to the store directly");
        Self {
            shared,
            records,
            open: None,
            next: 0,
            segment_bytes,
            last: Instant::now(),
            gather: Duration::ZERO,
            outage,
        }
    }

    /// Appends until nobody is left who could send a record.
    pub fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            // What an earlier process left is shipped even if this one never spools anything.
            if self.shared.folder.get().is_none() && self.shared.path.exists() {
                let opened = self.open_folder();
                self.note(&opened);
            }
            match self.records.recv_timeout(QUIET) {
                Ok(record) => group.push(record),
                Err(RecvTimeoutError::Timeout) => {
                    self.close();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            std::thread::sleep(self.gather.saturating_sub(self.last.elapsed()));
            group.extend(self.records.try_iter().take(GROUP - 1));
            self.pace(group.len());
            let (count, outcome) = self.append(&group);
            self.note(&outcome);
            for (at, record) in group.drain(..).enumerate() {
                // One who waits no longer has kept the record elsewhere.
                let _ = record.reply.send(at < count);
            }
        }
        self.close();
        self.shared.change(|segments| segments.is_closed = true);
    }

    /// Lets the next group gather if many records come.
    fn pace(&mut self, count: usize) {
        let are_many = self.last.elapsed() < MANY * u32::try_from(count).unwrap_or(u32::MAX);
        self.gather = if are_many { GATHER } else { Duration::ZERO };
        self.last = Instant::now();
    }

    /// Appends the records of the group that fit, in their order: how many, and what kept the others out.
    fn append(&mut self, group: &[Append]) -> (usize, io::Result<()>) {
        if let Err(error) = self.open_folder() {
            return (0, Err(error));
        }
        let room = self.shared.max_bytes.saturating_sub(self.shared.segments().bytes());
        let mut bytes = Vec::with_capacity(group.iter().map(|record| record.frame.len()).sum());
        let fits = |record: &&Append| {
            let fits = (bytes.len() + record.frame.len()) as u64 <= room;
            if fits {
                bytes.extend(&record.frame);
            }
            fits
        };
        let count = group.iter().take_while(fits).count();
        if count > 0
            && let Err(error) = self.write(&bytes)
        {
            return (0, Err(error));
        }
        if count < group.len() {
            let full = io::Error::new(io::ErrorKind::StorageFull, "it has the size that spool_max_bytes allows");
            return (count, Err(full));
        }
        (count, Ok(()))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut open = self.open_segment()?;
        let written = open.file.write_all(bytes).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // The records of this group may be in it, whole or in part, and the caller was told that they are not.
            let _ = open.file.set_len(open.bytes);
            self.shared.change(|segments| {
                segments.synced.insert(open.number, open.bytes);
                segments.open = None;
            });
            return Err(error);
        }
        open.bytes += bytes.len() as u64;
        self.shared.change(|segments| {
            segments.synced.insert(open.number, open.bytes);
            segments.open = Some(open.number);
        });
        let is_full = open.bytes >= self.segment_bytes;
        self.open = Some(open);
        if is_full {
            self.close();
        }
        Ok(())
    }

    fn open_folder(&mut self) -> io::Result<()> {
        if self.shared.folder.get().is_some() {
            return Ok(());
        }
        let folder = Folder::open(&self.shared.path)?;
        let segments = folder.segments()?;
        self.next = segments.last_key_value().map_or(0, |(last, _)| last + 1);
        if self.shared.folder.set(folder).is_ok() {
            self.shared.change(|shared| shared.synced = segments);
        }
        Ok(())
    }

    fn open_segment(&mut self) -> io::Result<Open> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let folder = self.shared.folder.get().ok_or_else(|| io::Error::other("it is not open"))?;
        let number = self.next;
        self.next += 1;
        Ok(Open { number, file: folder.create(number)?, bytes: 0 })
    }

    /// Lets the shipper delete the segment when it is shipped.
    fn close(&mut self) {
        if self.open.take().is_some() {
            self.shared.change(|segments| segments.open = None);
        }
    }

    fn note(&mut self, outcome: &io::Result<()>) {
        match outcome {
            Ok(()) => self.outage.ended(),
            Err(error) => self.outage.failed(&format_args!("{}: {error}", self.shared.path.display())),
        }
    }
}

//! The spool: records in files of this machine, which are on disk before the request is answered and reach the store later.
//!
//! One thread appends: it writes whatever has come while it synced the last records, and syncs that; while many come, it gathers them
//! for a moment first. One task, the shipper, reads what is synced, in order, and deletes a file when the store has all of it.

mod appender;
pub mod folder;
pub mod frame;
mod shipper;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use folder::Folder;
use prost::Message as _;
use proto::paddock::job_token::v1::FlushRequest;
use tokio::sync::{Notify, oneshot};

use crate::{capture::metrics, config};

pub use shipper::Shipper;

/// The way into the spool.
#[derive(Clone)]
pub struct Spool {
    /// None: nothing is appended any more.
    records: Arc<Mutex<Option<SyncSender<Append>>>>,
    timeout: Duration,
}

/// A record that is to be appended.
struct Append {
    /// In its frame.
    frame: Vec<u8>,
    /// Told whether it is on disk.
    reply: oneshot::Sender<bool>,
}

/// What appender and shipper share.
struct Shared {
    /// Set once the folder is open.
    folder: OnceLock<Folder>,
    path: PathBuf,
    max_bytes: u64,
    segments: Mutex<Segments>,
    changed: Notify,
}

/// The segments that are not shipped yet.
#[derive(Debug, Default)]
struct Segments {
    /// By number: how many of their bytes are on disk, as far as we were told.
    synced: BTreeMap<u64, u64>,
    /// The one that still grows.
    open: Option<u64>,
    /// Nothing is appended any more.
    is_closed: bool,
}

impl Spool {
    /// Starts the appending thread. What the folder holds is shipped before anything new.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn start(config: &config::Captures) -> std::io::Result<(Self, Shipper)> {
        let shared = Arc::new(Shared {
            folder: OnceLock::new(),
            path: config.spool_folder.clone(),
            max_bytes: config.spool_max_bytes,
            segments: Mutex::default(),
            changed: Notify::new(),
        });
        let (records, receiver) = sync_channel(config.queue_length);
        let appender = appender::Appender::new(Arc::clone(&shared), receiver);
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || appender.run())?;
        let timeout = Duration::from_millis(config.timeout_ms);
        let records = Arc::new(Mutex::new(Some(records)));
        Ok((Self { records, timeout }, Shipper::new(shared, config.queue_length)))
    }

    /// Appends a record. True: it is on disk. False: it may or may not be, and must be kept elsewhere.
    pub async fn append(&self, flush: &FlushRequest) -> bool {
        let mut frame = Vec::new();
        if !frame::append(&flush.encode_to_vec(), &mut frame) {
            return false;
        }
        let (reply, answer) = oneshot::channel();
        let sent =
            locked(&self.records).as_ref().is_some_and(|records| records.try_send(Append { frame, reply }).is_ok());
        sent && matches!(tokio::time::timeout(self.timeout, answer).await, Ok(Ok(true)))
    }

    /// Lets nothing more in. What is in it is still shipped.
    pub fn close(&self) {
        *locked(&self.records) = None;
    }
}

/// What the mutex guards changes by single assignments, so it is whole even if a thread ended while it held the lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn segments(&self) -> MutexGuard<'_, Segments> {
        locked(&self.segments)
    }

    fn change(&self, change: impl FnOnce(&mut Segments)) {
        let mut segments = self.segments();
        change(&mut segments);
        metrics::spooled(segments.bytes());
        self.changed.notify_one();
    }
}

impl Segments {
    fn bytes(&self) -> u64 {
        self.synced.values().sum()
    }
}

//! What the appender and the shipper share: the folder, and the segments that are not shipped yet.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::Notify;

use super::folder::SpoolFolder;
use crate::capture::metrics;

/// The state of the spool.
pub struct SpoolState {
    /// Set once the folder is open.
    pub folder: OnceLock<SpoolFolder>,
    /// Where the folder is.
    pub path: PathBuf,
    /// Maximum size of all segments.
    pub max_bytes: u64,
    segments: Mutex<Segments>,
    /// Notified after every change of the segments.
    pub changed: Notify,
}

/// The segments that are not shipped yet.
#[derive(Debug, Default)]
pub struct Segments {
    /// By number: how many of their bytes are on disk, as far as the system has confirmed.
    pub synced: BTreeMap<u64, u64>,
    /// The one that still grows.
    pub open: Option<u64>,
    /// Whether nothing is appended any more.
    pub is_closed: bool,
}

impl SpoolState {
    /// Returns the state of a spool whose folder is not open yet.
    pub fn new(path: PathBuf, max_bytes: u64) -> Self {
        Self { folder: OnceLock::new(), path, max_bytes, segments: Mutex::default(), changed: Notify::new() }
    }

    /// Locks the segments for reading.
    pub fn segments(&self) -> MutexGuard<'_, Segments> {
        lock(&self.segments)
    }

    /// Changes the segments and notifies the shipper.
    pub fn change(&self, change: impl FnOnce(&mut Segments)) {
        let mut segments = self.segments();
        change(&mut segments);
        metrics::set_spool_bytes(segments.bytes());
        self.changed.notify_one();
    }
}

impl Segments {
    /// Returns the size of all segments.
    pub fn bytes(&self) -> u64 {
        self.synced.values().sum()
    }
}

/// Locks a mutex. Single assignments change the values that the spool guards, so a thread that panicked left them whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

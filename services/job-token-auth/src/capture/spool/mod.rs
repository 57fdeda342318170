//! The spool: records in files of this machine, which are on disk before the request is answered and reach the store later.
//!
//! One thread, the appender, writes the records that came during its last sync, and syncs them; while many come, it gathers them
//! for a moment first. One task, the shipper, reads what is synced, in order, and deletes a file when the store has all of it.

mod appender;
pub mod folder;
pub mod frame;
mod shipper;
mod state;

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use prost::Message as _;
use proto::paddock::job_token::v1::FlushRequest;
use tokio::sync::oneshot;

use self::{
    appender::AppendRequest,
    state::{SpoolState, lock},
};
use crate::config::CaptureConfig;

pub use self::{appender::Appender, shipper::Shipper};

/// The way into the spool.
#[derive(Clone)]
pub struct Spool {
    /// None: nothing is appended any more.
    requests: Arc<Mutex<Option<SyncSender<AppendRequest>>>>,
    timeout: Duration,
}

impl Spool {
    /// Makes the spool, the appender, which needs its own thread, and the shipper, which ships what the folder holds already first.
    pub fn new(config: &CaptureConfig) -> (Self, Shipper, Appender) {
        let state = Arc::new(SpoolState::new(config.spool_folder.clone(), config.spool_max_bytes));
        let (requests, receiver) = sync_channel(config.queue_length);
        let appender = Appender::new(Arc::clone(&state), receiver);
        let shipper = Shipper::new(state, config.queue_length);
        let requests = Arc::new(Mutex::new(Some(requests)));
        (Self { requests, timeout: Duration::from_millis(config.timeout_ms) }, shipper, appender)
    }

    /// Appends a record. Returns true if it is on disk; false if it may not be, and must be kept elsewhere.
    pub async fn append(&self, flush: &FlushRequest) -> bool {
        let mut frame = Vec::new();
        if !frame::append(&flush.encode_to_vec(), &mut frame) {
            return false;
        }
        let (reply, answer) = oneshot::channel();
        let request = AppendRequest { frame, reply };
        let is_sent = lock(&self.requests).as_ref().is_some_and(|requests| requests.try_send(request).is_ok());
        is_sent && matches!(tokio::time::timeout(self.timeout, answer).await, Ok(Ok(true)))
    }

    /// Takes no further records. Those in the spool are still shipped.
    pub fn close(&self) {
        *lock(&self.requests) = None;
    }
}

//! One step of one capture, as it waits for the store.

use proto::paddock::job_token::v1::{Capture, FlushRequest};
use tokio::sync::oneshot;

/// A step of a capture. Applying a step again has no further effect.
#[derive(Clone, Debug)]
pub enum Step {
    /// The request is allowed and under way.
    Begin {
        /// The capture.
        capture: Capture,
        /// When the capture becomes unresolved, in milliseconds since the Unix epoch.
        deadline: i64,
    },
    /// The request succeeded. The step carries the whole capture, so it does not need the pending one.
    Flush(FlushRequest),
    /// The request did not succeed.
    Discard {
        /// The id of the capture.
        id: String,
    },
    /// There was no verdict in time.
    Expire {
        /// The id of the capture.
        id: String,
    },
}

impl Step {
    /// Returns the id of the capture.
    pub fn capture_id(&self) -> &str {
        match self {
            Self::Begin { capture, .. } => &capture.id,
            Self::Flush(flush) => flush.capture.as_ref().map_or("", |capture| &capture.id),
            Self::Discard { id } | Self::Expire { id } => id,
        }
    }
}

/// Reports whether `id` has the form that the tables keep: a UUID with hyphens.
pub fn is_capture_id(id: &str) -> bool {
    id.len() == 36 && uuid::Uuid::try_parse(id).is_ok()
}

/// A step in the queue, and its caller.
#[derive(Debug)]
pub struct QueuedStep {
    /// The step.
    pub step: Step,
    /// Notified when the step is applied. None: no caller waits.
    pub reply: Option<oneshot::Sender<()>>,
}

impl QueuedStep {
    /// Reports whether the step must not be applied any more: its request was already refused, so it must not become pending.
    pub fn is_abandoned(&self) -> bool {
        let is_begin = matches!(self.step, Step::Begin { .. });
        is_begin && self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Notifies the caller that the step is applied. Returns the step that undoes it if the caller has gone in the meantime.
    pub fn finish(self) -> Option<Self> {
        let caller_gone = self.reply?.send(()).is_err();
        match self.step {
            Step::Begin { capture, .. } if caller_gone => {
                Some(Self { step: Step::Discard { id: capture.id }, reply: None })
            }
            _ => None,
        }
    }
}

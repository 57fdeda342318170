//! One step of one capture, as it waits for the store.

use proto::paddock::job_token::v1::{Capture, FlushRequest};
use tokio::sync::oneshot;

/// A step of a capture. Every one may be applied again without a further effect.
#[derive(Clone, Debug)]
pub enum Op {
    /// The request is allowed and under way.
    Pend {
        /// The capture.
        capture: Capture,
        /// When it is without a verdict, in milliseconds since the Unix epoch.
        deadline: i64,
    },
    /// The request succeeded. It brings the whole capture, so that it needs no pending one.
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

impl Op {
    /// The id of the capture.
    pub fn id(&self) -> &str {
        match self {
            Self::Pend { capture, .. } => &capture.id,
            Self::Flush(flush) => flush.capture.as_ref().map_or("", |capture| &capture.id),
            Self::Discard { id } | Self::Expire { id } => id,
        }
    }
}

/// Whether it is an id as the tables keep it: a UUID in its usual form.
pub fn is_id(id: &str) -> bool {
    id.len() == 36 && uuid::Uuid::try_parse(id).is_ok()
}

/// A step in the queue, and who waits for it to be applied.
#[derive(Debug)]
pub struct Queued {
    /// The step.
    pub op: Op,
    /// Told when it is applied.
    pub reply: Option<oneshot::Sender<()>>,
}

impl Queued {
    /// Whether it has lost its purpose: a request that was answered already must not become pending.
    pub fn is_abandoned(&self) -> bool {
        matches!(self.op, Op::Pend { .. }) && self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Says that it is applied. Returns the step that takes it back if its caller went away in the meantime.
    pub fn applied(self) -> Option<Self> {
        let gone = self.reply?.send(()).is_err();
        match self.op {
            Op::Pend { capture, .. } if gone => Some(Self { op: Op::Discard { id: capture.id }, reply: None }),
            _ => None,
        }
    }
}

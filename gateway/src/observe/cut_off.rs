//! Why the body of a response ended before it was complete.

/// The side that ended a response before it was complete, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// The client broke off.
    Client,
    /// The upstream broke off.
    Upstream,
    /// The gateway broke off, because the upstream paused for too long.
    UpstreamPaused,
    /// The gateway broke off, because the client paused for too long.
    ClientPaused,
}

impl CutOff {
    /// Returns the name that logs show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::UpstreamPaused => "upstream_paused",
            Self::ClientPaused => "client_paused",
        }
    }

    /// Reports whether the upstream is the cause.
    pub fn is_by_upstream(self) -> bool {
        match self {
            Self::Upstream | Self::UpstreamPaused => true,
            Self::Client | Self::ClientPaused => false,
        }
    }
}

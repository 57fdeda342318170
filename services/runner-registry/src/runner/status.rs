//! Whether a runner, or one of its managers, is in contact.
//!
//! Source: <https://docs.gitlab.com/ci/runners/runners_scope/#runner-statuses>

use proto::paddock::runner::v1::RunnerStatus as Message;
use time::{Duration, OffsetDateTime};

/// A runner is online up to this long after its last contact.
pub const ONLINE: Duration = Duration::hours(2);

/// A runner is stale when its creation and its last contact are longer ago than this.
pub const STALE: Duration = Duration::days(7);

/// Whether a runner is in contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerStatus {
    /// It contacted the registry within [`ONLINE`].
    Online,
    /// Its last contact is longer ago, and it is not stale.
    Offline,
    /// Its creation and its last contact are longer ago than [`STALE`].
    Stale,
    /// It never contacted the registry, and is not stale.
    NeverContacted,
}

impl RunnerStatus {
    /// Returns the status at an instant.
    #[must_use]
    pub fn at(now: OffsetDateTime, created_at: OffsetDateTime, contacted_at: Option<OffsetDateTime>) -> Self {
        let last_heard = contacted_at.map_or(created_at, |contacted_at| contacted_at.max(created_at));
        match contacted_at {
            _ if last_heard < now.saturating_sub(STALE) => Self::Stale,
            None => Self::NeverContacted,
            Some(contacted_at) if contacted_at >= now.saturating_sub(ONLINE) => Self::Online,
            Some(_) => Self::Offline,
        }
    }

    /// Returns the status as messages name it.
    #[must_use]
    pub fn message(self) -> Message {
        match self {
            Self::Online => Message::Online,
            Self::Offline => Message::Offline,
            Self::Stale => Message::Stale,
            Self::NeverContacted => Message::NeverContacted,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_status_changes_at_the_exact_instants() {
        let now = datetime!(2026-01-31 12:00 UTC);
        let milli = Duration::MILLISECOND;
        let old = now - Duration::days(30);
        let week = now - STALE;
        let cases = [
            (now, None, RunnerStatus::NeverContacted),
            (week, None, RunnerStatus::NeverContacted),
            (week - milli, None, RunnerStatus::Stale),
            (old, Some(now), RunnerStatus::Online),
            (old, Some(now - ONLINE), RunnerStatus::Online),
            (old, Some(now - ONLINE - milli), RunnerStatus::Offline),
            (old, Some(week), RunnerStatus::Offline),
            (old, Some(week - milli), RunnerStatus::Stale),
            // A creation within the week keeps it from being stale.
            (week, Some(week - milli), RunnerStatus::Offline),
            // A clock that was set back makes the contact lie in the future.
            (old, Some(now + Duration::HOUR), RunnerStatus::Online),
        ];
        for (created_at, contacted_at, expected) in cases {
            assert_eq!(RunnerStatus::at(now, created_at, contacted_at), expected, "{created_at} {contacted_at:?}");
        }
    }
}

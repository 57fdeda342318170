//! When a runner token expires: as the settings say, or as stated when the runner is created.
//!
//! Source of the rules: <https://docs.gitlab.com/ci/runners/configure_runners/#security-of-runner-tokens> and
//! <https://docs.gitlab.com/api/users/#create-a-runner-linked-to-a-user>.

use proto::iso8601;
use time::{Duration, OffsetDateTime};

/// The shortest lifetime that a stated expiry may give.
pub const MIN_LIFETIME: Duration = Duration::minutes(5);

/// The longest lifetime that a stated expiry may give.
pub const MAX_LIFETIME: Duration = Duration::days(15);

/// Seconds that a new token is valid, or none for no limit.
pub type Interval = Option<i64>;

/// The intervals that the settings of the instance set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceIntervals {
    /// For instance runners.
    pub instance_runner: Interval,
    /// For group runners.
    pub group_runner: Interval,
    /// For project runners.
    pub project_runner: Interval,
}

/// The intervals that a group sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupIntervals {
    /// For the group's own runners only.
    pub own_runner: Interval,
    /// For the runners of descendant groups.
    pub subgroup_runner: Interval,
    /// For the runners of projects at any depth below.
    pub project_runner: Interval,
}

/// The intervals that bound the runners of one project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectIntervals {
    /// The project's own.
    pub own_runner: Interval,
    /// Those of its group and of all groups above.
    pub groups: Vec<GroupIntervals>,
}

/// What a runner belongs to, with the intervals that bound its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An instance runner.
    Instance,
    /// A group runner.
    Group {
        /// The group that it belongs to.
        group: GroupIntervals,
        /// All groups above, in any order; not the group itself.
        ancestors: Vec<GroupIntervals>,
    },
    /// A project runner: every project that it is assigned to.
    Project(Vec<ProjectIntervals>),
}

impl Scope {
    /// Reports whether it is a project runner without a project.
    #[must_use]
    pub fn is_unassigned(&self) -> bool {
        matches!(self, Self::Project(projects) if projects.is_empty())
    }
}

/// Returns how long a new token of the runner is valid: the smallest limit that applies. A project runner without a
/// project has none.
#[must_use]
pub fn interval(instance: &InstanceIntervals, scope: &Scope) -> Interval {
    match scope {
        Scope::Instance => instance.instance_runner,
        Scope::Group { group, ancestors } => {
            let above = ancestors.iter().map(|ancestor| ancestor.subgroup_runner);
            smallest_interval([group.own_runner, instance.group_runner].into_iter().chain(above))
        }
        Scope::Project(projects) => smallest_interval(projects.iter().map(|project| {
            let above = project.groups.iter().map(|group| group.project_runner);
            smallest_interval([project.own_runner, instance.project_runner].into_iter().chain(above))
        })),
    }
}

fn smallest_interval(intervals: impl Iterator<Item = Interval>) -> Interval {
    intervals.flatten().min()
}

/// Returns an interval that is shorter by a random part of it, up to `percent` of it. A life of at least [`MIN_LIFETIME`]
/// stays, if the interval allows it.
#[must_use]
pub fn spread(interval: Interval, percent: u8) -> Interval {
    interval.map(|seconds| seconds - rand::random_range(0..=longest_cut(seconds, percent)))
}

fn longest_cut(seconds: i64, percent: u8) -> i64 {
    let spare = seconds.saturating_sub(MIN_LIFETIME.whole_seconds()).max(0);
    (seconds.saturating_mul(percent.into()) / 100).clamp(0, spare)
}

/// Returns the expiry of a token that is created now, at most the end of the year 9999.
#[must_use]
pub fn expires_at(now: OffsetDateTime, interval: Interval) -> Option<OffsetDateTime> {
    interval.map(|seconds| now.checked_add(Duration::seconds(seconds)).unwrap_or(iso8601::LATEST).min(iso8601::LATEST))
}

/// The expiry and the deadline of a runner's first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstToken {
    /// From this instant on it does not authenticate.
    pub expires_at: Option<OffsetDateTime>,
    /// From this instant on it cannot be rotated.
    pub rotation_deadline: Option<OffsetDateTime>,
}

/// Why a stated expiry or deadline is refused. The texts are GitLab's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpiryError {
    /// A deadline came without an expiry.
    #[error("token_expires_at is required when token_rotation_deadline is specified")]
    ExpiryRequired,
    /// The expiry cannot be read.
    #[error("token_expires_at must be a valid time")]
    ExpiryNotATime,
    /// The expiry is past or too near.
    #[error("token_expires_at must be at least 5 minutes in the future")]
    ExpiryTooNear,
    /// The expiry is later than the settings or the general limit allow.
    #[error("token_expires_at is too far in the future (maximum is {})", iso8601::seconds(*maximum))]
    ExpiryTooFar {
        /// The latest expiry that would be accepted.
        maximum: OffsetDateTime,
    },
    /// The deadline cannot be read.
    #[error("token_rotation_deadline must be a valid time")]
    DeadlineNotATime,
    /// The deadline is past.
    #[error("token_rotation_deadline cannot be in the past")]
    DeadlinePast,
    /// The deadline is later than the expiry.
    #[error("token_rotation_deadline must be less than or equal to token_expires_at")]
    DeadlineAfterExpiry,
}

/// Checks the expiry and the deadline that the creator of a runner states for its first token. `computed` is the expiry
/// that the settings give.
///
/// # Errors
/// The first rule that is broken, in the order that GitLab checks them.
pub fn first_token(
    now: OffsetDateTime,
    computed: Option<OffsetDateTime>,
    expires_at: Option<&str>,
    rotation_deadline: Option<&str>,
) -> Result<FirstToken, ExpiryError> {
    let Some(text) = expires_at else {
        let none = FirstToken { expires_at: computed, rotation_deadline: None };
        return if rotation_deadline.is_some() { Err(ExpiryError::ExpiryRequired) } else { Ok(none) };
    };
    let expires_at = stated_expiry(now, computed, text)?;
    let rotation_deadline = rotation_deadline.map(|text| stated_deadline(now, expires_at, text)).transpose()?;
    Ok(FirstToken { expires_at: Some(expires_at), rotation_deadline })
}

fn stated_expiry(
    now: OffsetDateTime,
    computed: Option<OffsetDateTime>,
    text: &str,
) -> Result<OffsetDateTime, ExpiryError> {
    let expires_at = iso8601::parse(text).ok_or(ExpiryError::ExpiryNotATime)?;
    if expires_at < now.saturating_add(MIN_LIFETIME) {
        return Err(ExpiryError::ExpiryTooNear);
    }
    let general = now.saturating_add(MAX_LIFETIME);
    let maximum = computed.map_or(general, |computed| computed.min(general));
    if expires_at > maximum { Err(ExpiryError::ExpiryTooFar { maximum }) } else { Ok(expires_at) }
}

fn stated_deadline(now: OffsetDateTime, expires_at: OffsetDateTime, text: &str) -> Result<OffsetDateTime, ExpiryError> {
    let deadline = iso8601::parse(text).ok_or(ExpiryError::DeadlineNotATime)?;
    if deadline < now {
        return Err(ExpiryError::DeadlinePast);
    }
    if deadline > expires_at { Err(ExpiryError::DeadlineAfterExpiry) } else { Ok(deadline) }
}

#[cfg(test)]
mod tests;

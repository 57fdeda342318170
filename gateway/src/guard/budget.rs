//! The budget of one token on one method or protected route: how many calls may be under way, and when they are refused.
//!
//! ```text
//!               failure number `failures` within the window
//!   counting ────────────────────────────────────────────▶ blocked for 5 s
//!      ▲                                                     │ the block is over
//!      │ success, or a window without a call                 ▼            failure: blocked for twice
//!      └────────────────────────────────────────────────── one call ───▶ the time, at most 30 s
//! ```
//!
//! During a block, an address from which no call has failed may make one call: the managers of a fleet share a token, and one of
//! them that repeats a refused call must not keep the others from rotating it.
//!
//! Times are milliseconds. A clock that went backwards ends a window and a block: a wrong clock must not lock a client out.

use super::{address::AddressBlock, earlier::EarlierRefusal, elapsed::is_within};

/// How long the first block lasts, in seconds.
const FIRST_BLOCK_SECONDS: u32 = 5;

/// How long a block lasts at most, in seconds. A runner that waits inside a call holds up its other work.
pub const LONGEST_BLOCK_SECONDS: u32 = 30;

/// The most addresses that may make a call during a block.
const MAX_SECOND_CHANCES: usize = 16;

/// How long a success lets any number of calls through at the same time, in milliseconds.
pub const TRUST_MS: i64 = 600_000;

/// The limits of a budget.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The failures within the window after which calls are blocked.
    pub failures: u32,
    /// How long a failure counts, in milliseconds.
    pub window_ms: i64,
}

/// The budget of one token on one method or protected route.
#[derive(Debug, Default)]
pub struct Budget {
    in_flight: u32,
    has_waiters: bool,
    phase: Phase,
    succeeded_at: Option<i64>,
    earlier: Option<EarlierRefusal>,
    charged_at: Option<i64>,
    /// The addresses that have failed since the last success, and those that have made their call during a block.
    failed_from: Vec<AddressBlock>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Failures are counted.
    Counting { failures: u32, since: i64 },
    /// Calls are refused for these seconds. After that one call at a time is let through.
    Blocked { since: i64, seconds: u32 },
}

/// The answer to a call that wants to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The call is under way. It is suspicious if an earlier one has failed.
    Admitted {
        /// Whether an earlier call has failed.
        suspicious: bool,
    },
    /// The calls that are under way could use up the budget: wait until one of them has ended.
    Full,
    /// The call is refused for this time, in milliseconds.
    Blocked(i64),
}

/// The calls that can begin when another one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// At most this many.
    Calls(u32),
    /// All that wait can be judged again.
    All,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Counting { failures: 0, since: 0 }
    }
}

impl Budget {
    /// Begins a call, or tells why it cannot begin yet.
    pub fn start(&mut self, limits: Limits, address: AddressBlock, now: i64) -> Start {
        self.forget_lapsed(limits, now);
        if let Some(left) = self.block_left(now) {
            if !self.has_second_chance(address) {
                return Start::Blocked(left);
            }
            self.failed_from.push(address);
        } else if self.capacity(limits, now).is_some_and(|capacity| self.in_flight >= capacity) {
            self.has_waiters = true;
            return Start::Full;
        }
        self.in_flight += 1;
        Start::Admitted { suspicious: self.has_failures() }
    }

    /// Begins a call of a token that is known to be good here. Returns false if it is not, and then nothing has begun.
    pub fn start_trusted(&mut self, limits: Limits, now: i64) -> bool {
        self.forget_lapsed(limits, now);
        let is_trusted = self.capacity(limits, now).is_none();
        if is_trusted {
            self.in_flight += 1;
        }
        is_trusted
    }

    /// Notes that the token was good: its failures are forgotten.
    pub fn succeed(&mut self, now: i64) {
        self.forget_failures();
        self.earlier = None;
        self.succeeded_at = Some(now);
    }

    /// Notes a failure, with the refusal that later answers repeat.
    pub fn fail(&mut self, limits: Limits, address: AddressBlock, now: i64, refusal: EarlierRefusal) {
        self.forget_lapsed(limits, now);
        self.earlier = Some(refusal);
        if !self.failed_from.contains(&address) && self.failed_from.len() < MAX_SECOND_CHANCES {
            self.failed_from.push(address);
        }
        match &mut self.phase {
            Phase::Counting { failures, since } => {
                if *failures == 0 {
                    *since = now;
                }
                *failures += 1;
                if *failures >= limits.failures {
                    self.phase = Phase::Blocked { since: now, seconds: FIRST_BLOCK_SECONDS };
                }
            }
            Phase::Blocked { since, seconds } if now - *since >= milliseconds(*seconds) => {
                *since = now;
                *seconds = (*seconds * 2).min(LONGEST_BLOCK_SECONDS);
            }
            // The call began before the block, or came from another address.
            Phase::Blocked { .. } => {}
        }
    }

    /// Ends a call. Returns how many of those that wait can begin.
    pub fn end(&mut self, limits: Limits, now: i64) -> Free {
        self.in_flight = self.in_flight.saturating_sub(1);
        if !self.has_waiters {
            return Free::Calls(0);
        }
        self.forget_lapsed(limits, now);
        match self.capacity(limits, now) {
            Some(capacity) if self.block_left(now).is_none() => Free::Calls(capacity.saturating_sub(self.in_flight)),
            _ => {
                self.has_waiters = false;
                Free::All
            }
        }
    }

    /// Returns the refusal that is repeated; none if no call has failed since the last success.
    pub fn earlier(&self) -> Option<&EarlierRefusal> {
        self.earlier.as_ref()
    }

    /// Returns how long calls from the address are refused, in milliseconds; none if they are not.
    pub fn blocked_for(&self, address: AddressBlock, now: i64) -> Option<i64> {
        self.block_left(now).filter(|_| !self.has_second_chance(address))
    }

    fn has_second_chance(&self, address: AddressBlock) -> bool {
        self.failed_from.len() < MAX_SECOND_CHANCES && !self.failed_from.contains(&address)
    }

    /// Returns how long the block lasts from now on, in milliseconds; none if there is none.
    fn block_left(&self, now: i64) -> Option<i64> {
        let Phase::Blocked { since, seconds } = self.phase else { return None };
        let left = since + milliseconds(seconds) - now;
        is_within(since, milliseconds(seconds), now).then_some(left.min(milliseconds(seconds)))
    }

    /// Reports whether the last success that was noted is older than this, in milliseconds, or none was.
    pub fn is_success_older_than(&self, age: i64, now: i64) -> bool {
        self.succeeded_at.is_none_or(|at| !is_within(at, age, now))
    }

    /// Reports whether the address that failed must be charged, which is once within this time, in milliseconds.
    pub fn charge(&mut self, every: i64, now: i64) -> bool {
        let is_due = self.charged_at.is_none_or(|at| !is_within(at, every, now));
        if is_due {
            self.charged_at = Some(now);
        }
        is_due
    }

    /// Returns how many calls may be under way at the same time; none if there is no limit.
    fn capacity(&self, limits: Limits, now: i64) -> Option<u32> {
        match self.phase {
            Phase::Blocked { .. } => Some(1),
            Phase::Counting { failures: 0, .. } if !self.is_success_older_than(TRUST_MS, now) => None,
            Phase::Counting { failures, .. } => Some(limits.failures.saturating_sub(failures)),
        }
    }

    fn has_failures(&self) -> bool {
        !matches!(self.phase, Phase::Counting { failures: 0, .. })
    }

    /// Forgets failures whose window is over, and a block after which nothing has failed for as long.
    fn forget_lapsed(&mut self, limits: Limits, now: i64) {
        let kept_ms = match self.phase {
            Phase::Counting { failures: 0, .. } => return,
            Phase::Counting { .. } => limits.window_ms,
            Phase::Blocked { seconds, .. } => milliseconds(seconds) + limits.window_ms,
        };
        let (Phase::Counting { since, .. } | Phase::Blocked { since, .. }) = self.phase;
        if !is_within(since, kept_ms, now) {
            self.forget_failures();
        }
    }

    fn forget_failures(&mut self) {
        self.phase = Phase::default();
        self.failed_from = Vec::new();
    }
}

fn milliseconds(seconds: u32) -> i64 {
    i64::from(seconds) * 1000
}

//! The budget of an address: how many different tokens without a success may fail from there within a minute.

use std::net::{IpAddr, Ipv6Addr};

use proto::paddock::contract::v1::Reason;

use super::elapsed::is_within;

/// How long a failing token counts, in milliseconds.
pub const WINDOW_MS: i64 = 60_000;

/// The calls with fresh tokens that an address over its budget may still make in a second.
const TRICKLE_PER_SECOND: u32 = 5;

/// The prefix of an IPv6 address that one site has (RFC 4291, 2.5.1).
const SITE_MASK: u128 = !(u64::MAX as u128);

/// An IPv4 address, or the /64 network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressBlock(IpAddr);

impl AddressBlock {
    /// Returns the block of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & SITE_MASK)),
        })
    }
}

/// The failures of one address.
#[derive(Debug)]
pub struct AddressBudget {
    since: i64,
    failing_tokens: u32,
    last: Reason,
    trickle_since: i64,
    trickle: u32,
}

impl AddressBudget {
    /// Begins with no failures.
    pub fn new(now: i64) -> Self {
        Self { since: now, failing_tokens: 0, last: Reason::TooManyRequests, trickle_since: now, trickle: 0 }
    }

    /// Counts a failing token.
    pub fn charge(&mut self, reason: Reason, now: i64) {
        self.forget_lapsed(now);
        self.failing_tokens = self.failing_tokens.saturating_add(1);
        self.last = reason;
    }

    /// Returns for how long a call with a token without a success is refused, in milliseconds, and the last reason; none
    /// if the call may be made. `is_fresh` says that the token has not failed before.
    pub fn blocked_for(&mut self, most: u32, is_fresh: bool, now: i64) -> Option<(i64, Reason)> {
        self.forget_lapsed(now);
        if self.failing_tokens < most || (is_fresh && self.takes_trickle(now)) {
            return None;
        }
        Some((self.since + WINDOW_MS - now, self.last))
    }

    fn takes_trickle(&mut self, now: i64) -> bool {
        if !is_within(self.trickle_since, 1000, now) {
            self.trickle_since = now;
            self.trickle = 0;
        }
        let is_left = self.trickle < TRICKLE_PER_SECOND;
        if is_left {
            self.trickle += 1;
        }
        is_left
    }

    fn forget_lapsed(&mut self, now: i64) {
        if !is_within(self.since, WINDOW_MS, now) {
            self.since = now;
            self.failing_tokens = 0;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_site_of_ipv6_is_one_address() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let [one_block, other_block] = [one, other].map(|text| AddressBlock::of(text.parse().unwrap()));
            assert_eq!(one_block == other_block, same, "{one} {other}");
        }
    }

    #[test]
    fn over_the_budget_only_a_trickle_of_fresh_tokens_is_let_through() {
        let mut budget = AddressBudget::new(0);
        for at in 0..3 {
            assert_eq!(budget.blocked_for(3, false, at), None);
            budget.charge(Reason::RunnerTokenUnknown, at);
        }
        assert_eq!(budget.blocked_for(3, false, 10), Some((WINDOW_MS - 10, Reason::RunnerTokenUnknown)));
        let passed = (0..20).filter(|_| budget.blocked_for(3, true, 10).is_none()).count();
        assert_eq!(passed, TRICKLE_PER_SECOND as usize);
        assert_eq!(budget.blocked_for(3, true, 1010), None, "the next second");
        assert!(budget.blocked_for(3, false, 1010).is_some());
        assert_eq!(budget.blocked_for(3, false, WINDOW_MS), None, "the next minute");
    }

    #[test]
    fn a_clock_that_goes_backwards_ends_the_window() {
        let mut budget = AddressBudget::new(1_000_000);
        budget.charge(Reason::RunnerTokenUnknown, 1_000_000);
        assert!(budget.blocked_for(1, false, 1_000_001).is_some());
        assert_eq!(budget.blocked_for(1, false, 5), None);
    }
}

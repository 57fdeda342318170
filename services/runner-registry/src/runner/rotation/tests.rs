//! The life of a token as tables: every instant with one second either side. Random tokens show what holds for all of
//! them. The cases of several managers on one token are in `tests/rpc/runners/fleet_cases.rs`.

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
const SECOND: Duration = Duration::SECOND;
const OVERLAP: Duration = Duration::HOUR;
const BEFORE: Option<OffsetDateTime> = Some(datetime!(2026-01-01 11:59:59 UTC));
const AT: Option<OffsetDateTime> = Some(NOW);
const AFTER: Option<OffsetDateTime> = Some(datetime!(2026-01-01 12:00:01 UTC));

fn current() -> Token {
    Token {
        state: TokenState::Current,
        generation: 3,
        created_at: NOW - Duration::DAY,
        expires_at: None,
        rotation_deadline: None,
        retired_at: None,
    }
}

fn unused() -> Token {
    Token { state: TokenState::Successor, ..current() }
}

fn retiring(since: Duration) -> Token {
    Token { state: TokenState::Retiring, retired_at: Some(NOW - since), ..current() }
}

#[test]
fn the_state_and_the_instants_decide_whether_a_token_authenticates() {
    use Authentication::{Accepted, AcceptedAsSuccessor, Refused, Retiring};
    let cases = [
        (current(), Accepted),
        (unused(), AcceptedAsSuccessor),
        (Token { state: TokenState::Superseded, ..current() }, Refused(InactiveReason::Superseded)),
        (Token { state: TokenState::Revoked, ..current() }, Refused(InactiveReason::Revoked)),
        (Token { expires_at: AFTER, ..current() }, Accepted),
        (Token { expires_at: AT, ..current() }, Refused(InactiveReason::Expired)),
        (Token { expires_at: BEFORE, ..current() }, Refused(InactiveReason::Expired)),
        (Token { expires_at: AFTER, ..unused() }, AcceptedAsSuccessor),
        (Token { expires_at: AT, ..unused() }, Refused(InactiveReason::Expired)),
        // The deadline concerns the rotation alone.
        (Token { rotation_deadline: BEFORE, ..current() }, Accepted),
        (retiring(OVERLAP * 9), Retiring),
        (Token { expires_at: AFTER, ..retiring(OVERLAP * 9) }, Retiring),
        (Token { expires_at: AT, ..retiring(SECOND) }, Refused(InactiveReason::Expired)),
        (Token { state: TokenState::Superseded, expires_at: BEFORE, ..current() }, Refused(InactiveReason::Superseded)),
        (Token { state: TokenState::Revoked, expires_at: BEFORE, ..current() }, Refused(InactiveReason::Revoked)),
    ];
    for (token, expected) in cases {
        assert_eq!(authenticate(&token, OVERLAP, NOW), expected, "{token:?}");
    }
    let without_overlap = authenticate(&Token { expires_at: AFTER, ..retiring(SECOND) }, Duration::ZERO, NOW);
    assert_eq!(without_overlap, Refused(InactiveReason::Superseded));
}

#[test]
fn a_manager_uses_a_retiring_token_if_it_has_not_moved_and_was_seen_lately() {
    let expiring = Token { expires_at: AFTER, ..retiring(OVERLAP * 9) };
    let cases = [
        (retiring(SECOND), 0, OVERLAP * 9, true),
        (retiring(SECOND), 3, OVERLAP * 9, true),
        (retiring(SECOND), 4, SECOND, false),
        // Without an expiry the overlap counts from the retirement or the last contact, whatever is later.
        (retiring(OVERLAP - SECOND), 3, OVERLAP * 9, true),
        (retiring(OVERLAP), 3, OVERLAP * 9, false),
        (retiring(OVERLAP * 9), 3, OVERLAP - SECOND, true),
        (retiring(OVERLAP * 9), 3, OVERLAP, false),
        (expiring, 3, OVERLAP * 9, true),
        (expiring, 4, SECOND, false),
    ];
    for (token, generation, last_seen, expected) in cases {
        let manager = Manager { generation, contacted_at: NOW - last_seen };
        assert_eq!(may_use_retiring(&token, &manager, OVERLAP, NOW), expected, "{token:?} {manager:?}");
    }
}

#[test]
fn a_rotation_mints_repeats_or_is_refused() {
    // Minted a day ago, so that half of its life is over when another day is left.
    let half = Some(NOW + Duration::DAY);
    let less = Some(NOW + Duration::DAY - SECOND * 2);
    let late = Token { rotation_deadline: AT, ..current() };
    let cases = [
        (current(), None, Rotation::Mint),
        (Token { rotation_deadline: AFTER, ..current() }, None, Rotation::Mint),
        (late, None, Rotation::DeadlinePassed),
        (Token { rotation_deadline: BEFORE, ..current() }, None, Rotation::DeadlinePassed),
        (current(), Some(unused()), Rotation::SameSuccessor),
        (late, Some(unused()), Rotation::SameSuccessor),
        (current(), Some(Token { expires_at: half, ..unused() }), Rotation::SameSuccessor),
        (current(), Some(Token { expires_at: less, ..unused() }), Rotation::Mint),
        (late, Some(Token { expires_at: less, ..unused() }), Rotation::SameSuccessor),
        (current(), Some(Token { expires_at: AT, ..unused() }), Rotation::Mint),
        (late, Some(Token { expires_at: AT, ..unused() }), Rotation::DeadlinePassed),
        (retiring(SECOND), Some(unused()), Rotation::SameSuccessor),
        (retiring(SECOND), None, Rotation::Mint),
    ];
    for (token, successor, expected) in cases {
        assert_eq!(rotate(&token, successor.as_ref(), true, NOW), expected, "{token:?} {successor:?}");
    }
    // Beyond the limit of mints, an unused successor is returned however little of its life is left.
    assert_eq!(rotate(&current(), None, false, NOW), Rotation::Limited);
    let last = Token { expires_at: AFTER, ..unused() };
    assert_eq!(rotate(&current(), Some(&last), false, NOW), Rotation::SameSuccessor);
    assert_eq!(rotate(&current(), Some(&Token { expires_at: AT, ..unused() }), false, NOW), Rotation::Limited);
    assert_eq!(rotate(&late, None, false, NOW), Rotation::DeadlinePassed);
}

#[test]
fn each_manager_and_ten_more_may_mint() {
    let cases =
        [(0, 0, true), (9, 0, true), (10, 0, false), (10, 1, true), (11, 1, false), (u64::MAX, u64::MAX, false)];
    for (minted, managers, expected) in cases {
        assert_eq!(may_mint(minted, managers), expected, "{minted} {managers}");
    }
}

fn instants() -> impl Strategy<Value = Option<OffsetDateTime>> {
    proptest::option::of((-3i64..=3).prop_map(|seconds| NOW + Duration::seconds(seconds)))
}

fn tokens() -> impl Strategy<Value = Token> {
    let state = prop::sample::select(vec![
        TokenState::Current,
        TokenState::Successor,
        TokenState::Superseded,
        TokenState::Revoked,
        TokenState::Retiring,
    ]);
    (state, instants(), instants(), instants()).prop_map(|(state, expires_at, rotation_deadline, retired_at)| Token {
        state,
        expires_at,
        rotation_deadline,
        retired_at,
        ..current()
    })
}

proptest! {
    #[test]
    fn nothing_is_minted_from_the_deadline_on_or_beyond_the_limit(token in tokens(), successor in proptest::option::of(tokens())) {
        prop_assert_ne!(rotate(&token, successor.as_ref(), false, NOW), Rotation::Mint);
        if token.rotation_deadline.is_some_and(|deadline| deadline <= NOW) {
            prop_assert_ne!(rotate(&token, successor.as_ref(), true, NOW), Rotation::Mint);
        }
    }

    #[test]
    fn a_refused_token_stays_refused(token in tokens(), later in 0i64..10) {
        let overlap = SECOND * 2;
        if let Authentication::Refused(_) = authenticate(&token, overlap, NOW) {
            let later = authenticate(&token, overlap, NOW + Duration::seconds(later));
            prop_assert!(matches!(later, Authentication::Refused(_)));
        }
    }

    #[test]
    fn no_token_authenticates_after_its_expiry(token in tokens(), later in 0i64..10) {
        if let Some(expires_at) = token.expires_at {
            let decided = authenticate(&token, OVERLAP, expires_at + Duration::seconds(later));
            prop_assert!(matches!(decided, Authentication::Refused(_)));
        }
    }
}

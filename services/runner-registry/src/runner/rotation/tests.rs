//! The life of a token as tables: every instant with one second either side. Random tokens show what holds for all of
//! them.

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
const SECOND: Duration = Duration::SECOND;
const BEFORE: Option<OffsetDateTime> = Some(datetime!(2026-01-01 11:59:59 UTC));
const AT: Option<OffsetDateTime> = Some(NOW);
const AFTER: Option<OffsetDateTime> = Some(datetime!(2026-01-01 12:00:01 UTC));

fn current() -> Token {
    Token { state: TokenState::Current, expires_at: None, rotation_deadline: None, overlap_ends_at: None }
}

fn unused() -> Token {
    Token { state: TokenState::Successor, ..current() }
}

#[test]
fn the_state_and_the_instants_decide_whether_a_token_authenticates() {
    use Authentication::{Accepted, AcceptedAsSuccessor, Refused};
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
        (Token { overlap_ends_at: AFTER, ..current() }, Accepted),
        (Token { overlap_ends_at: AT, ..current() }, Refused(InactiveReason::Superseded)),
        (Token { overlap_ends_at: BEFORE, ..current() }, Refused(InactiveReason::Superseded)),
        // The deadline concerns the rotation alone.
        (Token { rotation_deadline: BEFORE, ..current() }, Accepted),
        // The client can still use the successor, so this reason comes before the expiry.
        (Token { overlap_ends_at: BEFORE, expires_at: BEFORE, ..current() }, Refused(InactiveReason::Superseded)),
        (Token { overlap_ends_at: AFTER, expires_at: BEFORE, ..current() }, Refused(InactiveReason::Expired)),
        (Token { state: TokenState::Superseded, expires_at: BEFORE, ..current() }, Refused(InactiveReason::Superseded)),
        (Token { state: TokenState::Revoked, expires_at: BEFORE, ..current() }, Refused(InactiveReason::Revoked)),
    ];
    for (token, expected) in cases {
        assert_eq!(authenticate(&token, NOW), expected, "{token:?}");
    }
}

#[test]
fn a_rotation_mints_repeats_or_is_refused() {
    let rotated = Token { overlap_ends_at: AFTER, ..current() };
    let cases = [
        (current(), None, false, Rotation::Mint),
        (Token { rotation_deadline: AFTER, ..current() }, None, false, Rotation::Mint),
        (Token { rotation_deadline: AT, ..current() }, None, false, Rotation::DeadlinePassed),
        (Token { rotation_deadline: BEFORE, ..current() }, None, false, Rotation::DeadlinePassed),
        (rotated, Some(unused()), false, Rotation::SameSuccessor),
        (Token { rotation_deadline: AT, ..rotated }, Some(unused()), false, Rotation::SameSuccessor),
        (
            Token { overlap_ends_at: AT, ..current() },
            Some(unused()),
            false,
            Rotation::Refused(InactiveReason::Superseded),
        ),
        // A successor that expired unused is replaced, unless the deadline forbids a new one.
        (rotated, Some(Token { expires_at: AFTER, ..unused() }), false, Rotation::SameSuccessor),
        (rotated, Some(Token { expires_at: AT, ..unused() }), false, Rotation::Mint),
        (
            Token { rotation_deadline: AT, ..rotated },
            Some(Token { expires_at: AT, ..unused() }),
            false,
            Rotation::DeadlinePassed,
        ),
        // Authentication comes first, then the project, then the deadline.
        (
            Token { expires_at: AT, rotation_deadline: AT, ..current() },
            None,
            true,
            Rotation::Refused(InactiveReason::Expired),
        ),
        (Token { rotation_deadline: AT, ..current() }, None, true, Rotation::Unassigned),
        (rotated, Some(unused()), true, Rotation::Unassigned),
    ];
    for (token, successor, unassigned, expected) in cases {
        assert_eq!(rotate(&token, successor.as_ref(), unassigned, NOW), expected, "{token:?} {successor:?}");
    }
}

#[test]
fn the_overlap_window_opens_once() {
    let hour = Duration::HOUR;
    assert_eq!(overlap_ends_at(&current(), hour, NOW), NOW + hour);
    let rotated = Token { overlap_ends_at: Some(NOW + SECOND), ..current() };
    assert_eq!(overlap_ends_at(&rotated, hour, NOW), NOW + SECOND);
    // Without a window the old token is refused from the instant of the rotation on.
    let ended = Token { overlap_ends_at: Some(overlap_ends_at(&current(), Duration::ZERO, NOW)), ..current() };
    assert_eq!(authenticate(&ended, NOW), Authentication::Refused(InactiveReason::Superseded));
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
    ]);
    (state, instants(), instants(), instants()).prop_map(|(state, expires_at, rotation_deadline, overlap_ends_at)| {
        Token { state, expires_at, rotation_deadline, overlap_ends_at }
    })
}

proptest! {
    #[test]
    fn what_does_not_authenticate_does_not_rotate(token in tokens(), successor in proptest::option::of(tokens()), unassigned: bool) {
        let rotation = rotate(&token, successor.as_ref(), unassigned, NOW);
        match authenticate(&token, NOW) {
            Authentication::Refused(dead) => prop_assert_eq!(rotation, Rotation::Refused(dead)),
            _ => prop_assert!(!matches!(rotation, Rotation::Refused(_))),
        }
    }

    #[test]
    fn nothing_is_minted_for_an_unassigned_runner_or_from_the_deadline_on(token in tokens(), successor in proptest::option::of(tokens())) {
        prop_assert_ne!(rotate(&token, successor.as_ref(), true, NOW), Rotation::Mint);
        if token.rotation_deadline.is_some_and(|deadline| deadline <= NOW) {
            prop_assert_ne!(rotate(&token, successor.as_ref(), false, NOW), Rotation::Mint);
        }
    }

    #[test]
    fn a_refused_token_stays_refused(token in tokens(), later in 0i64..10) {
        if let Authentication::Refused(_) = authenticate(&token, NOW) {
            let later = authenticate(&token, NOW + Duration::seconds(later));
            prop_assert!(matches!(later, Authentication::Refused(_)));
        }
    }
}

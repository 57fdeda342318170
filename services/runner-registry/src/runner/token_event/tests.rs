use sea_orm::Iterable as _;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-01-31 12:00 UTC);
const GENERATION: i32 = 3;

fn manager(is_named: bool, generation: i32, moved_before: Option<Duration>) -> Presenter {
    Presenter::Manager { is_named, generation, moved_at: moved_before.map(|before| NOW - before) }
}

/// The kind and grade of a refused use of a token of generation 3.
fn refused(reason: InactiveReason, presenter: Presenter) -> Option<(TokenEventKind, TokenEventGrade)> {
    Finding::refused_use(reason, GENERATION, &presenter, NOW).map(|finding| (finding.kind, finding.grade))
}

#[test]
fn who_presents_a_replaced_token_decides_about_the_event() {
    use TokenEventGrade::{High, Notice};
    use TokenEventKind::{UsedAfterEnd, WentBack};
    let milli = Duration::MILLISECOND;
    let cases = [
        (Presenter::Stranger, Some((UsedAfterEnd, High))),
        (Presenter::Rotation, Some((UsedAfterEnd, Notice))),
        (manager(true, GENERATION, None), Some((UsedAfterEnd, Notice))),
        (manager(true, 0, Some(milli)), Some((UsedAfterEnd, Notice))),
        (manager(false, GENERATION, None), Some((UsedAfterEnd, High))),
        (manager(true, GENERATION + 1, None), Some((WentBack, Notice))),
        (manager(true, GENERATION + 1, Some(CALLS_IN_FLIGHT)), Some((WentBack, Notice))),
        (manager(true, GENERATION + 1, Some(CALLS_IN_FLIGHT - milli)), None),
        (manager(true, GENERATION + 9, Some(Duration::ZERO)), None),
        (manager(false, GENERATION + 1, Some(CALLS_IN_FLIGHT)), Some((WentBack, Notice))),
        (manager(false, GENERATION + 1, Some(milli)), None),
        // The clock was ahead when it moved.
        (manager(true, GENERATION + 1, Some(-Duration::DAY)), None),
    ];
    for (presenter, expected) in cases {
        assert_eq!(refused(InactiveReason::Superseded, presenter), expected, "{presenter:?}");
    }
}

#[test]
fn an_expired_or_revoked_token_is_a_notice_whoever_presents_it() {
    let presenters =
        [Presenter::Stranger, Presenter::Rotation, manager(true, GENERATION, None), manager(true, 9, None)];
    for presenter in presenters {
        for reason in [InactiveReason::Expired, InactiveReason::Revoked] {
            let expected = Some((TokenEventKind::UsedAfterEnd, TokenEventGrade::Notice));
            assert_eq!(refused(reason, presenter), expected, "{reason:?} {presenter:?}");
        }
    }
}

#[test]
fn a_stranger_among_managers_who_uses_a_rotated_token_first_is_high() {
    use TokenEventGrade::{High, Info};
    use TokenEventKind::{FirstUsed, NewManager};
    for (is_known, has_others, grade) in
        [(true, true, Info), (true, false, Info), (false, false, Info), (false, true, High)]
    {
        assert_eq!(Finding::first_use(is_known, has_others), Finding { kind: FirstUsed, grade });
    }
    for (is_first_user, has_others, kind, grade) in [
        (true, true, FirstUsed, High),
        (true, false, NewManager, Info),
        (false, true, NewManager, Info),
        (false, false, NewManager, Info),
    ] {
        assert_eq!(Finding::arrival(is_first_user, has_others), Finding { kind, grade });
    }
}

#[test]
fn rows_messages_and_names_agree() {
    for kind in TokenEventKind::iter() {
        assert_eq!(TokenEventKind::from_message(kind.message()), Some(kind));
        assert_eq!(kind.message().as_str_name(), format!("TOKEN_EVENT_KIND_{}", kind.name().to_uppercase()));
    }
    for grade in TokenEventGrade::iter() {
        assert_eq!(TokenEventGrade::from_message(grade.message()), Some(grade));
        assert_eq!(grade.message().as_str_name(), format!("TOKEN_EVENT_GRADE_{}", grade.name().to_uppercase()));
    }
    assert_eq!(TokenEventKind::from_message(message::TokenEventKind::Unspecified), None);
    assert_eq!(TokenEventGrade::from_message(message::TokenEventGrade::Unspecified), None);
}

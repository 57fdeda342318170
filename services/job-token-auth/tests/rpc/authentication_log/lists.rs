//! The content of the lists, and the rows that the filters select.

use std::time::Duration;

use prost_types::Timestamp;
use proto::paddock::{
    directory::v1::Visibility,
    job_token::v1::{
        AccessEvent, AuthenticationLogEntry, CaptureMode, Direction, FlushRequest,
        JobTokenPolicy::{self, AdminJobs, ReadJobs, ReadPackages},
        ListAccessEventsRequest, ListAuthenticationLogRequest, LoggedPolicy, LoggedProject, ObjectState,
    },
};

use super::{Access, ROUTE, execute, minutes_ago, record, record_unresolved};
use crate::support::{ALICE, Actor, Answer as _, Service, both_databases, question};

fn pairs() -> ListAuthenticationLogRequest {
    ListAuthenticationLogRequest { id: "20".to_owned(), ..Default::default() }
}

fn events() -> ListAccessEventsRequest {
    ListAccessEventsRequest { id: "20".to_owned(), ..Default::default() }
}

async fn list(actor: &Actor, request: ListAuthenticationLogRequest) -> Vec<AuthenticationLogEntry> {
    actor.log().list_authentication_log(request).await.answer().entries
}

async fn list_events(actor: &Actor, request: ListAccessEventsRequest) -> Vec<AccessEvent> {
    actor.log().list_access_events(request).await.answer().events
}

/// The ids of the projects on the other side of an inbound list.
async fn origins(service: &Service, request: ListAuthenticationLogRequest) -> Vec<i64> {
    list(&service.alice(), request).await.into_iter().map(|entry| entry.origin_project.unwrap().id).collect()
}

async fn numbers(service: &Service, request: ListAccessEventsRequest) -> Vec<u32> {
    let events = list_events(&service.alice(), request).await;
    events.iter().map(|event| event.id[24..].parse().unwrap()).collect()
}

fn shown(id: i64, path: &str) -> LoggedProject {
    let name = path.rsplit('/').next().unwrap();
    LoggedProject {
        id,
        name: Some(name.to_uppercase()),
        path: Some(name.to_owned()),
        path_with_namespace: Some(path.to_owned()),
        state: ObjectState::Visible.into(),
    }
}

fn nameless(id: i64, state: ObjectState) -> LoggedProject {
    LoggedProject { id, state: state.into(), ..Default::default() }
}

fn numbers_of(policies: &[JobTokenPolicy]) -> Vec<i32> {
    policies.iter().map(|policy| (*policy).into()).collect()
}

fn time_of(access: Access) -> Option<Timestamp> {
    Some(proto::timestamp::from_millis(access.at))
}

fn last_use(policy: JobTokenPolicy, access: Access) -> LoggedPolicy {
    LoggedPolicy { policy: policy.into(), last_authorized_at: time_of(access) }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The event of an access by a job of project 10 to project 20 under `admin_jobs` and `read_jobs`.
fn event(access: Access, resolved: bool, status: i32) -> AccessEvent {
    AccessEvent {
        id: access.id(),
        origin_project: Some(shown(10, "shop/app")),
        accessed_project: Some(shown(20, "tools/charts")),
        accessed_at: time_of(access),
        job_id: 7,
        user_id: ALICE,
        route: ROUTE.to_owned(),
        job_token_policies: numbers_of(&[AdminJobs, ReadJobs]),
        status,
        capture_mode: CaptureMode::Strict.into(),
        request_id: format!("request-{}", access.number),
        remote_ip: Some(format!("192.0.2.{}", access.number)),
        resolved,
    }
}

/// The origins of the pairs, which must be those of the events as well.
async fn listed_origins(actor: Actor) -> Vec<LoggedProject> {
    let entries = list(&actor, pairs()).await;
    let projects: Vec<_> = entries.into_iter().map(|entry| entry.origin_project.unwrap()).collect();
    let events = list_events(&actor, events()).await;
    let in_events: Vec<_> = events.into_iter().map(|event| event.origin_project.unwrap()).collect();
    assert_eq!(projects, in_events);
    projects
}

/// The last digit of the id, the user, and whether there is an address.
type EventFields = (String, i64, bool);

async fn event_fields(actor: Actor, request: ListAccessEventsRequest) -> Vec<EventFields> {
    let events = list_events(&actor, request).await.into_iter();
    let mut fields: Vec<_> =
        events.map(|event| (event.id[35..].to_owned(), event.user_id, event.remote_ip.is_some())).collect();
    fields.sort();
    fields
}

fn with_user(number: &str) -> EventFields {
    (number.to_owned(), ALICE, true)
}

fn without_user(number: &str) -> EventFields {
    (number.to_owned(), 0, false)
}

/// The origins of the pairs, and the users of their latest access.
async fn last_users(actor: Actor) -> Vec<(i64, i64)> {
    let entries = list(&actor, pairs()).await.into_iter();
    entries.map(|entry| (entry.origin_project.unwrap().id, entry.last_user_id)).collect()
}

/// Creates three projects that alice maintains, one that she does not see, and one that she sees.
fn set_up(service: &Service) {
    service.project(20, "tools/charts", None);
    service.project(21, "tools/other", None);
    service.project(10, "shop/app", None);
    service.registry.project(11, "shop/hidden", None, Visibility::Private);
    service.registry.project(12, "shop/open", None, Visibility::Internal);
}

both_databases! {
    async fn a_pair_shows_all_its_accesses(service) {
        set_up(service);
        let first = Access { at: minutes_ago(60), policies: &[ReadJobs, ReadPackages], ..Default::default() };
        let last = Access { number: 2, at: minutes_ago(10), job: 8, user: 1, ..Default::default() };
        record(service, &[first, last]).await;
        let expected = AuthenticationLogEntry {
            origin_project: Some(shown(10, "shop/app")),
            accessed_project: Some(shown(20, "tools/charts")),
            last_authorized_at: time_of(last),
            job_token_policies: numbers_of(&[ReadJobs, ReadPackages]),
            job_token_policies_last_used: vec![last_use(ReadJobs, last), last_use(ReadPackages, first)],
            first_authorized_at: time_of(first),
            access_count: 2,
            last_job_id: 8,
            last_user_id: 1,
        };
        assert_eq!(list(&service.alice(), pairs()).await, [expected]);
    }

    async fn the_latest_pair_comes_first_and_both_sides_can_be_asked_for(service) {
        set_up(service);
        record(service, &[
            Access { number: 1, origin: 10, at: minutes_ago(3), ..Default::default() },
            Access { number: 2, origin: 12, at: minutes_ago(1), ..Default::default() },
            Access { number: 3, origin: 21, at: minutes_ago(2), ..Default::default() },
            Access { number: 4, origin: 20, target: 10, ..Default::default() },
            Access { number: 5, origin: 10, target: 21, ..Default::default() },
        ]).await;
        assert_eq!(origins(service, pairs()).await, [12, 21, 10]);
        assert_eq!(numbers(service, events()).await, [2, 3, 1]);
        let outbound = Some(Direction::Outbound.into());
        let entries = list(&service.alice(), ListAuthenticationLogRequest { direction: outbound, ..pairs() }).await;
        let reached: Vec<_> = entries.into_iter().map(|entry| entry.accessed_project.unwrap().id).collect();
        assert_eq!(reached, [10]);
        assert_eq!(numbers(service, ListAccessEventsRequest { direction: outbound, ..events() }).await, [4]);
        let inbound = Some(Direction::Inbound.into());
        assert_eq!(origins(service, ListAuthenticationLogRequest { direction: inbound, ..pairs() }).await, [12, 21, 10]);
    }

    async fn filters_leave_the_pairs_that_fit_all_of_them(service) {
        set_up(service);
        record(service, &[
            Access { number: 1, origin: 10, at: minutes_ago(60), ..Default::default() },
            Access { number: 2, origin: 12, at: minutes_ago(30), policies: &[ReadPackages], ..Default::default() },
            Access { number: 3, origin: 21, at: minutes_ago(10), policies: &[], ..Default::default() },
        ]).await;
        let none = pairs();
        for (request, expected) in [
            (none.clone(), vec![21, 12, 10]),
            (ListAuthenticationLogRequest { other_project_id: Some(12), ..none.clone() }, vec![12]),
            (ListAuthenticationLogRequest { other_project_id: Some(99), ..none.clone() }, vec![]),
            (ListAuthenticationLogRequest { policy: Some(ReadJobs.into()), ..none.clone() }, vec![10]),
            (ListAuthenticationLogRequest { policy: Some(AdminJobs.into()), ..none.clone() }, vec![]),
            (ListAuthenticationLogRequest { since: text("2026-01-15T11:30:00Z"), ..none.clone() }, vec![21, 12]),
            (ListAuthenticationLogRequest { until: text("2026-01-15T11:30:00Z"), ..none.clone() }, vec![10]),
            (ListAuthenticationLogRequest { since: text("2026-01-15 12:30:00 +01:00"), ..none.clone() }, vec![21, 12]),
            (ListAuthenticationLogRequest { since: text("2026-01-16"), ..none.clone() }, vec![]),
            (
                ListAuthenticationLogRequest {
                    since: text("2026-01-15"),
                    until: text("2026-01-16"),
                    policy: Some(ReadPackages.into()),
                    ..none.clone()
                },
                vec![12],
            ),
            (ListAuthenticationLogRequest { id: "tools/charts".to_owned(), ..none }, vec![21, 12, 10]),
        ] {
            assert_eq!(origins(service, request.clone()).await, expected, "{request:?}");
        }
    }

    async fn filters_leave_the_events_that_fit_all_of_them(service) {
        set_up(service);
        record(service, &[
            Access { number: 1, at: minutes_ago(60), ..Default::default() },
            Access { number: 2, at: minutes_ago(50), policies: &[AdminJobs, ReadJobs], ..Default::default() },
            Access { number: 3, at: minutes_ago(40), policies: &[AdminJobs, ReadJobs, ReadPackages], ..Default::default() },
            Access { number: 4, at: minutes_ago(30), policies: &[ReadJobs, ReadPackages], job: 8, ..Default::default() },
            Access { number: 5, origin: 12, at: minutes_ago(20), policies: &[ReadPackages], user: 1, ..Default::default() },
            Access { number: 6, at: minutes_ago(10), policies: &[], ..Default::default() },
        ]).await;
        let none = events();
        for (request, expected) in [
            (none.clone(), vec![6, 5, 4, 3, 2, 1]),
            // At any index of the list of policies.
            (ListAccessEventsRequest { policy: Some(ReadJobs.into()), ..none.clone() }, vec![4, 3, 2, 1]),
            (ListAccessEventsRequest { policy: Some(AdminJobs.into()), ..none.clone() }, vec![3, 2]),
            (ListAccessEventsRequest { policy: Some(ReadPackages.into()), ..none.clone() }, vec![5, 4, 3]),
            (ListAccessEventsRequest { job_id: Some(8), ..none.clone() }, vec![4]),
            (ListAccessEventsRequest { user_id: Some(1), ..none.clone() }, vec![5]),
            (ListAccessEventsRequest { other_project_id: Some(12), ..none.clone() }, vec![5]),
            (ListAccessEventsRequest { other_project_id: Some(10), job_id: Some(7), ..none.clone() }, vec![6, 3, 2, 1]),
            (ListAccessEventsRequest { since: text("2026-01-15T11:20:00Z"), ..none.clone() }, vec![6, 5, 4, 3]),
            (ListAccessEventsRequest { until: text("2026-01-15T11:20:00Z"), ..none.clone() }, vec![2, 1]),
            (ListAccessEventsRequest { unresolved: Some(false), ..none.clone() }, vec![6, 5, 4, 3, 2, 1]),
            (ListAccessEventsRequest { unresolved: Some(true), ..none }, vec![]),
        ] {
            assert_eq!(numbers(service, request.clone()).await, expected, "{request:?}");
        }
    }

    async fn an_event_has_all_details_of_the_access(service) {
        set_up(service);
        let access = Access { number: 9, policies: &[AdminJobs, ReadJobs], ..Default::default() };
        record(service, &[access]).await;
        let unresolved = Access { number: 10, ..access };
        record_unresolved(service, &unresolved).await;
        assert_eq!(list_events(&service.alice(), events()).await, [event(access, true, 200)]);
        let asked = ListAccessEventsRequest { unresolved: Some(true), ..events() };
        assert_eq!(list_events(&service.alice(), asked).await, [event(unresolved, false, 0)]);
        // A request without a verdict is not an access.
        assert_eq!(list(&service.alice(), pairs()).await[0].access_count, 1);
        execute(service, "UPDATE access_events SET remote_ip = ''").await;
        assert_eq!(list_events(&service.alice(), events()).await[0].remote_ip, None);
    }

    async fn a_request_that_reached_several_projects_has_an_event_for_each(service) {
        set_up(service);
        let access = Access { origin: 10, ..Default::default() };
        record(service, &[access, Access { target: 21, ..access }, Access { target: 12, ..access }]).await;
        let outbound = Some(Direction::Outbound.into());
        let request = ListAccessEventsRequest { id: "10".to_owned(), direction: outbound, ..Default::default() };
        let events = list_events(&service.alice(), request).await;
        let targets: Vec<_> = events.iter().map(|event| (event.accessed_project.as_ref().unwrap().id, &event.id)).collect();
        assert_eq!(targets, [(21, &access.id()), (20, &access.id()), (12, &access.id())]);
        assert_eq!(numbers(service, self::events()).await, [1]);
    }

    async fn hidden_and_deleted_projects_are_shown_by_their_ids(service) {
        set_up(service);
        record(service, &[
            Access { number: 1, origin: 11, at: minutes_ago(3), ..Default::default() },
            Access { number: 2, origin: 13, at: minutes_ago(2), ..Default::default() },
            Access { number: 3, origin: 14, at: minutes_ago(1), ..Default::default() },
        ]).await;
        execute(service, "INSERT INTO known_projects VALUES (13, 'shop/gone', 0), (11, 'shop/old', 0)").await;
        let [hidden, deleted] = [ObjectState::Hidden, ObjectState::Deleted];
        let expected = [nameless(14, deleted), nameless(13, deleted), nameless(11, hidden)];
        assert_eq!(listed_origins(service.alice()).await, expected);
        let last_known = LoggedProject { path_with_namespace: Some("shop/gone".to_owned()), ..nameless(13, deleted) };
        let expected = [nameless(14, deleted), last_known, shown(11, "shop/hidden")];
        assert_eq!(listed_origins(service.root()).await, expected);
    }

    async fn users_of_projects_that_the_caller_does_not_see_are_hidden(service) {
        set_up(service);
        for (number, origin, target) in [(1, 10, 20), (2, 11, 20), (3, 13, 20), (4, 20, 11)] {
            record(service, &[Access { number, origin, target, ..Default::default() }]).await;
        }
        // Project 11 is hidden and 13 is deleted. An administrator sees everything.
        assert_eq!(event_fields(service.alice(), events()).await, [with_user("1"), without_user("2"), without_user("3")]);
        assert_eq!(event_fields(service.root(), events()).await, [with_user("1"), with_user("2"), with_user("3")]);
        // The filter by user does not reveal it either.
        let by_user = ListAccessEventsRequest { user_id: Some(ALICE), ..events() };
        assert_eq!(event_fields(service.alice(), by_user.clone()).await, [with_user("1")]);
        assert_eq!(event_fields(service.root(), by_user).await.len(), 3);
        // Jobs of a project that the caller sees are shown, whatever they reached.
        let outbound = ListAccessEventsRequest { direction: Some(Direction::Outbound.into()), ..events() };
        assert_eq!(event_fields(service.alice(), outbound).await, [with_user("4")]);
        assert_eq!(last_users(service.alice()).await, [(13, 0), (11, 0), (10, ALICE)]);
        assert_eq!(last_users(service.root()).await, [(13, ALICE), (11, ALICE), (10, ALICE)]);
    }

    async fn an_access_that_succeeded_is_in_the_log(service) {
        set_up(service);
        service.allow(20, 10).await;
        let (job, token) = service.running_job(10).await;
        let mut gateway = service.gateway().authorization();
        let asked = question(&token, &["tools/charts"], &[ReadJobs]);
        let capture = gateway.authorize(asked).await.answer().capture.unwrap();
        assert_eq!(list_events(&service.alice(), events()).await, []);
        gateway.flush(FlushRequest { capture: Some(capture.clone()), status: 302 }).await.answer();
        let arrival = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            loop {
                ticks.tick().await;
                let events = list_events(&service.alice(), events()).await;
                if !events.is_empty() {
                    return events;
                }
            }
        };
        let logged = tokio::time::timeout(Duration::from_secs(30), arrival).await.expect("the event arrives");
        let event = (logged.len(), logged[0].id.as_str(), logged[0].status, logged[0].job_id);
        assert_eq!(event, (1, capture.id.as_str(), 302, job.id));
        let entries = list(&service.alice(), pairs()).await;
        assert_eq!((entries.len(), entries[0].access_count, entries[0].last_job_id), (1, 1, job.id));
        assert_eq!(entries[0].last_authorized_at, logged[0].accessed_at);
        assert_eq!(entries[0].job_token_policies, numbers_of(&[ReadJobs]));
    }
}

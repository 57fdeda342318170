//! Pages of the lists, also while rows are added.

use std::collections::HashSet;

use proto::paddock::{
    job_token::v1::{ListAccessEventsRequest, ListAuthenticationLogRequest},
    page::v1::Cursor,
};

use super::{Access, minutes_ago, record};
use crate::support::{Answer as _, Service, both_databases};

/// Accesses, some of which have the same time.
fn accesses(count: u32) -> Vec<Access> {
    let accesses = (1..=count).map(|number| Access {
        number,
        origin: 1000 + i64::from(number * 7 % count),
        at: minutes_ago(i64::from(number % 4)),
        ..Default::default()
    });
    accesses.collect()
}

async fn pair_page(service: &Service, cursor: Option<String>, per_page: Option<i32>) -> (Vec<i64>, Cursor) {
    let request = ListAuthenticationLogRequest { id: "20".to_owned(), cursor, per_page, ..Default::default() };
    let answer = service.alice().log().list_authentication_log(request).await.answer();
    let ids = answer.entries.into_iter().map(|entry| entry.origin_project.unwrap().id);
    (ids.collect(), answer.cursor.unwrap())
}

async fn event_page(service: &Service, cursor: Option<String>, per_page: Option<i32>) -> (Vec<String>, Cursor) {
    let request = ListAccessEventsRequest { id: "20".to_owned(), cursor, per_page, ..Default::default() };
    let answer = service.alice().log().list_access_events(request).await.answer();
    (answer.events.into_iter().map(|event| event.id).collect(), answer.cursor.unwrap())
}

both_databases! {
    async fn pages_hold_every_row_once_in_the_order_of_the_list(service) {
        service.project(20, "tools/charts", None);
        record(service, &accesses(11)).await;
        let (all_pairs, end) = pair_page(service, None, Some(100)).await;
        assert_eq!((all_pairs.len(), end), (11, Cursor { per_page: 100, next: None }));
        let (all_events, _) = event_page(service, None, None).await;
        for per_page in [1, 2, 3, 5, 10, 11] {
            let mut pairs = Vec::new();
            let mut events = Vec::new();
            let mut after_pair = None;
            let mut after_event = None;
            loop {
                let (page, cursor) = pair_page(service, after_pair, Some(per_page)).await;
                assert!(page.len() <= usize::try_from(per_page).unwrap() && !page.is_empty());
                pairs.extend(page);
                let (page, event_cursor) = event_page(service, after_event, Some(per_page)).await;
                events.extend(page);
                assert_eq!(cursor.next.is_some(), event_cursor.next.is_some());
                after_pair = cursor.next;
                after_event = event_cursor.next;
                if after_pair.is_none() {
                    break;
                }
            }
            assert_eq!(pairs, all_pairs, "{per_page}");
            assert_eq!(events, all_events, "{per_page}");
        }
    }

    async fn new_rows_do_not_shift_the_pages(service) {
        service.project(20, "tools/charts", None);
        record(service, &accesses(12)).await;
        let (all_pairs, _) = pair_page(service, None, None).await;
        let (all_events, _) = event_page(service, None, None).await;
        let (mut pairs, after_pair) = pair_page(service, None, Some(5)).await;
        let (mut events, after_event) = event_page(service, None, Some(5)).await;
        for number in 100..106 {
            let access = Access { number, origin: 2000 + i64::from(number), at: minutes_ago(0), ..Default::default() };
            record(service, &[access]).await;
        }
        pairs.extend(pair_page(service, after_pair.next, Some(100)).await.0);
        events.extend(event_page(service, after_event.next, Some(100)).await.0);
        // A new event with the time of the cursor can come after it. No other event is missing or repeated.
        pairs.retain(|id| *id < 2000);
        events.retain(|id| all_events.contains(id));
        assert_eq!((pairs, events), (all_pairs, all_events));
    }

    async fn a_page_holds_twenty_items_by_default_and_at_most_a_hundred(service) {
        service.project(20, "tools/charts", None);
        record(service, &accesses(103)).await;
        for (per_page, expected) in [(None, 20), (Some(1), 1), (Some(100), 100), (Some(101), 100), (Some(i32::MAX), 100)] {
            let (pairs, cursor) = pair_page(service, None, per_page).await;
            let (events, event_cursor) = event_page(service, None, per_page).await;
            assert_eq!((pairs.len(), events.len()), (expected, expected), "{per_page:?}");
            assert_eq!((cursor.per_page, event_cursor.per_page), (expected as i32, expected as i32));
            assert!(cursor.next.is_some() && event_cursor.next.is_some());
            assert_eq!(HashSet::<i64>::from_iter(pairs).len(), expected);
        }
    }

    async fn a_cursor_of_another_list_is_refused(service) {
        service.project(20, "tools/charts", None);
        record(service, &accesses(3)).await;
        let of_pairs = pair_page(service, None, Some(1)).await.1.next.unwrap();
        let of_events = event_page(service, None, Some(1)).await.1.next.unwrap();
        let mut client = service.alice().log();
        let id = "20".to_owned();
        for (for_pairs, for_events) in [
            (of_events.clone(), of_pairs.clone()),
            (String::new(), String::new()),
            ("2".to_owned(), "2".to_owned()),
            (format!("{of_pairs}="), format!("{of_events}%")),
            (of_pairs[..of_pairs.len() - 1].to_owned() + "\0", "' OR 1=1 --".to_owned()),
        ] {
            let request = ListAuthenticationLogRequest { id: id.clone(), cursor: Some(for_pairs), ..Default::default() };
            let pairs = client.list_authentication_log(request).await.refusal();
            let request = ListAccessEventsRequest { id: id.clone(), cursor: Some(for_events), ..Default::default() };
            let events = client.list_access_events(request).await.refusal();
            for refusal in [pairs, events] {
                let refusal = (refusal.spec().code, refusal.message());
                assert_eq!(refusal, ("parameter_invalid", "cursor does not have a valid value"));
            }
        }
    }
}

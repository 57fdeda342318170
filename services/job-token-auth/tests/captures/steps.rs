//! The effect of each step of a capture on the log.

use CaptureMode::{BestEffort, Spool, Strict};
use proto::paddock::job_token::v1::{Capture, CaptureMode};
use time::Duration;

use crate::support::{capture, captures, eventually, every_store, ids};

every_store! {
    async fn an_access_is_recorded_in_every_mode(world) {
        let running = world.start().await;
        let mut expected = Vec::new();
        for mode in [Strict, Spool, BestEffort] {
            let capture = capture(mode);
            running.captures.begin(&capture).await.unwrap();
            expected.push(capture.id.clone());
            running.captures.flush(capture, 302).await.unwrap();
        }
        world.logs(&expected).await;
        assert!(world.events().await.values().all(|events| events[0].1 == 302));
        eventually("nothing is pending", async || world.pending().await == 0).await;
        running.stop().await;
    }

    async fn a_flush_needs_no_pending_capture_and_repeats_without_effect(world) {
        let running = world.start().await;
        let mut expected = Vec::new();
        for mode in [Strict, Spool] {
            let capture = capture(mode);
            expected.push(capture.id.clone());
            for _ in 0..3 {
                running.captures.flush(capture.clone(), 200).await.unwrap();
            }
        }
        running.stop().await;
        // The records that the spool shipped last may stay in Redis for the next process.
        let running = world.start().await;
        world.logs(&expected).await;
        running.stop().await;
    }

    async fn a_discarded_capture_leaves_nothing(world) {
        let running = world.start().await;
        for mode in [Strict, Spool, BestEffort] {
            let capture = capture(mode);
            running.captures.begin(&capture).await.unwrap();
            running.captures.discard(&capture.id).await.unwrap();
        }
        assert_eq!(world.pending().await, 0);
        world.clock.advance(Duration::days(2));
        let witness = capture(Strict);
        running.captures.begin(&witness).await.unwrap();
        world.clock.advance(Duration::days(2));
        eventually("the witness is unresolved", async || world.unresolved().await == [witness.id.clone()]).await;
        world.logs(&[]).await;
        running.stop().await;
    }

    async fn a_capture_without_a_verdict_becomes_unresolved_and_a_late_flush_makes_it_an_access(world) {
        let running = world.start().await;
        let two_targets = Capture { target_project_ids: vec![7, 8], ..capture(Strict) };
        let other = capture(Strict);
        running.captures.begin(&two_targets).await.unwrap();
        running.captures.begin(&other).await.unwrap();
        world.clock.advance(Duration::seconds(899));
        running.captures.begin(&capture(Strict)).await.unwrap();
        world.clock.advance(Duration::seconds(1));
        let mut overdue = vec![two_targets.id.clone(), two_targets.id.clone(), other.id.clone()];
        overdue.sort();
        eventually("two are unresolved", async || world.unresolved().await == overdue).await;
        assert_eq!(world.pending().await, 1, "the third still has time");
        assert!(world.events().await.is_empty(), "an unresolved request is not an access");

        running.captures.flush(two_targets.clone(), 200).await.unwrap();
        world.logs(&[two_targets.id]).await;
        eventually("one is unresolved", async || world.unresolved().await == [other.id.clone()]).await;
        running.stop().await;
    }

    async fn a_request_to_several_projects_has_an_event_for_each(world) {
        let running = world.start().await;
        let several = Capture { target_project_ids: vec![9, 7, 8, 7], ..capture(Strict) };
        running.captures.begin(&several).await.unwrap();
        running.captures.flush(several.clone(), 206).await.unwrap();
        world.logs(std::slice::from_ref(&several.id)).await;
        assert_eq!(world.events().await[&several.id], [(7, 206), (8, 206), (9, 206)]);
        running.stop().await;
    }

    async fn the_view_has_the_latest_access_whatever_the_order_of_arrival(world) {
        let running = world.start().await;
        let mut early = Capture { target_project_ids: vec![7], ..capture(Strict) };
        let mut late = Capture { target_project_ids: vec![7], ..capture(Strict) };
        early.user_id = 11;
        late.user_id = 22;
        let last = late.job_id;
        for capture in [late, early] {
            running.captures.flush(capture.clone(), 200).await.unwrap();
            eventually("it is in the log", async || world.events().await.contains_key(&capture.id)).await;
        }
        let row = &world.query("SELECT last_job_id, last_user_id, access_count FROM access_pairs").await[0];
        let values: [i64; 3] = [0, 1, 2].map(|at| row.try_get_by_index(at).unwrap());
        assert_eq!(values, [last, 22, 2]);
        let policies = world.query("SELECT policy, last_authorized_at FROM access_pair_policies").await;
        assert_eq!(policies.len(), 1, "both used the same policy");
        running.stop().await;
    }

    async fn many_callers_at_once_lose_nothing(world) {
        let running = world.start().await;
        let all: Vec<_> = [Strict, Spool].into_iter().flat_map(|mode| captures(mode, 1000)).collect();
        let calls = all.iter().map(|capture| async {
            running.captures.begin(capture).await.unwrap();
            running.captures.flush(capture.clone(), 200).await.unwrap();
        });
        futures::future::join_all(calls).await;
        world.logs(&ids(&all)).await;
        running.stop().await;
    }

    async fn a_text_that_postgres_cannot_keep_does_not_stop_the_log(world) {
        let running = world.start().await;
        let odd = Capture { request_id: "a\0b".to_owned(), remote_ip: "\0".to_owned(), ..capture(Strict) };
        let plain = capture(Strict);
        running.captures.flush(odd.clone(), 200).await.unwrap();
        running.captures.flush(plain.clone(), 200).await.unwrap();
        world.logs(&[odd.id, plain.id]).await;
        running.stop().await;
    }

    async fn an_id_that_is_not_a_uuid_is_a_fault_and_changes_nothing(world) {
        let running = world.start().await;
        for id in ["", "1", "urn:uuid:67e55044-10b1-426f-9247-bb680e5fe0c8", "67e55044-10b1-426f-9247-bb680e5fe0cx"] {
            let odd = Capture { id: id.to_owned(), ..capture(Strict) };
            running.captures.begin(&odd).await.unwrap_err();
            running.captures.discard(id).await.unwrap_err();
            running.captures.flush(odd, 200).await.unwrap_err();
        }
        let good = capture(Strict);
        running.captures.flush(good.clone(), 200).await.unwrap();
        world.logs(&[good.id]).await;
        running.stop().await;
    }
}

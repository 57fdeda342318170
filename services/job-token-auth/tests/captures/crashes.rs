//! Processes that are killed at every step of a capture: the log has each acknowledged access once, and no others.

use std::sync::{Arc, Mutex};

use CaptureMode::{Spool, Strict};
use proto::paddock::job_token::v1::{Capture, CaptureMode};
use time::Duration;

use crate::support::{Running, World, capture, captures, eventually, every_store, flush_all, ids, redis_store};

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    Flush,
    Discard,
}
use Step::{Begin, Discard, Flush};

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Access,
    Unresolved,
    Nothing,
}
use End::{Access, Nothing, Unresolved};

/// The steps of a capture before its process is killed and after the next one has started, and the outcome.
type Life = (&'static [Step], &'static [Step], End);

/// The steps before the process is killed, the steps after the next one has started, and the outcome.
const LIVES: [Life; 12] = [
    (&[Begin], &[], Unresolved),
    (&[Begin], &[Flush], Access),
    (&[Begin], &[Discard], Nothing),
    (&[Begin, Flush], &[], Access),
    (&[Begin, Flush], &[Flush], Access),
    (&[Begin, Flush], &[Discard], Access),
    (&[Begin, Discard], &[], Nothing),
    (&[Begin, Discard], &[Discard], Nothing),
    (&[Flush], &[], Access),
    (&[Flush], &[Begin], Access),
    (&[], &[Flush], Access),
    (&[], &[Discard], Nothing),
];

async fn take_steps(running: &Running, steps: &[Step], capture: &Capture) {
    for step in steps {
        match step {
            Begin => running.captures.begin(capture).await.unwrap(),
            Flush => running.captures.flush(capture.clone(), 200).await.unwrap(),
            Discard => running.captures.discard(&capture.id).await.unwrap(),
        }
    }
}

async fn a_crash_in_every_life(world: &World, mode: CaptureMode) {
    let lives: Vec<_> = LIVES.iter().map(|life| (life, capture(mode))).collect();
    let running = world.start().await;
    for ((before, _, _), capture) in &lives {
        take_steps(&running, before, capture).await;
    }
    running.kill().await;
    let running = world.start().await;
    for ((_, after, _), capture) in &lives {
        take_steps(&running, after, capture).await;
    }
    let accesses = ids_ending_as(Access, &lives);
    let unresolved = ids_ending_as(Unresolved, &lives);
    world.logs(&accesses).await;
    world.clock.advance(Duration::days(1));
    eventually("the rest is unresolved", async || world.unresolved().await == unresolved).await;
    eventually("nothing is pending", async || world.pending().await == 0).await;
    world.logs(&accesses).await;
    assert_eq!(world.gaps().await, []);
    running.stop().await;
}

fn ids_ending_as(end: End, lives: &[(&Life, Capture)]) -> Vec<String> {
    let captures = lives.iter().filter(|(life, _)| life.2 == end).map(|(_, capture)| capture);
    let mut ids: Vec<_> = captures.map(|capture| capture.id.clone()).collect();
    ids.sort();
    ids
}

every_store! {
    async fn a_killed_process_leaves_every_strict_capture_where_it_was(world) {
        a_crash_in_every_life(world, Strict).await;
    }

    async fn a_process_killed_under_load_loses_nothing_that_it_acknowledged(world) {
        let mut sent = Vec::new();
        let mut accepted = Vec::new();
        for round in 1..=3 {
            let running = Arc::new(world.start().await);
            let answered = Arc::new(Mutex::new(Vec::new()));
            let load: Vec<_> = [Strict, Spool].into_iter().flat_map(|mode| captures(mode, 300)).collect();
            sent.extend(ids(&load));
            let calls: Vec<_> = load.into_iter().map(|capture| {
                let running = Arc::clone(&running);
                let answered = Arc::clone(&answered);
                tokio::spawn(async move {
                    running.captures.begin(&capture).await?;
                    running.captures.flush(capture.clone(), 200).await?;
                    answered.lock().unwrap().push(capture.id);
                    Ok::<_, chassis::status::Fault>(())
                })
            }).collect();
            eventually("some are answered", async || answered.lock().unwrap().len() >= round * 150).await;
            calls.iter().for_each(tokio::task::JoinHandle::abort);
            futures::future::join_all(calls).await;
            accepted.extend(answered.lock().unwrap().drain(..));
            Arc::into_inner(running).unwrap().kill().await;
        }
        let running = world.start().await;
        world.logs_also(&accepted).await;
        assert!(world.events().await.keys().all(|id| sent.contains(id)));
        assert_eq!(world.gaps().await, []);
        running.stop().await;
    }

    async fn what_a_killed_process_spooled_is_shipped_by_the_next(world) {
        let blocked = world.block().await;
        let running = world.start().await;
        let load = captures(Spool, 50);
        assert_eq!(flush_all(&running, &load).await.len(), 50);
        running.kill().await;
        world.unblock(blocked).await;
        let running = world.start().await;
        world.logs(&ids(&load)).await;
        running.stop().await;
    }
}

redis_store! {
    async fn a_redis_that_is_killed_under_load_loses_nothing_that_it_acknowledged(world) {
        let running = Arc::new(world.start().await);
        let mut accepted = Vec::new();
        for _ in 0..2 {
            let load = captures(Strict, 400);
            let calls = tokio::spawn({
                let running = Arc::clone(&running);
                async move { flush_all(&running, &load).await }
            });
            tokio::task::yield_now().await;
            world.redis().kill();
            world.redis().restart().await;
            accepted.extend(calls.await.unwrap());
        }
        assert_eq!(accepted.len(), 800, "redis is back before the timeout");
        world.logs(&accepted).await;
        assert_eq!(world.gaps().await, []);
        Arc::into_inner(running).unwrap().stop().await;
    }

    async fn a_batch_whose_answer_is_late_is_applied_once_and_a_capture_without_a_caller_is_taken_back(world) {
        world.config.timeout_ms = 300;
        let running = world.start().await;
        let first = capture(Strict);
        running.captures.flush(first.clone(), 200).await.unwrap();
        let blocked = world.block().await;
        let begun = captures(Strict, 20);
        let flushed = captures(Strict, 20);
        let begins = begun.iter().map(|capture| running.captures.begin(capture));
        let (begins, flushes) = tokio::join!(futures::future::join_all(begins), flush_all(&running, &flushed));
        assert!(begins.iter().all(Result::is_err) && flushes.is_empty(), "nothing is promised");
        // The writer gives up the connection on which its batch waits, and sends the batch again.
        let redis = world.redis.as_ref().unwrap();
        eventually("the writer has another connection", async || redis.waiting_connections() >= 2).await;
        world.unblock(blocked).await;
        let last = capture(Strict);
        eventually("redis works", async || running.captures.flush(last.clone(), 200).await.is_ok()).await;
        eventually("the refused captures are gone", async || world.pending().await == 0).await;
        world.clock.advance(Duration::days(1));
        // The upstreams had answered those requests, so the log has them, although their clients were refused.
        world.logs(&[vec![first.id, last.id], ids(&flushed)].concat()).await;
        assert_eq!((world.unresolved().await, world.gaps().await), (vec![], vec![]));
        running.stop().await;
    }
}

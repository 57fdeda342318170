//! Processes that end from one moment to the next, at every point of a capture's life: what was acknowledged is in the log
//! once, and nothing else is.

use std::sync::{Arc, Mutex};

use proto::paddock::job_token::v1::{Capture, CaptureMode};
use time::Duration;

use crate::support::{Running, World, capture, captures, eventually, every_store, flush_all, ids, redis_store};

use CaptureMode::{Spool, Strict};

#[derive(Clone, Copy, Debug)]
enum Step {
    Pend,
    Flush,
    Discard,
}
use Step::{Discard, Flush, Pend};

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Access,
    Unresolved,
    Nothing,
}
use End::{Access, Nothing, Unresolved};

/// What is done before the process is killed, what after the next one has started, and what comes of it.
const LIVES: [(&[Step], &[Step], End); 12] = [
    (&[Pend], &[], Unresolved),
    (&[Pend], &[Flush], Access),
    (&[Pend], &[Discard], Nothing),
    (&[Pend, Flush], &[], Access),
    (&[Pend, Flush], &[Flush], Access),
    (&[Pend, Flush], &[Discard], Access),
    (&[Pend, Discard], &[], Nothing),
    (&[Pend, Discard], &[Discard], Nothing),
    (&[Flush], &[], Access),
    (&[Flush], &[Pend], Access),
    (&[], &[Flush], Access),
    (&[], &[Discard], Nothing),
];

async fn live(running: &Running, steps: &[Step], capture: &Capture) {
    for step in steps {
        match step {
            Pend => running.captures.pend(capture).await.unwrap(),
            Flush => running.captures.flush(capture.clone(), 200).await.unwrap(),
            Discard => running.captures.discard(&capture.id).await.unwrap(),
        }
    }
}

async fn a_crash_in_every_life(world: &World, mode: CaptureMode) {
    let lives: Vec<_> = LIVES.iter().map(|life| (life, capture(mode))).collect();
    let running = world.start().await;
    for ((before, _, _), capture) in &lives {
        live(&running, before, capture).await;
    }
    running.kill();
    let running = world.start().await;
    for ((_, after, _), capture) in &lives {
        live(&running, after, capture).await;
    }
    let ending = |end| -> Vec<_> {
        let mut ids: Vec<_> = lives.iter().filter(|(life, _)| life.2 == end).map(|(_, it)| it.id.clone()).collect();
        ids.sort();
        ids
    };
    world.logs(&ending(Access)).await;
    world.clock.advance(Duration::days(1));
    eventually("the rest is unresolved", async || world.unresolved().await == ending(Unresolved)).await;
    eventually("nothing is pending", async || world.pending().await == 0).await;
    world.logs(&ending(Access)).await;
    assert_eq!(world.gaps().await, []);
    running.stop().await;
}

every_store! {
    async fn a_killed_process_leaves_every_strict_capture_where_it_was(world) {
        a_crash_in_every_life(world, Strict).await;
    }

    async fn a_process_killed_under_load_loses_nothing_that_it_acknowledged(world) {
        let (mut sent, mut accepted) = (Vec::new(), Vec::new());
        for round in 1..=6 {
            let running = Arc::new(world.start().await);
            let answered = Arc::new(Mutex::new(Vec::new()));
            let load: Vec<_> = [Strict, Spool].into_iter().flat_map(|mode| captures(mode, 300)).collect();
            sent.extend(ids(&load));
            let calls: Vec<_> = load.into_iter().map(|capture| {
                let (running, answered) = (Arc::clone(&running), Arc::clone(&answered));
                tokio::spawn(async move {
                    running.captures.pend(&capture).await?;
                    running.captures.flush(capture.clone(), 200).await?;
                    answered.lock().unwrap().push(capture.id);
                    Ok::<_, chassis::status::Fault>(())
                })
            }).collect();
            eventually("some are answered", async || answered.lock().unwrap().len() >= round * 80).await;
            calls.iter().for_each(tokio::task::JoinHandle::abort);
            futures::future::join_all(calls).await;
            accepted.extend(answered.lock().unwrap().drain(..));
            Arc::into_inner(running).unwrap().kill();
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
        running.kill();
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
        for _ in 0..4 {
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
        assert_eq!(accepted.len(), 1600, "redis is back before anybody waits too long");
        world.logs(&accepted).await;
        assert_eq!(world.gaps().await, []);
        Arc::into_inner(running).unwrap().stop().await;
    }

    async fn a_batch_whose_answer_is_late_is_applied_once_and_what_nobody_waits_for_is_taken_back(world) {
        world.config.timeout_ms = 300;
        let running = world.start().await;
        let first = capture(Strict);
        running.captures.flush(first.clone(), 200).await.unwrap();
        let blocked = world.block().await;
        let (pended, flushed) = (captures(Strict, 20), captures(Strict, 20));
        let pends = pended.iter().map(|capture| running.captures.pend(capture));
        let (pends, flushes) = tokio::join!(futures::future::join_all(pends), flush_all(&running, &flushed));
        assert!(pends.iter().all(Result::is_err) && flushes.is_empty(), "nothing is promised");
        // Long enough for the writer to give up the connection on which its batch waits, and to send the batch again.
        let clients = async || world.redis.as_ref().unwrap().waiting_connections() >= 2;
        eventually("the writer has another connection", clients).await;
        world.unblock(blocked).await;
        let last = capture(Strict);
        eventually("redis works", async || running.captures.flush(last.clone(), 200).await.is_ok()).await;
        eventually("what was pended in vain is gone", async || world.pending().await == 0).await;
        world.clock.advance(Duration::days(1));
        // The upstreams had answered those, so the log says so, although nobody was told.
        world.logs(&[vec![first.id, last.id], ids(&flushed)].concat()).await;
        assert_eq!((world.unresolved().await, world.gaps().await), (vec![], vec![]));
        running.stop().await;
    }
}

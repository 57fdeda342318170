//! Stores and logs that do not answer, and several concurrent processes.

use CaptureMode::{BestEffort, Spool, Strict};
use chassis::db;
use proto::paddock::{
    contract::v1::Reason,
    job_token::v1::{Capture, CaptureMode},
};
use redis::Value;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, Statement};
use time::Duration;

use crate::support::{
    Running, World, capture, captures, eventually, every_store, flush_all, ids, redis::RedisServer, redis_store,
};

/// Flushes all of them through both processes at once.
async fn flush_through_both(first: &Running, second: &Running, load: &[Capture]) {
    let (by_first, by_second) = tokio::join!(flush_all(first, load), flush_all(second, load));
    assert_eq!((by_first.len(), by_second.len()), (load.len(), load.len()));
}

/// Reports whether every partition has records that were read and not acknowledged.
async fn have_all_read(redis: &RedisServer, partitions: u16) -> bool {
    for partition in 0..partitions {
        let stream = format!("{{paddock:{partition}}}:stream");
        let (count, ..): (i64, Value, Value, Value) = redis.ask(&["XPENDING", &stream, "log"]).await;
        if count == 0 {
            return false;
        }
    }
    true
}

every_store! {
    async fn a_strict_capture_is_refused_in_time_while_the_store_is_blocked(world) {
        world.config.timeout_ms = 200;
        let running = world.start().await;
        let blocked = world.block().await;
        let begun = capture(Strict);
        let flushed = capture(Strict);
        let begin = running.captures.begin(&begun).await.unwrap_err();
        let flush = running.captures.flush(flushed.clone(), 200).await.unwrap_err();
        let discard = running.captures.discard(&begun.id).await.unwrap_err();
        for fault in [begin, flush, discard] {
            assert_eq!(fault.reason(), Reason::CaptureUnavailable, "{fault:?}");
        }
        world.unblock(blocked).await;
        let next = capture(Strict);
        eventually("it works again", async || running.captures.flush(next.clone(), 200).await.is_ok()).await;
        world.logs(&[flushed.id, next.id]).await;
        assert_eq!(world.pending().await, 0, "the access that was refused is not under way");
        running.stop().await;
    }

    async fn spooled_captures_are_accepted_while_the_store_is_blocked_and_arrive_later(world) {
        world.config.timeout_ms = 1000;
        let running = world.start().await;
        let blocked = world.block().await;
        let load = captures(Spool, 3000);
        for capture in &load {
            running.captures.begin(capture).await.unwrap();
        }
        assert_eq!(flush_all(&running, &load).await.len(), 3000);
        world.unblock(blocked).await;
        world.logs(&ids(&load)).await;
        eventually("the spool is empty", async || world.segments() == 0).await;
        running.stop().await;
    }

    async fn a_full_queue_refuses_at_once(world) {
        world.config.timeout_ms = 60_000;
        world.config.queue_length = 4;
        let running = world.start().await;
        let blocked = world.block().await;
        let load = captures(Strict, 100);
        let mut calls: futures::stream::FuturesUnordered<_> =
            load.iter().map(|capture| running.captures.flush(capture.clone(), 200)).collect();
        // The writer holds some of them and the queue holds four. The others are answered while the store is blocked.
        for _ in 0..90 {
            let answer = futures::StreamExt::next(&mut calls).await.unwrap();
            let fault = answer.unwrap_err();
            assert_eq!(fault.reason(), Reason::CaptureUnavailable);
            assert!(fault.detail().contains("the queue of captures is full"), "{fault:?}");
        }
        world.unblock(blocked).await;
        while futures::StreamExt::next(&mut calls).await.is_some() {}
        drop(calls);
        running.stop().await;
    }

    async fn a_best_effort_capture_never_waits_and_is_left_out_when_the_queue_is_full(world) {
        world.config.queue_length = 4;
        let running = world.start().await;
        let blocked = world.block().await;
        let load = captures(BestEffort, 100);
        for capture in &load {
            running.captures.begin(capture).await.unwrap();
        }
        assert_eq!(flush_all(&running, &load).await.len(), 100);
        world.unblock(blocked).await;
        let witness = capture(Strict);
        eventually("it works again", async || running.captures.flush(witness.clone(), 200).await.is_ok()).await;
        world.logs_also(&[witness.id]).await;
        assert!(world.events().await.len() < 90, "most had no room");
        running.stop().await;
    }

    async fn two_processes_share_the_store_and_record_everything_once(world) {
        let first = world.start().await;
        let second = world.start_other().await;
        let flushed = captures(Strict, 600);
        let left = captures(Strict, 40);
        for capture in &left {
            first.captures.begin(capture).await.unwrap();
        }
        flush_through_both(&first, &second, &flushed[..200]).await;
        world.clock.advance(Duration::days(1));
        flush_through_both(&first, &second, &flushed[200..]).await;
        world.logs(&ids(&flushed)).await;
        let mut expected = ids(&left);
        expected.sort();
        eventually("each expired once", async || world.unresolved().await == expected).await;
        assert_eq!(world.gaps().await, []);
        first.stop().await;
        second.stop().await;
    }

    async fn a_discard_through_another_process_counts(world) {
        let first = world.start().await;
        let second = world.start_other().await;
        let gone = capture(Strict);
        let done = capture(Strict);
        for capture in [&gone, &done] {
            first.captures.begin(capture).await.unwrap();
        }
        second.captures.discard(&gone.id).await.unwrap();
        second.captures.flush(done.clone(), 200).await.unwrap();
        world.logs(&[done.id]).await;
        assert_eq!(world.pending().await, 0);
        first.stop().await;
        second.stop().await;
    }
}

/// Breaks all connections, as a restart of Postgres does.
async fn break_connections(world: &World) {
    world
        .database
        .execute_unprepared(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
}

async fn broken_connections_lose_nothing(world: World) {
    let running = world.start().await;
    let mut accepted = Vec::new();
    for _ in 0..5 {
        let load = captures(Strict, 300);
        let (answers, ()) = tokio::join!(flush_all(&running, &load), break_connections(&world));
        accepted.extend(answers);
    }
    assert_eq!(accepted.len(), 1500);
    world.logs(&accepted).await;
    world.is_consistent().await;
    running.stop().await;
    world.finish().await;
}

/// A process that hangs in the middle of a transaction delays the others for seconds only. The limit is ten seconds; the test
/// shortens it for the transaction that hangs.
async fn a_stalled_transaction_is_ended(world: World) {
    let running = world.start().await;
    let stands_still = db::begin_write(&world.database).await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(6513008, 0)";
    stands_still.execute_unprepared(lock).await.unwrap();
    let limit = Statement::from_string(DatabaseBackend::Postgres, "SHOW idle_in_transaction_session_timeout");
    let limit: String = stands_still.query_one_raw(limit).await.unwrap().unwrap().try_get_by_index(0).unwrap();
    assert_eq!(limit, "10s");
    stands_still.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = '500ms'").await.unwrap();
    let load = captures(Strict, 20);
    eventually("captures are taken", async || flush_all(&running, &load).await.len() == 20).await;
    world.logs(&ids(&load)).await;
    assert!(stands_still.commit().await.is_err(), "the server has ended it");
    running.stop().await;
    world.is_consistent().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_transaction_is_ended_with_redis() {
    let Some(world) = World::redis_and_postgres().await else { return };
    a_stalled_transaction_is_ended(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_transaction_is_ended_without_redis() {
    let Some(world) = World::database_on_postgres().await else { return };
    a_stalled_transaction_is_ended(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_to_the_log_lose_nothing_with_redis() {
    let Some(world) = World::redis_and_postgres().await else { return };
    broken_connections_lose_nothing(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_to_the_log_lose_nothing_without_redis() {
    let Some(world) = World::database_on_postgres().await else { return };
    broken_connections_lose_nothing(world).await;
}

redis_store! {
    async fn a_blocked_log_delays_no_caller(world) {
        let running = world.start().await;
        let blocked = world.block_log().await;
        let load = captures(Strict, 100);
        assert_eq!(flush_all(&running, &load).await.len(), 100);
        world.unblock(blocked).await;
        world.logs(&ids(&load)).await;
        running.stop().await;
    }

    async fn many_partitions_leave_connections_to_the_log_for_requests(world) {
        world.config.redis.partitions = 16;
        let running = world.start().await;
        let blocked = world.block_log().await;
        let load = captures(Strict, 320);
        assert_eq!(flush_all(&running, &load).await.len(), 320);
        let redis = world.redis.as_ref().unwrap();
        eventually("every partition has read its records", async || have_all_read(redis, 16).await).await;
        // All flushers wait for the log now. If each held a connection, none would be free.
        let asked = running.database.execute_unprepared("SELECT 1").await;
        assert!(asked.is_ok(), "a request gets no connection to the database: {asked:?}");
        world.unblock(blocked).await;
        world.logs(&ids(&load)).await;
        running.stop().await;
    }

    async fn trouble_in_one_partition_does_not_stop_the_others(world) {
        world.config.redis.partitions = 2;
        world.config.timeout_ms = 200;
        let broken: i64 = world.redis().ask(&["LPUSH", "{paddock:0}:deadlines", "no sorted set"]).await;
        assert_eq!(broken, 1);
        let running = world.start().await;
        // The captures of the broken partition are refused, those of the other partition are pending.
        let load = captures(Strict, 40);
        let begins = load.iter().map(|capture| running.captures.begin(capture));
        let kept = futures::future::join_all(begins).await.iter().filter(|answer| answer.is_ok()).count();
        assert!((1..40).contains(&kept), "{kept} are kept");
        let pending: i64 = world.redis().ask(&["HLEN", "{paddock:1}:pending"]).await;
        assert_eq!(pending, kept as i64);
        world.clock.advance(Duration::days(1));
        eventually("those are unresolved", async || world.unresolved().await.len() == kept).await;
        running.kill().await;
    }

    async fn what_is_in_partitions_that_are_no_longer_used_comes_to_its_end(world) {
        for (before, after) in [(4, 1), (1, 4)] {
            world.config.redis.partitions = before;
            let running = world.start().await;
            let flushed = captures(Strict, 40);
            let left = captures(Strict, 40);
            for capture in &left {
                running.captures.begin(capture).await.unwrap();
            }
            world.let_flushers_read(false).await;
            assert_eq!(flush_all(&running, &flushed).await.len(), 40);
            running.kill().await;
            world.let_flushers_read(true).await;

            world.config.redis.partitions = after;
            let running = world.start().await;
            world.logs_also(&ids(&flushed)).await;
            world.clock.advance(Duration::days(1));
            eventually("those without a verdict are unresolved", async || {
                let found = world.unresolved().await;
                ids(&left).iter().all(|id| found.contains(id))
            })
            .await;
            assert_eq!(world.gaps().await, []);
            running.stop().await;
        }
    }

    async fn a_process_starts_without_redis_and_spools_until_it_is_there(world) {
        world.config.timeout_ms = 200;
        world.redis().kill();
        let running = world.start().await;
        let load = captures(Spool, 20);
        assert_eq!(flush_all(&running, &load).await.len(), 20);
        let refused = running.captures.flush(capture(Strict), 200).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::CaptureUnavailable);
        world.redis().restart().await;
        world.logs_also(&ids(&load)).await;
        running.stop().await;
    }

    async fn a_record_that_cannot_be_read_is_set_aside_and_the_others_go_on(world) {
        let producer = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let stream = "{paddock:0}:stream";
        let redis = world.redis();
        for (number, kind, data) in [("1", "access", "\u{1}\u{2}no"), ("2", "riddle", ""), ("3", "access", "")] {
            let fields = ["XADD", stream, "*", "p", producer, "n", number, "k", kind, "d", data];
            let _: String = redis.ask(&fields).await;
        }
        let _: String = redis.ask(&["XADD", stream, "*", "nothing", "of ours"]).await;
        let running = world.start().await;
        let load = captures(Strict, 5);
        assert_eq!(flush_all(&running, &load).await.len(), 5);
        world.logs(&ids(&load)).await;
        let redis = world.redis.as_ref().unwrap();
        eventually("the stream is empty", async || redis.ask::<i64>(&["XLEN", stream]).await == 0).await;
        assert_eq!(redis.ask::<i64>(&["XLEN", "{paddock:0}:unreadable"]).await, 4);
        assert_eq!(world.number("SELECT MAX(last) FROM capture_ranges WHERE first = 1").await, 5);
        running.stop().await;
    }
}

//! Records that Redis confirmed and lost. They are found with their exact numbers, and no other record is.

use CaptureMode::{Spool, Strict};
use proto::paddock::job_token::v1::CaptureMode;
use sea_orm::ConnectionTrait as _;

use crate::support::{Running, World, captures, eventually, flush_all, ids, redis_store};

/// Numbers 1 to 5 are in the log; 6 to 12 are acknowledged and only in Redis.
async fn five_in_the_log_and_seven_in_redis(world: &World, running: &Running) -> Vec<String> {
    let load = captures(Strict, 12);
    assert_eq!(flush_all(running, &load[..5]).await.len(), 5);
    world.logs(&ids(&load[..5])).await;
    world.let_flushers_read(false).await;
    assert_eq!(flush_all(running, &load[5..]).await.len(), 7);
    ids(&load)
}

async fn lose_everything(world: &World) {
    let _: String = world.redis.as_ref().unwrap().ask(&["FLUSHALL"]).await;
    world.let_flushers_read(true).await;
}

async fn are_noted(world: &World, number: i64) {
    let noted = "SELECT COALESCE(MAX(acknowledged), 0) FROM capture_producers";
    eventually("what is acknowledged is noted", async || world.number(noted).await == number).await;
}

/// Waits until the search for gaps has run: it finds a gap that this function creates.
async fn gaps_were_looked_for(world: &World) {
    let made_up = "INSERT INTO capture_producers (producer, \"partition\", acknowledged, updated_at) VALUES ('made up', 0, 999, 0)";
    world.database.execute_unprepared(made_up).await.unwrap();
    eventually("the made up gap is found", async || world.gaps().await.contains(&(1, 999))).await;
}

redis_store! {
    async fn what_is_lost_is_found_by_what_the_process_writes_next(world) {
        let running = world.start().await;
        let before = five_in_the_log_and_seven_in_redis(world, &running).await;
        lose_everything(world).await;
        let after = captures(Strict, 3);
        assert_eq!(flush_all(&running, &after).await.len(), 3);
        eventually("the gap is found", async || world.gaps().await == [(6, 12)]).await;
        world.logs(&[before[..5].to_vec(), ids(&after)].concat()).await;
        gaps_were_looked_for(world).await;
        assert_eq!(world.gaps().await, [(1, 999), (6, 12)], "nothing is reported twice");
        running.stop().await;
    }

    async fn what_is_lost_is_found_although_the_process_writes_nothing_more(world) {
        let running = world.start().await;
        five_in_the_log_and_seven_in_redis(world, &running).await;
        are_noted(world, 12).await;
        lose_everything(world).await;
        eventually("the gap is found", async || world.gaps().await == [(6, 12)]).await;
        running.stop().await;
    }

    async fn what_is_lost_is_found_by_the_next_process_when_the_one_is_gone(world) {
        let running = world.start().await;
        five_in_the_log_and_seven_in_redis(world, &running).await;
        are_noted(world, 12).await;
        running.kill().await;
        lose_everything(world).await;
        let one = world.start().await;
        let other = world.start_other().await;
        eventually("the gap is found", async || world.gaps().await == [(6, 12)]).await;
        gaps_were_looked_for(world).await;
        assert_eq!(world.gaps().await, [(1, 999), (6, 12)], "two processes find it once");
        one.stop().await;
        other.stop().await;
    }

    async fn what_is_acknowledged_last_of_all_is_noted(world) {
        // Once at the start, and not again before the end.
        world.config.maintenance_interval_ms = 60_000;
        let blocked = world.block().await;
        let running = world.start().await;
        let load = captures(Spool, 20);
        assert_eq!(flush_all(&running, &load).await.len(), 20);
        world.unblock(blocked).await;
        running.stop().await;
        are_noted(world, 20).await;
    }

    async fn what_is_on_its_way_is_not_lost(world) {
        let running = world.start().await;
        let load = five_in_the_log_and_seven_in_redis(world, &running).await;
        are_noted(world, 12).await;
        running.kill().await;
        world.redis().kill();
        world.redis().restart().await;
        let running = world.start().await;
        world.logs(&load).await;
        gaps_were_looked_for(world).await;
        assert_eq!(world.gaps().await, [(1, 999)]);
        running.stop().await;
    }

    async fn a_restart_from_an_older_state_of_redis_shows_what_is_missing(world) {
        let running = world.start().await;
        let first = captures(Strict, 4);
        let second = captures(Strict, 3);
        let third = captures(Strict, 2);
        flush_all(&running, &first).await;
        world.logs(&ids(&first)).await;
        world.let_flushers_read(false).await;
        flush_all(&running, &second).await;
        // An older state: the mark of the producer and the stream without the last records.
        let redis = world.redis.as_ref().unwrap();
        let entries: Vec<(String, Vec<Vec<u8>>)> = redis.ask(&["XRANGE", "{paddock:0}:stream", "-", "+"]).await;
        let marks: Vec<String> = redis.ask(&["KEYS", "{paddock:0}:producer:*"]).await;
        assert_eq!((entries.len(), marks.len()), (3, 1));
        let _: i64 = redis.ask(&["XDEL", "{paddock:0}:stream", &entries[2].0]).await;
        let _: String = redis.ask(&["SET", &marks[0], "1 6"]).await;
        world.let_flushers_read(true).await;
        flush_all(&running, &third).await;
        eventually("the gap is found", async || world.gaps().await == [(7, 7)]).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM access_events").await, 8);
        running.stop().await;
    }
}

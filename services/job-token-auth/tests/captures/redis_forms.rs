//! Redis in each of its forms, the script that batches are, and settings with which captures would not be safe.

use std::{
    path::Path,
    process::{Child, Command},
};

use job_token_auth::config::RedisKind;
use proto::paddock::job_token::v1::CaptureMode;
use redis::Script;

use crate::support::{
    World, capture, captures, eventually, flush_all, ids,
    redis::{RedisServer, free_port, is_installed},
};

use CaptureMode::Strict;

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A process of Redis that ends with this.
struct Sentinel(Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sentinel(folder: &Path, port: u16, master: u16, more: &str) -> Sentinel {
    let file = folder.join("sentinel.conf");
    let text = format!(
        "sentinel monitor mymaster 127.0.0.1 {master} 1\nsentinel down-after-milliseconds mymaster 500\n\
         sentinel failover-timeout mymaster 3000\n{more}\n"
    );
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new("redis-sentinel");
    command.arg(file).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]).current_dir(folder).stdout(log);
    Sentinel(command.spawn().unwrap())
}

/// Waits until the server has so many replicas.
async fn has_replicas(world: &World, count: i64) {
    let has = async || world.redis.as_ref().unwrap().ask::<i64>(&["WAIT", "9", "100"]).await == count;
    eventually("the replicas follow", has).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captures_follow_the_master_that_sentinels_name() {
    let Some(mut world) = World::redis_and_sqlite().await else { return };
    let master = world.redis().port.to_string();
    let of_master = [&DURABLE[..], &["--replicaof", "127.0.0.1", &master]].concat();
    let mut replicas = [RedisServer::start_with(&of_master).await, RedisServer::start_with(&of_master).await];
    has_replicas(&world, 2).await;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _sentinel = sentinel(folder.path(), port, world.redis().port, "");
    world.url = Some(format!("redis://127.0.0.1:{port}"));
    world.config.redis.kind = RedisKind::Sentinel;
    world.config.timeout_ms = 2000;
    let running = world.start().await;
    let before = captures(Strict, 20);
    let works = async || running.captures.flush(before[0].clone(), 200).await.is_ok();
    eventually("the sentinel names the master", works).await;
    // What is confirmed a moment before the master goes is on the replica that takes its place.
    let blocked = world.block_log().await;
    assert_eq!(flush_all(&running, &before).await.len(), 20);
    world.redis().kill();
    world.unblock(blocked).await;
    let after = captures(Strict, 20);
    let works = async || running.captures.flush(after[0].clone(), 200).await.is_ok();
    eventually("a replica is the master", works).await;
    assert_eq!(flush_all(&running, &after).await.len(), 20);
    world.logs(&[ids(&before), ids(&after)].concat()).await;
    assert_eq!(world.gaps().await, []);

    // Without any replica nothing is confirmed that only the master has.
    let mut masters = 0;
    for replica in &mut replicas {
        let role = replica.ask::<Vec<redis::Value>>(&["ROLE"]).await[0].clone();
        if role == redis::Value::BulkString(b"master".to_vec()) { masters += 1 } else { replica.kill() }
    }
    assert_eq!(masters, 1);
    let alone = captures(Strict, 5);
    assert_eq!(flush_all(&running, &alone).await.len(), 0);
    running.stop().await;
    world.is_consistent().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_want_a_password_that_its_sentinels_do_not_know() {
    let Some(mut world) = World::redis_and_sqlite().await else { return };
    let master = RedisServer::start_with(&DURABLE).await;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _sentinel = sentinel(folder.path(), port, master.port, "sentinel auth-pass mymaster secret");
    master.ask::<String>(&["CONFIG", "SET", "requirepass", "secret"]).await;
    world.url = Some(format!("redis://:secret@127.0.0.1:{port}/1"));
    world.config.redis.kind = RedisKind::Sentinel;
    world.config.redis.sentinel_authenticates = false;
    world.config.redis.replicas = 0;
    let running = world.start().await;
    let given = captures(Strict, 20);
    let works = async || running.captures.flush(given[0].clone(), 200).await.is_ok();
    eventually("the sentinel names the master", works).await;
    assert_eq!(flush_all(&running, &given).await.len(), 20);
    world.logs(&ids(&given)).await;
    running.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captures_are_spread_over_a_cluster_and_outlive_the_restart_of_a_node() {
    let Some(mut world) = World::redis_and_sqlite().await else { return };
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(RedisServer::start_with(&[&DURABLE[..], &["--cluster-enabled", "yes"]].concat()).await);
    }
    let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let create = Command::new("redis-cli").args(["--cluster", "create"]).args(&addresses).arg("--cluster-yes").output();
    let create = create.unwrap();
    assert!(create.status.success(), "{}", String::from_utf8_lossy(&create.stdout));
    world.url = Some(addresses.iter().map(|address| format!("redis://{address}")).collect::<Vec<_>>().join(","));
    world.config.redis.kind = RedisKind::Cluster;
    world.config.redis.partitions = 4;
    world.config.redis.replicas = 0;
    world.config.timeout_ms = 2000;

    let running = world.start().await;
    let before = captures(Strict, 300);
    let works = async || running.captures.flush(before[0].clone(), 200).await.is_ok();
    eventually("the cluster works", works).await;
    assert_eq!(flush_all(&running, &before).await.len(), 300);
    world.logs(&ids(&before)).await;
    assert_eq!(world.number("SELECT COUNT(DISTINCT \"partition\") FROM capture_ranges").await, 4);

    for node in &mut nodes {
        node.kill();
        node.restart().await;
        let after = captures(Strict, 300);
        let logged = async || {
            let accepted = flush_all(&running, &after).await;
            accepted.len() == after.len()
        };
        eventually("all partitions work", logged).await;
    }
    eventually("all are in the log", async || world.number("SELECT COUNT(*) FROM access_events").await == 1200).await;
    assert_eq!(world.gaps().await, []);
    running.stop().await;
    world.is_consistent().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_applied_once_whatever_copies_of_it_arrive_when() {
    if !is_installed() {
        return;
    }
    let redis = RedisServer::start().await;
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let script = Script::new(include_str!("../../src/capture/redis/batch.lua"));
    let mut apply = async |batch: i64, before: i64, steps: &[&str]| -> (bool, i64, i64) {
        let mut call = script.key("pending");
        call.key("deadlines").key("stream").key("mark").arg(batch).arg(before).arg("producer").arg(60_000).arg(steps);
        call.invoke_async(&mut connection).await.unwrap()
    };
    let length = async || redis.ask::<i64>(&["XLEN", "stream"]).await;
    let pending = async || redis.ask::<Vec<String>>(&["HKEYS", "pending"]).await;

    let first = ["P", "a", "1000", "A", "F", "b", "B", "P", "c", "1000", "C"];
    assert_eq!(apply(1, 0, &first).await, (false, 0, 1));
    assert_eq!(apply(1, 0, &first).await, (true, 1, 1), "its answer was lost");
    assert_eq!(apply(2, 1, &["E", "a", "D", "c", "E", "c", "E", "unknown"]).await, (false, 1, 2));
    assert_eq!((length().await, pending().await), (2, vec![]));
    assert_eq!(apply(1, 0, &first).await, (true, 2, 2), "it was held up on its way");
    assert_eq!((length().await, pending().await), (2, vec![]), "nothing comes back");

    let _: String = redis.ask(&["FLUSHALL"]).await;
    assert_eq!(apply(3, 2, &["F", "d", "D"]).await, (false, 0, 3), "numbers go on when redis has forgotten them");
    let entries: Vec<(String, Vec<String>)> = redis.ask(&["XRANGE", "stream", "-", "+"]).await;
    assert_eq!(entries[0].1, ["p", "producer", "n", "3", "k", "access", "d", "D"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_could_lose_what_it_confirmed_is_refused_and_the_remedy_is_named() {
    let always = ["--appendonly", "yes", "--appendfsync", "always"];
    let cases: [(&[&str], &str); 4] = [
        (&[&always[..], &["--no-appendfsync-on-rewrite", "yes"]].concat(), "set no-appendfsync-on-rewrite no"),
        (&[&always[..], &["--maxmemory-policy", "allkeys-lru"]].concat(), "set maxmemory-policy noeviction"),
        (&["--appendonly", "no"], "set appendonly yes"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], "set appendfsync always"),
    ];
    for (options, remedy) in cases {
        let Some(mut world) = World::redis_and_sqlite().await else { return };
        world.redis = Some(RedisServer::start_with(options).await);
        let error = world.try_start().await.err().unwrap().to_string();
        assert!(error.contains(remedy) && error.contains("require_fsync"), "{error}");
        world.config.redis.require_fsync = false;
        let running = world.start().await;
        let capture = capture(Strict);
        running.captures.flush(capture.clone(), 200).await.unwrap();
        world.logs(&[capture.id]).await;
        running.stop().await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_changed_while_it_runs_is_no_longer_trusted() {
    let Some(mut world) = World::redis_and_sqlite().await else { return };
    world.config.timeout_ms = 200;
    let running = world.start().await;
    let set = async |value: &str| {
        let _: String = world.redis.as_ref().unwrap().ask(&["CONFIG", "SET", "appendfsync", value]).await;
    };
    let works = async || running.captures.flush(capture(Strict), 200).await.is_ok();
    assert!(works().await);
    set("everysec").await;
    eventually("strict captures are refused", async || !works().await).await;
    set("always").await;
    eventually("strict captures are taken", works).await;
    running.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hides_its_settings_is_trusted() {
    let Some(world) = World::redis_and_sqlite().await else { return };
    let _: String = world.redis.as_ref().unwrap().ask(&["ACL", "SETUSER", "default", "-config"]).await;
    let running = world.start().await;
    let capture = capture(Strict);
    running.captures.flush(capture.clone(), 200).await.unwrap();
    world.logs(&[capture.id]).await;
    running.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_url_that_cannot_work_is_refused_without_showing_its_password() {
    let Some(mut world) = World::redis_and_sqlite().await else { return };
    let _: String = world.redis().ask(&["ACL", "SETUSER", "paddock", "on", ">right", "~*", "+@all"]).await;
    let port = world.redis().port;
    let cases = [
        (format!("redis://paddock:s3cret@127.0.0.1:{port}"), "password"),
        (format!("http://paddock:s3cret@127.0.0.1:{port}"), "must be URLs as redis://"),
        (format!("redis://:s3cret@127.0.0.1:{port},redis://:s3cret@127.0.0.1:1"), "must be one URL"),
    ];
    for (url, expected) in cases {
        world.url = Some(url);
        let error = world.try_start().await.err().unwrap().to_string();
        assert!(error.to_lowercase().contains(&expected.to_lowercase()) && !error.contains("s3cret"), "{error}");
    }
    world.finish().await;
}

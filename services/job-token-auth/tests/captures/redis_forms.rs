//! Each deployment form of Redis, the script of batches, and settings with which captures would not be safe.

use std::process::{Child, Command};

use CaptureMode::Strict;
use job_token_auth::config::RedisKind;
use proto::paddock::job_token::v1::{Capture, CaptureMode};
use redis::{Script, aio::MultiplexedConnection};
use tempfile::TempDir;

use crate::support::{
    Running, World, capture, captures, eventually, flush_all, ids,
    redis::{ClaimedPort, RedisServer, has_server, has_tool},
};

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A running sentinel. Its process ends when this is dropped.
struct Sentinel {
    process: Child,
    port: ClaimedPort,
    _folder: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sentinel {
    /// Starts a sentinel that watches the master on this port. `settings` are further lines of its configuration.
    fn start(master: u16, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = ClaimedPort::claim();
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor mymaster 127.0.0.1 {master} 1\nsentinel down-after-milliseconds mymaster 500\n\
             sentinel failover-timeout mymaster 3000\n{settings}\n"
        );
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("redis-sentinel");
        command.arg(file).args(["--port", &port.number.to_string(), "--bind", "127.0.0.1"]);
        let process = command.current_dir(folder.path()).stdout(log).spawn().unwrap();
        Self { process, port, _folder: folder }
    }
}

/// Waits until a capture is taken.
async fn works(running: &Running, what: &str, capture: &Capture) {
    eventually(what, async || running.captures.flush(capture.clone(), 200).await.is_ok()).await;
}

/// Waits until the server has this number of replicas.
async fn has_replicas(world: &World, count: i64) {
    let redis = world.redis.as_ref().unwrap();
    eventually("the replicas follow", async || redis.ask::<i64>(&["WAIT", "9", "100"]).await == count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captures_follow_the_master_that_sentinels_name() {
    if !has_tool("redis-sentinel") {
        return;
    }
    let Some(mut world) = World::redis_and_sqlite().await else { return };
    let master = world.redis().port().to_string();
    let of_master = [&DURABLE[..], &["--replicaof", "127.0.0.1", &master]].concat();
    let mut replicas = [RedisServer::start_with(&of_master).await, RedisServer::start_with(&of_master).await];
    has_replicas(&world, 2).await;
    let sentinel = Sentinel::start(world.redis().port(), "");
    world.url = Some(format!("redis://127.0.0.1:{}", sentinel.port.number));
    world.config.redis.kind = RedisKind::Sentinel;
    world.config.timeout_ms = 2000;
    let running = world.start().await;
    let before = captures(Strict, 20);
    works(&running, "the sentinel names the master", &before[0]).await;
    // A capture that is confirmed right before the master fails is on the replica that replaces it.
    let blocked = world.block_log().await;
    assert_eq!(flush_all(&running, &before).await.len(), 20);
    world.redis().kill();
    world.unblock(blocked).await;
    let after = captures(Strict, 20);
    works(&running, "a replica is the master", &after[0]).await;
    assert_eq!(flush_all(&running, &after).await.len(), 20);
    world.logs(&[ids(&before), ids(&after)].concat()).await;
    assert_eq!(world.gaps().await, []);

    // Without a replica, no capture is confirmed.
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
    if !has_tool("redis-sentinel") {
        return;
    }
    let Some(mut world) = World::redis_and_sqlite().await else { return };
    let master = RedisServer::start_with(&DURABLE).await;
    let sentinel = Sentinel::start(master.port(), "sentinel auth-pass mymaster secret");
    master.ask::<String>(&["CONFIG", "SET", "requirepass", "secret"]).await;
    world.url = Some(format!("redis://:secret@127.0.0.1:{}/1", sentinel.port.number));
    world.config.redis.kind = RedisKind::Sentinel;
    world.config.redis.sentinel_authenticates = false;
    world.config.redis.replicas = 0;
    let running = world.start().await;
    let given = captures(Strict, 20);
    works(&running, "the sentinel names the master", &given[0]).await;
    assert_eq!(flush_all(&running, &given).await.len(), 20);
    world.logs(&ids(&given)).await;
    running.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captures_are_spread_over_a_cluster_and_outlive_the_restart_of_a_node() {
    if !has_tool("redis-cli") {
        return;
    }
    let Some(mut world) = World::redis_and_sqlite().await else { return };
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(RedisServer::start_with(&[&DURABLE[..], &["--cluster-enabled", "yes"]].concat()).await);
    }
    let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
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
    works(&running, "the cluster works", &before[0]).await;
    assert_eq!(flush_all(&running, &before).await.len(), 300);
    world.logs(&ids(&before)).await;
    assert_eq!(world.number("SELECT COUNT(DISTINCT \"partition\") FROM capture_ranges").await, 4);

    // The nodes have equal shares of the 16384 slots, in their order.
    let slot: usize = nodes[0].ask(&["CLUSTER", "KEYSLOT", "{paddock:0}:stream"]).await;
    let node = &mut nodes[slot * 3 / 16_384];
    node.kill();
    node.restart().await;
    let after = captures(Strict, 300);
    eventually("all partitions work", async || flush_all(&running, &after).await.len() == after.len()).await;
    eventually("all are in the log", async || world.number("SELECT COUNT(*) FROM access_events").await == 600).await;
    assert_eq!(world.gaps().await, []);
    running.stop().await;
    world.is_consistent().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_applied_once_whatever_copies_of_it_arrive_when() {
    if !has_server() {
        return;
    }
    let redis = RedisServer::start().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let connection = &mut client.get_multiplexed_async_connection().await.unwrap();

    let first = ["P", "a", "1000", "A", "F", "b", "B", "P", "c", "1000", "C"];
    assert_eq!(apply_script(connection, 1, 0, &first).await, (false, 0, 1));
    assert_eq!(apply_script(connection, 1, 0, &first).await, (true, 1, 1), "its answer was lost");
    let second = ["E", "a", "D", "c", "E", "c", "E", "unknown"];
    assert_eq!(apply_script(connection, 2, 1, &second).await, (false, 1, 2));
    assert_eq!(records_and_pending(&redis).await, (2, vec![]));
    assert_eq!(apply_script(connection, 1, 0, &first).await, (true, 2, 2), "it was held up on its way");
    assert_eq!(records_and_pending(&redis).await, (2, vec![]), "nothing comes back");

    let _: String = redis.ask(&["FLUSHALL"]).await;
    let third = apply_script(connection, 3, 2, &["F", "d", "D"]).await;
    assert_eq!(third, (false, 0, 3), "numbers go on when redis has forgotten them");
    let entries: Vec<(String, Vec<String>)> = redis.ask(&["XRANGE", "stream", "-", "+"]).await;
    assert_eq!(entries[0].1, ["p", "producer", "n", "3", "k", "access", "d", "D"]);
}

/// Applies a batch of steps. Returns whether it was applied before, the last batch, and the number of the last record.
async fn apply_script(
    connection: &mut MultiplexedConnection,
    batch: i64,
    record_before: i64,
    steps: &[&str],
) -> (bool, i64, i64) {
    let script = Script::new(include_str!("../../src/capture/redis/batch.lua"));
    let mut call = script.key("pending");
    call.key("deadlines")
        .key("stream")
        .key("mark")
        .arg(batch)
        .arg(record_before)
        .arg("producer")
        .arg(60_000)
        .arg(steps);
    call.invoke_async(connection).await.unwrap()
}

/// Returns the number of records in the stream, and the ids of pending captures.
async fn records_and_pending(redis: &RedisServer) -> (i64, Vec<String>) {
    (redis.ask(&["XLEN", "stream"]).await, redis.ask(&["HKEYS", "pending"]).await)
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
    let redis = world.redis.as_ref().unwrap();
    running.captures.flush(capture(Strict), 200).await.unwrap();
    redis.ask::<String>(&["CONFIG", "SET", "appendfsync", "everysec"]).await;
    eventually("strict captures are refused", async || running.captures.flush(capture(Strict), 200).await.is_err())
        .await;
    redis.ask::<String>(&["CONFIG", "SET", "appendfsync", "always"]).await;
    works(&running, "strict captures are taken", &capture(Strict)).await;
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
    let port = world.redis().port();
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

//! Accesses while Redis is unavailable, and the report of records that Redis confirmed and lost.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use proto::paddock::contract::v1::Reason;
use serde_json::Value;
use sqlx::{
    ConnectOptions as _, Connection as _,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use system::{Answer, Database, Distributed, REQUEST_ID, Redis, Upstream, within};

use super::{Installation, Scenario};

/// Maximum time until everything works again.
const RECOVERY: Duration = Duration::from_secs(60);

/// The number of accesses during an outage.
const MANY: usize = 20;

/// Settings with short timeouts for Redis.
const IMPATIENT: [(&str, &str); 2] =
    [("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__TIMEOUT_MS", "500"), ("PADDOCK_GATEWAY__CAPTURE_FLUSH_TIMEOUT_MS", "1500")];

/// The processes in front of an upstream, with captures in Redis, and the scenario.
struct Stage {
    system: Distributed,
    redis: Redis,
    upstream: Upstream,
    scenario: Scenario,
}

impl Stage {
    /// Prints a note and returns none if Redis is not installed.
    async fn start(settings: &[(&str, &str)]) -> Option<Self> {
        let redis = Redis::start()?;
        let upstream = Upstream::start();
        let url = upstream.url();
        let settings = [&[("PADDOCK_GATEWAY__UPSTREAM", url.as_str())], settings].concat();
        let system = Distributed::start_with(&Database::Sqlite, Some(&redis), &settings);
        let scenario = Scenario::start(Installation::from(&system)).await;
        Some(Self { system, redis, upstream, scenario })
    }

    /// Downloads until one succeeds.
    async fn recover(&self) -> Answer {
        let recovered = within(RECOVERY, async || {
            let answer = self.scenario.download("answer=302").await;
            (answer.status == 302).then_some(answer)
        });
        recovered.await.expect("accesses succeed again")
    }

    /// Asserts that the log has exactly the accesses with these answers.
    async fn assert_log(&self, answers: &[Answer]) {
        let mut expected: Vec<_> = answers.iter().map(|answer| answer.header(REQUEST_ID).to_owned()).collect();
        expected.sort();
        let mut found = Vec::new();
        let complete = within(RECOVERY, async || {
            let events = self.scenario.log("/events?per_page=100").await;
            found = events.iter().filter_map(|event| event["request_id"].as_str()).map(ToOwned::to_owned).collect();
            found.sort();
            (found == expected).then_some(())
        });
        let complete = complete.await.is_some();
        assert!(complete, "the log has {} accesses, and {} were given", found.len(), expected.len());
    }
}

fn assert_unavailable(answer: &Answer) {
    let spec = Reason::CaptureUnavailable.spec().expect("a reason of the contract");
    assert_eq!((answer.status, &answer.body["reason"]), (503, &Value::from(spec.code)), "{}", answer.text);
}

#[tokio::test]
async fn without_redis_a_strict_route_gives_no_access() {
    let Some(mut stage) = Stage::start(&IMPATIENT).await else { return };
    let mut given = vec![stage.scenario.download("answer=302").await];
    let reached = stage.upstream.arrivals();

    stage.redis.pause();
    assert_unavailable(&stage.scenario.download("answer=302").await);
    stage.redis.resume();
    given.push(stage.recover().await);

    stage.redis.kill();
    for _ in 0..3 {
        assert_unavailable(&stage.scenario.download("answer=302").await);
    }
    stage.redis.start_again();
    given.push(stage.recover().await);
    // The log has every access that a client or the upstream saw.
    stage.assert_log(&given).await;
    assert_eq!(stage.upstream.arrivals(), reached + 2, "what is refused does not reach the upstream");
}

/// Writes a table of routes with one route in the mode spool. Returns its path.
fn write_spool_route(folder: &std::path::Path) -> PathBuf {
    let file = folder.join("routes.toml");
    let route = "[[routes]]\nmethod = \"GET\"\npath = \"/api/v4/projects/{id}/jobs/artifacts/{ref}/download\"\n\
                 projects = [\"id\"]\npolicies = [\"read_jobs\"]\ncapture = \"spool\"\n";
    std::fs::write(&file, route).expect("the table is written");
    file
}

#[tokio::test]
async fn without_redis_a_spooling_route_goes_on_and_the_log_catches_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write_spool_route(folder.path());
    let file = file.to_str().expect("a path in UTF-8");
    let settings = [&[("PADDOCK_GATEWAY__PROTECTED_ROUTES_FILE", file)], IMPATIENT.as_slice()].concat();
    let Some(mut stage) = Stage::start(&settings).await else { return };

    stage.redis.kill();
    let mut given = Vec::new();
    for _ in 0..MANY {
        given.push(stage.scenario.download("answer=302").await);
    }
    // Records in the spool survive a kill of the process.
    stage.system.auth.program.crash_and_return();
    for _ in 0..MANY {
        given.push(stage.recover().await);
    }
    let failed: Vec<_> = given.iter().filter(|answer| answer.status != 302).map(|answer| answer.status).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(stage.scenario.log("").await, Vec::<Value>::new(), "nothing has got into the log yet");

    stage.redis.start_again();
    stage.assert_log(&given).await;
}

/// Locks the log, so that records stay in Redis.
async fn lock_log(stage: &Stage) -> SqliteConnection {
    let file = stage.system.registry.root_token_file().with_file_name("job-token-auth.sqlite");
    let mut connection = SqliteConnectOptions::new().filename(file).connect().await.expect("the database opens");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("no other connection writes");
    connection
}

/// The value of a metric of job-token-auth, summed over its series.
async fn metric(stage: &Stage, name: &str) -> f64 {
    let metrics = stage.system.auth.metrics().await;
    let series = metrics.lines().filter(|line| line.starts_with(name));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn a_loss_is_reported(lose: impl FnOnce(&mut Redis)) {
    let settings = [("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__MAINTENANCE_INTERVAL_MS", "100")];
    let Some(mut stage) = Stage::start(&settings).await else { return };
    let first = stage.scenario.download("answer=302").await;
    stage.scenario.assert_logged(&first).await;

    let lock = lock_log(&stage).await;
    let mut given = Vec::new();
    for _ in 0..MANY {
        given.push(stage.scenario.download("answer=302").await);
    }
    assert!(given.iter().all(|answer| answer.status == 302), "Redis has them, so they are given");
    lose(&mut stage.redis);
    lock.close().await.expect("the log is free again");

    // Records that the process read before Redis lost them get into the log. The others are lost and reported.
    let last = stage.recover().await;
    stage.scenario.event(last.header(REQUEST_ID), RECOVERY).await.expect("the log goes on");
    let counted = within(RECOVERY, async || {
        let events = stage.scenario.log("/events?per_page=100").await;
        let logged: HashSet<_> = events.iter().filter_map(|event| event["request_id"].as_str()).collect();
        let missing = given.iter().filter(|answer| !logged.contains(answer.header(REQUEST_ID))).count();
        let lost = metric(&stage, "paddock_capture_lost_total").await;
        (missing > 0 && lost.total_cmp(&(missing as f64)).is_eq()).then_some(missing as i64)
    });
    let missing = counted.await.expect("the metric counts what is missing");
    let log = stage.system.auth.program.log();
    let reports: Vec<_> = log.iter().filter(|line| line["level"] == "ERROR" && line["count"].is_number()).collect();
    assert_eq!(reports.iter().filter_map(|line| line["count"].as_i64()).sum::<i64>(), missing, "{log:#?}");
    for line in reports {
        let [first, last, count] =
            ["first", "last", "count"].map(|name| line[name].as_i64().unwrap_or_else(|| panic!("no {name}: {line:#}")));
        assert_eq!(last - first + 1, count, "{line:#}");
        assert!(line["producer"].is_string(), "{line:#}");
    }
    stage.system.auth.program.crash_and_return();
    let remembered = metric(&stage, "paddock_capture_lost_records").await;
    assert!(remembered.total_cmp(&(missing as f64)).is_eq(), "{remembered}");
}

#[tokio::test]
async fn records_that_redis_loses_are_reported_with_their_exact_range() {
    a_loss_is_reported(|redis| redis.wipe()).await;
}

#[tokio::test]
async fn records_lost_with_the_disk_of_redis_are_reported_with_their_exact_range() {
    a_loss_is_reported(Redis::lose_disk).await;
}

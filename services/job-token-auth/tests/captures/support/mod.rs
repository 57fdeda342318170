//! Runs captures as the service does, over each kind of store, in a separate runtime that a test can kill.
//!
//! A test is written once, inside `every_store!`, and takes `world: &mut World`.

pub mod redis;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use chassis::{
    clock::Clock,
    config,
    db::{self, DatabaseLocation},
    testing::postgres,
};
use job_token_auth::{
    capture::{Captures, LogDatabase},
    config::{CaptureConfig, CaptureStoreKind, DEFAULTS, ProcessConfig},
    migration::{self, Migrator},
};
use proto::{
    paddock::job_token::v1::{Capture, CaptureMode, JobTokenPolicy},
    timestamp,
};
use redis::RedisServer;
use rustix::fs::{FlockOperation, flock};
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection, DatabaseTransaction, QueryResult, Statement};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::datetime};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Makes four tests of each: one for each store and database.
macro_rules! every_store {
    ($(async fn $name:ident($world:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn scenario($world: &mut $crate::support::World) $body

            $crate::support::on_stores!(scenario, database_on_sqlite, database_on_postgres, redis_and_sqlite, redis_and_postgres);
        }
    )*};
}
pub(crate) use every_store;

/// As [`every_store`], for tests that need Redis.
macro_rules! redis_store {
    ($(async fn $name:ident($world:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn scenario($world: &mut $crate::support::World) $body

            $crate::support::on_stores!(scenario, redis_and_sqlite, redis_and_postgres);
        }
    )*};
}
pub(crate) use redis_store;

macro_rules! on_stores {
    ($scenario:ident, $($store:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $store() {
            let Some(mut world) = $crate::support::World::$store().await else { return };
            $scenario(&mut world).await;
            world.is_consistent().await;
            world.finish().await;
        }
    )*};
}
pub(crate) use on_stores;

/// The time at which every test begins.
pub const START: OffsetDateTime = datetime!(2026-01-15 12:00:00 UTC);

/// Maximum number of connections of the captures to the log.
const CONNECTIONS: u32 = 5;

/// Maximum time that a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// The settings, the clock and the stores of the captures of a test.
pub struct World {
    /// The settings for the next start.
    pub config: CaptureConfig,
    /// The clock of the captures.
    pub clock: Clock,
    /// The store, if it is Redis.
    pub redis: Option<RedisServer>,
    /// The URLs of Redis, if they are not that of `redis`.
    pub url: Option<String>,
    /// The connections of the test to the log.
    pub database: DatabaseConnection,
    location: DatabaseLocation,
    folder: TempDir,
}

/// The store or the log, while it is blocked.
pub enum Blocked {
    Redis,
    Log(DatabaseTransaction),
}

/// Running captures.
pub struct Running {
    /// The captures.
    pub captures: Captures,
    /// The connections to the log that they and requests share.
    pub database: DatabaseConnection,
    stopped: CancellationToken,
    runtime: Option<Runtime>,
    spool: PathBuf,
}

impl World {
    pub async fn database_on_sqlite() -> Option<Self> {
        Some(Self::new(sqlite, None).await)
    }

    pub async fn database_on_postgres() -> Option<Self> {
        let location = postgres::new_database::<Migrator>("job_token_auth").await?;
        Some(Self::new(|_| location, None).await)
    }

    pub async fn redis_and_sqlite() -> Option<Self> {
        if !redis::has_server() {
            return None;
        }
        Some(Self::new(sqlite, Some(RedisServer::start().await)).await)
    }

    pub async fn redis_and_postgres() -> Option<Self> {
        if !redis::has_server() {
            return None;
        }
        let location = postgres::new_database::<Migrator>("job_token_auth").await?;
        Some(Self::new(|_| location, Some(RedisServer::start().await)).await)
    }

    async fn new(location: impl FnOnce(&TempDir) -> DatabaseLocation, redis: Option<RedisServer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = location(&folder);
        let database = db::connect(&location, 5).await.unwrap();
        migration::up(&database).await.unwrap();
        let defaults = [chassis::config::DEFAULTS, DEFAULTS];
        let mut config = config::load::<ProcessConfig>(&defaults, None).unwrap().job_token_auth.captures;
        config.spool_folder = folder.path().join("spool");
        config.maintenance_interval_ms = 20;
        if redis.is_some() {
            config.store = CaptureStoreKind::Redis;
        }
        Self { config, clock: Clock::manual(START), redis, url: None, database, location, folder }
    }

    /// Starts captures.
    pub async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }

    /// Starts captures, if they can be.
    pub async fn try_start(&self) -> Result<Running, job_token_auth::Error> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = self.config.clone();
        let location = self.location.clone();
        let clock = self.clock.clone();
        let url = self.url.clone().or_else(|| Some(self.redis.as_ref()?.url()));
        let url = url.map(|url| url.into_bytes().into());
        let stopped = CancellationToken::new();
        let stop = stopped.clone();
        let captures = runtime.spawn(async move {
            let database = db::connect(&location, CONNECTIONS).await.unwrap();
            let log = LogDatabase::new(database.clone(), CONNECTIONS);
            Captures::start(&config, url.as_ref(), log, clock, stop).await.map(|captures| (captures, database))
        });
        match captures.await.unwrap() {
            Ok((captures, database)) => {
                let spool = self.spool();
                Ok(Running { captures, database, stopped, runtime: Some(runtime), spool })
            }
            Err(error) => {
                // Dropping a runtime blocks, which is not allowed in a task.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Starts captures as another process would, which has its own spool.
    pub async fn start_other(&mut self) -> Running {
        let folder = self.config.spool_folder.clone();
        self.config.spool_folder = self.folder.path().join("another spool");
        let running = self.start().await;
        self.config.spool_folder = folder;
        running
    }

    /// Blocks the store until [`World::unblock`].
    pub async fn block(&self) -> Blocked {
        match &self.redis {
            Some(redis) => {
                redis.pause();
                Blocked::Redis
            }
            None => self.block_log().await,
        }
    }

    /// Blocks the log until [`World::unblock`].
    pub async fn block_log(&self) -> Blocked {
        let tx = db::begin_write(&self.database).await.unwrap();
        if tx.get_database_backend() == DatabaseBackend::Postgres {
            tx.execute_unprepared("LOCK TABLE pending_captures, access_events IN ACCESS EXCLUSIVE MODE").await.unwrap();
        }
        Blocked::Log(tx)
    }

    /// Unblocks the store or the log.
    pub async fn unblock(&self, blocked: Blocked) {
        match blocked {
            Blocked::Redis => self.redis.as_ref().unwrap().resume(),
            Blocked::Log(tx) => tx.rollback().await.unwrap(),
        }
    }

    /// Keeps the flushers from reading records in Redis, or lets them go on.
    pub async fn let_flushers_read(&self, may: bool) {
        let sign = if may { "+" } else { "-" };
        let redis = self.redis.as_ref().unwrap();
        let read = format!("{sign}xreadgroup");
        let claim = format!("{sign}xautoclaim");
        let _: String = redis.ask(&["ACL", "SETUSER", "default", &read, &claim]).await;
        if !may {
            // A blocked read was allowed when it began, so its connection is closed.
            let _: i64 = redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        }
    }

    /// Redis, in a test that has one.
    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().unwrap()
    }

    /// Where the spool is.
    pub fn spool(&self) -> PathBuf {
        self.config.spool_folder.clone()
    }

    /// How many segments the spool has.
    pub fn segments(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(self.spool()) else { return 0 };
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count()
    }

    /// The ids of the events, with the targets and statuses of each.
    pub async fn events(&self) -> BTreeMap<String, Vec<(i64, i16)>> {
        let rows = self.query("SELECT id, target_project_id, status FROM access_events ORDER BY 1, 2").await;
        let mut events = BTreeMap::<_, Vec<_>>::new();
        for row in rows {
            let id: String = row.try_get_by_index(0).unwrap();
            events.entry(id).or_default().push((row.try_get_by_index(1).unwrap(), row.try_get_by_index(2).unwrap()));
        }
        events
    }

    /// The ids of the requests without a verdict, once for each target.
    pub async fn unresolved(&self) -> Vec<String> {
        let rows = self.query("SELECT id FROM unresolved_captures ORDER BY 1").await;
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    /// The first and the last number of each gap. One loss may be found in parts, if a part of the records was acknowledged when
    /// the numbers were first missed; so gaps of a producer that touch are one.
    pub async fn gaps(&self) -> Vec<(i64, i64)> {
        let rows = self.query("SELECT producer, first, last FROM capture_gaps ORDER BY producer, first").await;
        let mut gaps = Vec::<(String, i64, i64)>::new();
        for row in rows {
            let producer: String = row.try_get_by_index(0).unwrap();
            let first: i64 = row.try_get_by_index(1).unwrap();
            let last = row.try_get_by_index(2).unwrap();
            match gaps.last_mut() {
                Some(gap) if gap.0 == producer && gap.2 + 1 == first => gap.2 = last,
                _ => gaps.push((producer, first, last)),
            }
        }
        let mut numbers: Vec<_> = gaps.into_iter().map(|(_, first, last)| (first, last)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many captures are pending in the store.
    pub async fn pending(&self) -> i64 {
        match &self.redis {
            Some(redis) => redis.ask(&["HLEN", "{paddock:0}:pending"]).await,
            None => self.number("SELECT COUNT(*) FROM pending_captures").await,
        }
    }

    /// One number.
    pub async fn number(&self, sql: &str) -> i64 {
        self.query(sql).await[0].try_get_by_index(0).unwrap()
    }

    /// Runs a statement.
    pub async fn query(&self, sql: &str) -> Vec<QueryResult> {
        let statement = Statement::from_string(self.database.get_database_backend(), sql.to_owned());
        self.database.query_all_raw(statement).await.unwrap()
    }

    /// Waits until the log has exactly these accesses.
    pub async fn logs(&self, ids: &[String]) {
        let mut expected = ids.to_vec();
        expected.sort();
        let count = expected.len() as i64;
        eventually(&format!("{count} accesses are in the log"), async || {
            self.number("SELECT COUNT(DISTINCT id) FROM access_events").await >= count
        })
        .await;
        assert!(self.events().await.into_keys().eq(expected), "the log has other accesses");
    }

    /// Waits until the log has these accesses, and perhaps others.
    pub async fn logs_also(&self, ids: &[String]) {
        eventually(&format!("{} accesses are in the log", ids.len()), async || {
            let events = self.events().await;
            ids.iter().all(|id| events.contains_key(id))
        })
        .await;
    }

    /// Returns rows of five numbers.
    async fn five_numbers(&self, sql: &str) -> Vec<[i64; 5]> {
        let rows = self.query(sql).await;
        rows.iter().map(|row| [0, 1, 2, 3, 4].map(|at| row.try_get_by_index(at).unwrap())).collect()
    }

    /// Asserts that the view is the sum of the events, that no capture is in both tables, and none is in one twice.
    pub async fn is_consistent(&self) {
        let from_events = "SELECT target_project_id, origin_project_id, MIN(accessed_at), MAX(accessed_at), \
                           CAST(COUNT(*) AS BIGINT) FROM access_events GROUP BY 1, 2 ORDER BY 1, 2";
        let from_pairs = "SELECT target_project_id, origin_project_id, first_authorized_at, last_authorized_at, \
                          access_count FROM access_pairs ORDER BY 1, 2";
        let pairs = self.five_numbers(from_pairs).await;
        assert_eq!(pairs, self.five_numbers(from_events).await);
        let both = "SELECT COUNT(*) FROM unresolved_captures WHERE id IN (SELECT id FROM access_events)";
        assert_eq!(self.number(both).await, 0, "an access is also without a verdict");
    }

    /// Removes the files and databases of the test.
    pub async fn finish(self) {
        self.database.close().await.unwrap();
        postgres::drop_database(&self.location).await;
        self.folder.close().unwrap();
    }
}

fn sqlite(folder: &TempDir) -> DatabaseLocation {
    DatabaseLocation::Sqlite(folder.path().join("log.sqlite"))
}

impl Running {
    /// Stops as a process does after SIGTERM.
    pub async fn stop(mut self) {
        self.stopped.cancel();
        self.captures.wait_until_stopped().await.unwrap();
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Ends as a process does after SIGKILL: no task goes on, and the lock of the spool is free.
    pub async fn kill(self) {
        let spool = self.spool.clone();
        drop(self);
        // The threads of a runtime end a moment later; those of a process are gone at once.
        eventually("the spool is unlocked", async || is_unlocked(&spool)).await;
    }
}

/// Reports whether no process holds the lock of a spool.
fn is_unlocked(spool: &Path) -> bool {
    let Ok(lock) = File::open(spool.join("lock")) else { return true };
    flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Flushes all of them at once; returns the ids of those that were accepted.
pub async fn flush_all(running: &Running, captures: &[Capture]) -> Vec<String> {
    let calls = captures.iter().map(|capture| running.captures.flush(capture.clone(), 200));
    let answers = futures::future::join_all(calls).await;
    let accepted = answers.iter().zip(captures).filter(|(answer, _)| answer.is_ok());
    accepted.map(|(_, capture)| capture.id.clone()).collect()
}

/// Waits for a condition.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let waiting = async {
        while !condition().await {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it did not happen: {what}");
}

/// Returns a new capture; each is a second later than the one before.
pub fn capture(mode: CaptureMode) -> Capture {
    static COUNT: AtomicI64 = AtomicI64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Capture {
        id: Uuid::now_v7().to_string(),
        origin_project_id: 1,
        target_project_ids: vec![100 + count % 3],
        job_id: count,
        user_id: 5,
        route: "GET /api/v4/projects/{id}/jobs/artifacts/{ref}/download".to_owned(),
        policies: vec![JobTokenPolicy::ReadJobs.into()],
        accessed_at: Some(timestamp::from_millis(timestamp::millis(START) + count * 1000)),
        mode: mode.into(),
        request_id: format!("request-{count}"),
        remote_ip: "192.0.2.1".to_owned(),
    }
}

/// Returns new captures in a mode.
pub fn captures(mode: CaptureMode, count: usize) -> Vec<Capture> {
    (0..count).map(|_| capture(mode)).collect()
}

/// Returns the ids of captures.
pub fn ids(captures: &[Capture]) -> Vec<String> {
    captures.iter().map(|capture| capture.id.clone()).collect()
}

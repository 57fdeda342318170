//! Measures captures: the decision and the write to Redis in each mode, and the flush to the log on PostgreSQL. Compares with
//! redis-benchmark and pgbench on the same servers.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use proto::paddock::job_token::v1::{
    AuthorizeRequest, Capture, CaptureMode, FlushRequest, JobTokenPolicy,
    authorization_service_client::AuthorizationServiceClient,
};

use crate::{
    load::{histogram, micros_since, sum_of, take_one},
    process::{Peers, UnderTest},
    stores::{Frozen, Postgres, Redis},
    token_auth::TokenAuth,
};

/// The number of captures of a measurement.
const CAPTURES: u64 = 60_000;

/// The number of captures in Redis when the flush to the log is measured.
const BACKLOG: u64 = 100_000;

/// The number of concurrent callers in the mode strict.
const STRICT_CALLERS: usize = 64;

/// The number of concurrent callers in the mode spool.
const SPOOL_CALLERS: usize = 256;

pub async fn measure() {
    let peers = Peers::prepare();
    let Some(redis) = Redis::start(peers.folder()).await else {
        println!("skipped: captures: redis-server is not installed");
        return;
    };
    let Some(postgres) = Postgres::from_environment() else {
        println!("skipped: captures: no PostgreSQL; `make bench` starts one where it is installed");
        return;
    };
    let _backend = peers.start_backend().await;
    let process = peers.start_job_token_auth(&redis, &postgres).await;
    let auth = TokenAuth::prepare(&peers, process.address).await;
    let bench = Bench { process, auth, postgres };

    println!("\nThe record of an access; job-token-auth on one core, Redis with appendfsync always\n");
    println!("| under test | callers | captures/s | CPU/capture | p50 | p99 |");
    println!("|---|---|---|---|---|---|");
    let strict = CaptureMode::Strict;
    bench.run("decided and recorded, strict", STRICT_CALLERS, Step::Both(strict), None).await;
    bench.run("recorded alone, strict", STRICT_CALLERS, Step::Flush(strict), None).await;
    redis.benchmark(STRICT_CALLERS, CAPTURES);
    let spool = CaptureMode::Spool;
    bench.run("decided and recorded, spool", SPOOL_CALLERS, Step::Both(spool), None).await;
    bench.run("recorded alone, spool", SPOOL_CALLERS, Step::Flush(spool), None).await;
    let outage = Some(redis.freeze());
    bench.run("the same while Redis does not answer", SPOOL_CALLERS, Step::Flush(spool), outage).await;

    println!("\nThe way into the log, {BACKLOG} captures that waited\n");
    println!("| under test | records/s |");
    println!("|---|---|");
    bench.drain().await;
    bench.postgres.benchmark();
}

/// The service under test, its caller and its database.
struct Bench {
    process: UnderTest,
    auth: TokenAuth,
    postgres: Postgres,
}

/// The measured calls.
#[derive(Clone, Copy)]
enum Step {
    /// The decision with its pending capture, and the verdict.
    Both(CaptureMode),
    /// The verdict alone.
    Flush(CaptureMode),
}

impl Bench {
    /// Measures a step. The CPU time counts until the last record is in the log. An outage of Redis ends with the last call.
    async fn run(&self, name: &str, callers: usize, step: Step, outage: Option<Frozen>) {
        let cpu = self.process.cpu_seconds();
        let started = Instant::now();
        let latencies = load(&self.auth, callers, CAPTURES, step).await;
        let elapsed = started.elapsed().as_secs_f64();
        drop(outage);
        let count = latencies.len() as f64;
        settle(&self.postgres).await;
        println!(
            "| {name} | {callers} | {:.0} | {:.1} µs | {:.2} ms | {:.2} ms |",
            count / elapsed,
            (self.process.cpu_seconds() - cpu) / count * 1e6,
            latencies.value_at_quantile(0.5) as f64 / 1000.0,
            latencies.value_at_quantile(0.99) as f64 / 1000.0,
        );
    }

    /// Fills Redis with captures while the table of the log is locked, then measures how fast they are flushed.
    async fn drain(&self) {
        let lock = self.postgres.lock_log();
        load(&self.auth, STRICT_CALLERS, BACKLOG, Step::Flush(CaptureMode::Strict)).await;
        drop(lock);
        let started = Instant::now();
        let count_before = self.postgres.count_log();
        let (count, finished) = settle(&self.postgres).await;
        println!("| the flusher | {:.0} |", (count - count_before) as f64 / (finished - started).as_secs_f64());
    }
}

/// Runs a step this many times, as fast as possible. Returns the latencies.
async fn load(auth: &TokenAuth, callers: usize, count: u64, step: Step) -> Histogram<u64> {
    let left = Arc::new(AtomicU64::new(count));
    let callers: Vec<_> =
        (0..callers).map(|_| tokio::spawn(run_steps(auth.clone(), Arc::clone(&left), step))).collect();
    sum_of(callers).await
}

async fn run_steps(auth: TokenAuth, left: Arc<AtomicU64>, step: Step) -> Histogram<u64> {
    let mut latencies = histogram();
    while take_one(&left) {
        let started = Instant::now();
        run_step(&auth, step).await;
        latencies.saturating_record(micros_since(started));
    }
    latencies
}

async fn run_step(auth: &TokenAuth, step: Step) {
    let mut client = AuthorizationServiceClient::new(auth.channel());
    let id = uuid::Uuid::now_v7().to_string();
    let capture = match step {
        Step::Flush(mode) => capture(id, mode),
        Step::Both(mode) => {
            let request = AuthorizeRequest {
                token: auth.job_token(),
                projects: vec!["2".into()],
                policies: vec![JobTokenPolicy::ReadJobs.into()],
                route: "GET /bench".into(),
                mode: mode.into(),
                capture_id: id,
                upstream: "bench".into(),
            };
            let answer = client.authorize(auth.call(request)).await.expect("the access is allowed");
            answer.into_inner().capture.expect("a capture")
        }
    };
    client.flush(auth.call(FlushRequest { capture: Some(capture), status: 200 })).await.expect("it is recorded");
}

fn capture(id: String, mode: CaptureMode) -> Capture {
    Capture {
        id,
        origin_project_id: 1,
        target_project_ids: vec![2],
        job_id: 1,
        user_id: 1,
        route: "GET /api/v4/projects/{id}/jobs/artifacts/{ref_name}/download".into(),
        policies: vec![JobTokenPolicy::ReadJobs.into()],
        accessed_at: Some(prost_types::Timestamp { seconds: 1_795_000_000, nanos: 0 }),
        mode: mode.into(),
        request_id: "0198f0c2b5e47a1c9d3e4f5a6b7c8d9e".into(),
        remote_ip: "192.0.2.7".into(),
    }
}

/// Waits until the log stops growing. Returns the number of records, and when the last one was seen.
async fn settle(postgres: &Postgres) -> (u64, Instant) {
    let mut count = postgres.count_log();
    let mut changed = Instant::now();
    while changed.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = postgres.count_log();
        if now != count {
            count = now;
            changed = Instant::now();
        }
    }
    (count, changed)
}

//! The load: connections with one request at a time, at full speed or at a fixed rate.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use proto::paddock::runner::v1::{
    RunnerInfo, VerifyRunnerRequest, runner_token_service_client::RunnerTokenServiceClient,
};
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

use crate::{
    process::{sample_job_token, sample_runner_token},
    registry::SYSTEM_ID,
};

#[derive(Clone)]
pub enum Target {
    /// `POST /api/v4/runners/verify`.
    Verify,
    /// The same call over gRPC.
    Grpc,
    /// `POST /api/v4/jobs/request` with this token. There is no job.
    Poll { token: String },
    /// A download from a protected route, with the size of its body.
    Download { path: String, size: u64 },
}

#[derive(Clone)]
pub struct Load {
    address: SocketAddr,
    target: Target,
    connections: usize,
}

/// The result of a measurement. Latencies are in microseconds.
pub struct Outcome {
    pub latencies: Histogram<u64>,
    pub elapsed: Duration,
}

impl Outcome {
    pub fn count(&self) -> u64 {
        self.latencies.len()
    }

    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn millis(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Decides when the next request of a connection is due, and when the measurement ends.
#[derive(Clone)]
enum Pace {
    Until(Instant),
    Count(Arc<AtomicU64>),
    Every { interval: Duration, next: Instant, end: Instant },
}

impl Load {
    pub fn new(address: SocketAddr, target: Target, connections: usize) -> Self {
        Self { address, target, connections }
    }

    /// Sends requests at full speed for a duration.
    pub async fn closed(&self, duration: Duration) -> Outcome {
        let end = Instant::now() + duration;
        self.run(|_| Pace::Until(end)).await
    }

    /// Sends this many requests at full speed.
    pub async fn requests(&self, count: u64) -> Outcome {
        let left = Arc::new(AtomicU64::new(count));
        self.run(|_| Pace::Count(Arc::clone(&left))).await
    }

    /// Sends requests at a fixed rate. The latency counts from the time when a request was due, so that a stall shows in every
    /// request that it delays.
    pub async fn open(&self, rate: u32, duration: Duration) -> Outcome {
        let interval = Duration::from_secs(1) * u32::try_from(self.connections).expect("few connections") / rate;
        let start = Instant::now() + Duration::from_millis(50);
        let stagger = interval / u32::try_from(self.connections).expect("few connections");
        self.run(|number| Pace::Every { interval, next: start + stagger * number, end: start + duration }).await
    }

    async fn run(&self, pace: impl Fn(u32) -> Pace) -> Outcome {
        let started = Instant::now();
        let mut connections = Vec::new();
        for number in 0..self.connections {
            let pace = pace(u32::try_from(number).expect("few connections"));
            connections.push(tokio::spawn(run_connection(self.address, self.target.clone(), pace)));
        }
        let latencies = sum_of(connections).await;
        Outcome { latencies, elapsed: started.elapsed() }
    }
}

async fn run_connection(address: SocketAddr, target: Target, pace: Pace) -> Histogram<u64> {
    match target {
        Target::Verify => rest(address, pace, verify, 200, None).await,
        Target::Poll { token } => rest(address, pace, || poll(&token), 204, None).await,
        Target::Download { path, size } => rest(address, pace, || download(&path), 200, Some(size)).await,
        Target::Grpc => grpc(address, pace).await,
    }
}

/// Waits for tasks, and adds up their latencies.
pub async fn sum_of(tasks: Vec<JoinHandle<Histogram<u64>>>) -> Histogram<u64> {
    let mut latencies = histogram();
    for task in tasks {
        latencies.add(task.await.expect("the task finishes")).expect("compatible histograms");
    }
    latencies
}

/// Takes one from a counter that tasks share. Returns false when it is zero.
pub fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Pace {
    /// Waits until a request is due, and returns when that was. Returns none when the measurement is over.
    async fn next(&mut self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(Instant::now()).filter(|now| now < end),
            Self::Count(left) => take_one(left).then(Instant::now),
            Self::Every { interval, next, end } => {
                let due = *next;
                if due >= *end {
                    return None;
                }
                *next += *interval;
                if due <= Instant::now() {
                    return Some(due);
                }
                // The timer wakes up to a millisecond late. This delay is not one of the process under test.
                tokio::time::sleep_until(due.into()).await;
                Some(Instant::now())
            }
        }
    }
}

async fn rest(
    address: SocketAddr,
    mut pace: Pace,
    request: impl Fn() -> Request<Full<Bytes>>,
    status: u16,
    size: Option<u64>,
) -> Histogram<u64> {
    let mut connection = connect(address).await;
    let mut latencies = histogram();
    while let Some(due) = pace.next().await {
        connection.ready().await.expect("the connection stays open");
        let answer = connection.send_request(request()).await.expect("an answer");
        assert_eq!(answer.status(), status);
        let mut body = answer.into_body();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            received += frame.expect("a whole body").data_ref().map_or(0, |data| data.len() as u64);
        }
        assert!(size.is_none_or(|size| size == received), "{received} bytes came");
        latencies.saturating_record(micros_since(due));
    }
    latencies
}

fn verify() -> Request<Full<Bytes>> {
    let body = format!(
        r#"{{"token":"{}","system_id":"s_0123456789ab","info":{{"name":"gitlab-runner","version":"19.4.0","revision":"abcdef12","platform":"linux","architecture":"amd64","executor":"docker"}}}}"#,
        sample_runner_token(0)
    );
    Request::post("/api/v4/runners/verify")
        .header("host", "paddock")
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("user-agent", "gitlab-runner 19.4.0 (19-4-stable; go1.25; linux/amd64)")
        .body(Full::from(body))
        .expect("a request")
}

/// A poll of gitlab-runner.
fn poll(token: &str) -> Request<Full<Bytes>> {
    let body = format!(r#"{{"token":"{token}","system_id":"{SYSTEM_ID}","info":{{"name":"gitlab-runner"}}}}"#);
    Request::post("/api/v4/jobs/request")
        .header("host", "paddock")
        .header("content-type", "application/json")
        .header("user-agent", "gitlab-runner 19.4.0 (19-4-stable; go1.25; linux/amd64)")
        .body(Full::from(body))
        .expect("a request")
}

/// Polls once and returns the status of the answer.
pub async fn poll_status(connection: &mut SendRequest<Full<Bytes>>, token: &str) -> u16 {
    connection.ready().await.expect("the connection stays open");
    let answer = connection.send_request(poll(token)).await.expect("an answer");
    let status = answer.status().as_u16();
    answer.into_body().collect().await.expect("a whole body");
    status
}

fn download(path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header("host", "paddock")
        .header("user-agent", "curl/8.5.0")
        .header("authorization", format!("Bearer {}", sample_job_token()))
        .body(Full::default())
        .expect("a request")
}

/// Opens a connection.
pub async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("the process listens");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    sender
}

async fn grpc(address: SocketAddr, mut pace: Pace) -> Histogram<u64> {
    let channel: Channel = Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .tcp_nodelay(true)
        .connect()
        .await
        .expect("the process listens");
    let mut client = RunnerTokenServiceClient::new(channel);
    let info = RunnerInfo {
        name: Some("gitlab-runner".into()),
        version: Some("19.4.0".into()),
        revision: Some("abcdef12".into()),
        platform: Some("linux".into()),
        architecture: Some("amd64".into()),
        executor: Some("docker".into()),
    };
    let message = VerifyRunnerRequest {
        token: sample_runner_token(0),
        system_id: Some("s_0123456789ab".into()),
        info: Some(info),
    };
    let mut latencies = histogram();
    while let Some(due) = pace.next().await {
        client.verify_runner(message.clone()).await.expect("an answer");
        latencies.saturating_record(micros_since(due));
    }
    latencies
}

/// Creates a histogram of latencies in microseconds, up to an hour.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("a histogram")
}

pub fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).expect("less than 500,000 years")
}

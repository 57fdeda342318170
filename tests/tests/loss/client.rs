//! Clients that send one request after another, each with its own id, and write down the answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use proto::paddock::contract::v1::CredentialKind;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::{Client, redirect::Policy};
use serde_json::Value;
use system::{Api, REQUEST_ID, header_of, within};
use tokio::net::TcpStream;

use super::{
    Scale,
    cluster::{Cluster, Job},
    oracle::{Access, Ledger},
};

/// The number of concurrent clients.
const CLIENTS: u64 = 24;

/// Maximum time that a client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long an impatient client waits, and how long the upstream pauses for it, in milliseconds.
const IMPATIENCE: Duration = Duration::from_millis(60);
const SLOWNESS: u64 = 250;

/// Maximum time until the gateway is back, and until a record is in the log at the end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Answers that the upstream is asked for, with their percentages. The rest are successes.
const FAILURES: [(u32, &str); 6] = [
    (4, "answer=401"),
    (4, "answer=403"),
    (6, "answer=404"),
    (6, "answer=500"),
    (2, "answer=503"),
    (2, "answer=200&breaks=true"),
];
const SUCCESSES: [&str; 5] = ["answer=200", "answer=206", "answer=302", "answer=304", "answer=200&bytes=40000"];

/// The percentage of clients that give up before the answer, and of requests that use the route in spool mode.
const IMPATIENT: u32 = 2;
const SPOOLED: u32 = 15;

/// All clients.
pub struct Clients {
    shared: Arc<Shared>,
    scale: Scale,
    root: Api,
}

struct Shared {
    port: u16,
    jobs: Vec<Job>,
    last_job: Job,
    targets: Vec<i64>,
    ledger: Arc<Ledger>,
    left: AtomicU64,
    done: Arc<AtomicU64>,
}

/// One request.
struct Plan {
    id: String,
    path: String,
    token: String,
    gives_up: bool,
    access: Access,
}

impl Clients {
    pub async fn new(cluster: &Cluster, scale: Scale, ledger: Arc<Ledger>) -> Self {
        let shared = Shared {
            port: cluster.system.port,
            jobs: cluster.jobs.clone(),
            last_job: cluster.last_job.clone().expect("the cluster is populated"),
            targets: cluster.targets.clone(),
            ledger,
            left: AtomicU64::new(scale.requests),
            done: Arc::default(),
        };
        Self { shared: Arc::new(shared), scale, root: cluster.system.root() }
    }

    /// Starts the clients. Returns the number of finished requests, and the thread that all clients run on.
    pub fn start(&self) -> (Arc<AtomicU64>, JoinHandle<()>) {
        let shared = Arc::clone(&self.shared);
        let seed = self.scale.seed;
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let clients = (0..CLIENTS)
                .map(|number| run(Arc::clone(&shared), StdRng::seed_from_u64(seed.wrapping_add(number)), number));
            runtime.block_on(futures::future::join_all(clients));
        });
        (Arc::clone(&self.shared.done), running)
    }

    /// Makes a last access in each mode, and waits until both are in the log. Earlier records are then in the log too, or they
    /// are lost.
    pub async fn wait_until_everything_is_in_the_log(&self, cluster: &Cluster) {
        let client = http();
        let not_spooled = cluster.spool_failures().await;
        for mode in ["strict", "spool"] {
            let id = format!("last-{mode}-{}", self.scale.seed);
            let target = self.shared.targets[0];
            let job = &self.shared.last_job;
            let path = format!("/api/v4/projects/{target}/{mode}/{id}?answer=200");
            let access = Access { target, origin: job.project, job: job.id, mode };
            let plan = Plan { id: id.clone(), path, token: job.token.clone(), gives_up: false, access };
            let recorded = within(PATIENCE, async || {
                let status = send(&client, self.shared.port, &plan).await;
                (status.is_ok_and(|(status, _)| status == 200)).then_some(())
            });
            assert!(recorded.await.is_some(), "no access in the mode {mode} succeeds at the end");
            self.shared.ledger.saw(&id, access, 200, "");
            // Found by its job, because the log is ordered by the time, and the clock was wrong.
            let events = format!("/projects/{target}/job_token_scope/authentication_log/events");
            let path = format!("{events}?per_page=100&job_id={}", job.id);
            let arrived = within(PATIENCE, async || {
                let events = self.root.get(&path).await;
                let events = events.body.as_array().cloned().unwrap_or_default();
                events.iter().any(|event| event["request_id"] == id.as_str()).then_some(())
            });
            assert!(arrived.await.is_some(), "the last access in the mode {mode} does not reach the log");
        }
        // Otherwise records may have reached the store without the spool, and the test proves nothing about the spool.
        assert!(cluster.spool_failures().await <= not_spooled, "the spool does not work");
    }

    /// An administrator.
    pub fn root(&self) -> &Api {
        &self.root
    }
}

fn http() -> Client {
    let builder = Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).connect_timeout(TIMEOUT);
    builder.build().expect("a client")
}

async fn run(shared: Arc<Shared>, mut random: StdRng, number: u64) {
    let client = http();
    let mut sequence = 0;
    while shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        sequence += 1;
        let plan = shared.plan(&mut random, format!("loss-{number}-{sequence}"));
        loop {
            match send(&client, shared.port, &plan).await {
                Ok((status, reason)) => shared.ledger.saw(&plan.id, plan.access, status, &reason),
                // Nothing was sent; the request is still to be made.
                Err(error) if error.is_connect() => {
                    wait_for_gateway(shared.port).await;
                    continue;
                }
                Err(_) => shared.ledger.saw_nothing(),
            }
            break;
        }
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn plan(&self, random: &mut StdRng, id: String) -> Plan {
        let target = self.targets[random.random_range(0..self.targets.len())];
        let job = &self.jobs[random.random_range(0..self.jobs.len())];
        let mode = if random.random_ratio(SPOOLED, 100) { "spool" } else { "strict" };
        let gives_up = random.random_ratio(IMPATIENT, 100);
        let query = if gives_up { format!("answer=200&pause={SLOWNESS}") } else { choose_answer(random).to_owned() };
        let path = format!("/api/v4/projects/{target}/{mode}/{id}?{query}");
        let access = Access { target, origin: job.project, job: job.id, mode };
        Plan { id, path, token: job.token.clone(), gives_up, access }
    }
}

fn choose_answer(random: &mut StdRng) -> &'static str {
    let mut draw = random.random_range(0..100);
    for (share, query) in FAILURES {
        if draw < share {
            return query;
        }
        draw -= share;
    }
    SUCCESSES[random.random_range(0..SUCCESSES.len())]
}

/// Sends a request. Returns the status, and the reason if the answer is a refusal. The body may break off.
async fn send(client: &Client, port: u16, plan: &Plan) -> reqwest::Result<(u16, String)> {
    let mut request = client
        .get(format!("http://127.0.0.1:{port}{}", plan.path))
        .header(REQUEST_ID, &plan.id)
        .header(header_of(CredentialKind::JobToken), &plan.token);
    if plan.gives_up {
        request = request.timeout(IMPATIENCE);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    // The client has the status, even if the body breaks off.
    let body = answer.bytes().await.unwrap_or_default();
    let refusal: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok((status, refusal["reason"].as_str().unwrap_or_default().to_owned()))
}

async fn wait_for_gateway(port: u16) {
    let back = within(PATIENCE, async || TcpStream::connect(("127.0.0.1", port)).await.ok());
    assert!(back.await.is_some(), "the gateway does not come back");
}

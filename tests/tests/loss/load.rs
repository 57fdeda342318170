//! The clients: each request has an id that the upstream sees and the log keeps, and what came of it is remembered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use system::{Api, REQUEST_ID};

use crate::plan::{Ask, Outcome, Plan};
use crate::stage::Jobs;

/// After this time a client goes that does not want to wait.
const IMPATIENCE: Duration = Duration::from_millis(25);

/// The longest time that a client waits for an answer, longer than Redis ever stands still.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a client rests that was told that the product is unavailable, as clients do.
const REST: Duration = Duration::from_millis(50);

/// What a client saw of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The head of an answer of the upstream.
    Answered(u16),
    /// An answer of the product's own.
    Refused(u16),
    /// It went before an answer came.
    Left,
    /// The connection broke before an answer came.
    Nothing,
}

/// A request, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub number: u64,
    pub ask: Ask,
    pub seen: Seen,
}

/// The clients, and what they saw.
pub struct Load {
    plan: Plan,
    cast: Jobs,
    next: AtomicU64,
    is_over: AtomicBool,
    entries: Mutex<Vec<Entry>>,
}

impl Load {
    pub fn new(plan: Plan, cast: Jobs) -> Self {
        Self { plan, cast, next: AtomicU64::new(0), is_over: AtomicBool::new(false), entries: Mutex::default() }
    }

    /// What the ids of all requests begin with.
    pub fn run_name(&self) -> String {
        format!("loss-{}", self.plan.seed)
    }

    /// How many requests have begun.
    pub fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Lets every client end after its request.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// What all clients saw, once they have ended.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    /// Runs until it is stopped.
    pub async fn run(self: Arc<Self>) {
        let clients = (0..self.plan.clients).map(|_| tokio::spawn(Arc::clone(&self).client()));
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client ends");
        }
    }

    async fn client(self: Arc<Self>) {
        let api = self.cast.anonymous.on_new_connection();
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let ask = Ask::of(&self.plan, number, self.cast.jobs.len(), self.cast.targets.len());
            let seen = self.ask(&api, number, ask).await;
            self.entries.lock().unwrap().push(Entry { number, ask, seen });
            if matches!(seen, Seen::Nothing | Seen::Refused(_)) {
                rest().await;
            }
        }
    }

    async fn ask(&self, api: &Api, number: u64, ask: Ask) -> Seen {
        let token = &self.cast.jobs[ask.job].token;
        let request = api.request(Method::GET, &ask.path(&self.cast.targets));
        let request = request.header(Api::job_header(), token).header(REQUEST_ID, id(&self.run_name(), number));
        let patience = if ask.outcome == Outcome::Abandoned { IMPATIENCE } else { PATIENCE };
        match tokio::time::timeout(patience, request.send()).await {
            Err(_) => Seen::Left,
            Ok(Err(_)) => Seen::Nothing,
            Ok(Ok(answer)) => {
                let status = answer.status().as_u16();
                let is_from_upstream = answer.headers().contains_key("x-upstream");
                // The answer was given with its head; what happens to the body changes nothing.
                let _ = tokio::time::timeout(PATIENCE, answer.bytes()).await;
                if is_from_upstream { Seen::Answered(status) } else { Seen::Refused(status) }
            }
        }
    }

    /// One line about what the clients saw.
    pub fn summary(&self) -> String {
        let entries = self.entries.lock().unwrap();
        let mut counts = BTreeMap::new();
        for entry in entries.iter() {
            let class = match entry.seen {
                Seen::Answered(status) => format!("{}xx", status / 100),
                Seen::Refused(status) => format!("own {status}"),
                Seen::Left => "left".to_owned(),
                Seen::Nothing => "broken off".to_owned(),
            };
            *counts.entry(class).or_insert(0_u64) += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(class, count)| format!("{class} {count}")).collect();
        format!("{} requests ({})", entries.len(), counts.join(", "))
    }

    /// A run in which hardly anything succeeded would show nothing.
    pub fn assert_meaningful(&self) {
        let entries = self.entries.lock().unwrap();
        let succeeded = |entry: &&Entry| matches!(entry.seen, Seen::Answered(200..400));
        let successes = entries.iter().filter(succeeded).count();
        assert!(successes * 3 > entries.len(), "only {successes} of {} requests succeeded", entries.len());
        for strict in [true, false] {
            let of_mode = entries.iter().filter(succeeded).filter(|entry| entry.ask.strict == strict).count();
            assert!(of_mode * 5 > successes, "strict {strict}: only {of_mode} of {successes} successes");
        }
    }
}

/// The id of a request.
pub fn id(run: &str, number: u64) -> String {
    format!("{run}-{number}")
}

async fn rest() {
    let _ = tokio::time::timeout(REST, std::future::pending::<()>()).await;
}

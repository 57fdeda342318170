//! The answers that the clients got, and their comparison with the log.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};

use super::{Scale, client::Clients, cluster::Cluster, fault_injector::FaultInjector};

/// Maximum number of findings of a kind that are shown.
const SHOWN: usize = 10;

/// The access that a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub target: i64,
    pub origin: i64,
    pub job: i64,
    /// The mode of the route, as the log writes it.
    pub mode: &'static str,
}

impl Access {
    /// Reports whether an event describes this access and its status.
    fn is_reported_by(self, status: u16, event: &Value) -> bool {
        let reported =
            ["job_id", "capture_mode", "status", "job_token_policies", "resolved"].map(|key| event[key].clone());
        project(event, "origin_project") == self.origin
            && project(event, "accessed_project") == self.target
            && json!(reported) == json!([self.job, self.mode, status, ["read_jobs"], true])
    }
}

/// The answers that the clients got.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The requests that got 2xx or 3xx.
    successes: Mutex<HashMap<String, (Access, u16)>>,
    /// The number of answers with each status and reason. An answer of the upstream has no reason.
    answers: Mutex<BTreeMap<String, u64>>,
    unanswered: AtomicU64,
}

impl Ledger {
    pub fn saw(&self, id: &str, access: Access, status: u16, reason: &str) {
        let answer = format!("{status} {reason}").trim_end().to_owned();
        *self.answers.lock().expect("no panic").entry(answer).or_default() += 1;
        if (200..400).contains(&status) {
            self.successes.lock().expect("no panic").insert(id.to_owned(), (access, status));
        }
    }

    pub fn saw_nothing(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn summary(&self) -> String {
        let answers = self.answers.lock().expect("no panic").clone();
        let unanswered = self.unanswered.load(Ordering::Relaxed);
        let answered: u64 = answers.values().sum();
        format!("{} requests, {unanswered} without an answer, answers {answers:?}", answered + unanswered)
    }
}

/// The differences between the answers and the log.
#[derive(Debug, Default)]
pub struct Findings {
    events: usize,
    successes: usize,
    lost: Vec<String>,
    invented: Vec<String>,
    duplicates: Vec<String>,
    misreported: Vec<String>,
    unresolved: usize,
}

/// The findings that are shown.
fn first_of(found: &[String]) -> &[String] {
    &found[..found.len().min(SHOWN)]
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.lost.len();
        let invented = self.invented.len();
        let duplicates = self.duplicates.len();
        let successes = self.successes;
        let events = self.events;
        let unresolved = self.unresolved;
        write!(f, "{successes} successes, {events} events, {unresolved} unresolved | ")?;
        write!(f, "lost {lost}, invented {invented}, duplicates {duplicates}, misreported {}", self.misreported.len())
    }
}

impl Findings {
    /// Asserts that nothing is wrong, and that enough happened.
    pub fn assert_none(&self, scale: Scale, fault_injector: &FaultInjector) {
        assert!(self.lost.is_empty(), "lost: {:?} {scale:?}", first_of(&self.lost));
        assert!(self.invented.is_empty(), "invented: {:?} {scale:?}", first_of(&self.invented));
        assert!(self.duplicates.is_empty(), "duplicates: {:?} {scale:?}", first_of(&self.duplicates));
        assert!(self.misreported.is_empty(), "misreported: {:?} {scale:?}", first_of(&self.misreported));
        // A run with few successes or few faults proves little.
        let successes = u64::try_from(self.successes).expect("a count");
        assert!(successes * 2 > scale.requests, "{successes} successes are too few {scale:?}");
        assert!(fault_injector.kills() >= scale.kills, "{} kills are too few {scale:?}", fault_injector.kills());
        let left_out = fault_injector.left_out();
        assert!(
            left_out.is_empty() || std::env::var_os("CI").is_none(),
            "CI must inject all faults, not leave out {left_out:?}"
        );
    }
}

/// Compares the whole log with the answers.
pub async fn compare(ledger: &Ledger, cluster: &Cluster, clients: &Clients) -> Findings {
    let successes = ledger.successes.lock().expect("no panic").clone();
    let mut findings = Findings { successes: successes.len(), ..Findings::default() };
    let mut logged: HashSet<String> = HashSet::new();
    for target in &cluster.targets {
        let log = format!("/projects/{target}/job_token_scope/authentication_log");
        let mut by_origin: BTreeMap<i64, u64> = BTreeMap::new();
        every(clients, &format!("{log}/events?per_page=100"), |event| {
            *by_origin.entry(project(event, "origin_project")).or_default() += 1;
            findings.events += 1;
            let id = event["request_id"].as_str().unwrap_or_default().to_owned();
            if !cluster.upstream.statuses(&id).iter().any(|status| (200..400).contains(status)) {
                findings.invented.push(id.clone());
            }
            if successes.get(&id).is_some_and(|(access, status)| !access.is_reported_by(*status, event)) {
                findings.misreported.push(event.to_string());
            }
            if !logged.insert(id.clone()) && !id.starts_with("last-") {
                findings.duplicates.push(id);
            }
        })
        .await;
        every(clients, &format!("{log}?per_page=100"), |pair| {
            let origin = project(pair, "origin_project");
            let count = pair["access_count"].as_u64();
            let events = by_origin.remove(&origin);
            if events != count {
                findings.duplicates.push(format!("{origin} to {target}: {count:?} counted, {events:?} events"));
            }
        })
        .await;
        // Events of a pair that the view does not have.
        findings.duplicates.extend(by_origin.iter().map(|(origin, count)| format!("{origin}: {count} not counted")));
        every(clients, &format!("{log}/events?per_page=100&unresolved=true"), |_| findings.unresolved += 1).await;
    }
    findings.lost = successes.into_keys().filter(|id| !logged.contains(id)).collect();
    findings
}

/// The id of the project on one side of an access.
fn project(item: &Value, side: &str) -> i64 {
    item[side]["id"].as_i64().unwrap_or_default()
}

/// Calls `look` with every item of a list, page by page.
async fn every(clients: &Clients, path: &str, mut look: impl FnMut(&Value)) {
    let mut cursor = String::new();
    loop {
        let page = clients.root().get(&format!("{path}{cursor}")).await;
        let next = page.header("x-next-cursor").to_owned();
        page.ok(200).as_array().expect("a list").iter().for_each(&mut look);
        if next.is_empty() {
            return;
        }
        cursor = format!("&cursor={next}");
    }
}

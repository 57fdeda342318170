//! What the clients saw, and the comparison of it with the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::{Scale, client::Clients, nemesis::Nemesis, world::World};

/// How many ids of what is wrong are shown.
const SHOWN: usize = 10;

/// What the clients were answered.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The requests that were given 2xx or 3xx, with the project that they reached.
    successes: Mutex<HashMap<String, i64>>,
    statuses: Mutex<BTreeMap<u16, u64>>,
    unanswered: AtomicU64,
}

impl Ledger {
    pub fn saw(&self, id: &str, target: i64, status: u16) {
        *self.statuses.lock().expect("no panic").entry(status).or_default() += 1;
        if (200..400).contains(&status) {
            self.successes.lock().expect("no panic").insert(id.to_owned(), target);
        }
    }

    pub fn saw_nothing(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn summary(&self) -> String {
        let statuses = self.statuses.lock().expect("no panic").clone();
        let unanswered = self.unanswered.load(Ordering::Relaxed);
        let answered: u64 = statuses.values().sum();
        format!("{} requests, {unanswered} without an answer, statuses {statuses:?}", answered + unanswered)
    }
}

/// What does not agree.
#[derive(Debug, Default)]
pub struct Findings {
    events: usize,
    successes: usize,
    lost: Vec<String>,
    invented: Vec<String>,
    duplicates: Vec<String>,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lost, invented, duplicates) = (self.lost.len(), self.invented.len(), self.duplicates.len());
        let (successes, events) = (self.successes, self.events);
        write!(f, "{successes} successes, {events} events, lost {lost}, invented {invented}, duplicates {duplicates}")
    }
}

impl Findings {
    /// The promise.
    pub fn hold(&self, scale: Scale, nemesis: &Nemesis) {
        let show = |ids: &[String]| ids.iter().take(SHOWN).cloned().collect::<Vec<_>>();
        assert!(self.lost.is_empty(), "lost: {:?} {scale:?}", show(&self.lost));
        assert!(self.invented.is_empty(), "invented: {:?} {scale:?}", show(&self.invented));
        assert!(self.duplicates.is_empty(), "duplicates: {:?} {scale:?}", show(&self.duplicates));
        // A run in which little succeeds or little happens proves little.
        let successes = u64::try_from(self.successes).expect("a count");
        assert!(successes * 2 > scale.requests, "{successes} successes are too few {scale:?}");
        assert!(nemesis.kills() >= scale.kills, "{} kills are too few {scale:?}", nemesis.kills());
    }
}

/// Reads the whole log and compares.
pub async fn compare(ledger: &Ledger, world: &World, clients: &Clients) -> Findings {
    let successes = ledger.successes.lock().expect("no panic").clone();
    let mut findings = Findings { successes: successes.len(), ..Findings::default() };
    let mut logged: HashSet<(String, i64)> = HashSet::new();
    for target in &world.targets {
        let mut by_origin: BTreeMap<i64, u64> = BTreeMap::new();
        for event in every(clients, &format!("/projects/{target}/job_token_scope/authentication_log/events")).await {
            let id = event["request_id"].as_str().unwrap_or_default().to_owned();
            *by_origin.entry(event["origin_project"]["id"].as_i64().unwrap_or_default()).or_default() += 1;
            if !world.upstream.statuses(&id).iter().any(|status| (200..400).contains(status)) {
                findings.invented.push(id.clone());
            }
            if !logged.insert((id.clone(), *target)) && !id.starts_with("last-") {
                findings.duplicates.push(id);
            }
            findings.events += 1;
        }
        for pair in every(clients, &format!("/projects/{target}/job_token_scope/authentication_log")).await {
            let (origin, count) = (pair["origin_project"]["id"].as_i64(), pair["access_count"].as_u64());
            let events = by_origin.remove(&origin.unwrap_or_default());
            if events != count {
                findings.duplicates.push(format!("{origin:?} to {target}: {count:?} counted, {events:?} events"));
            }
        }
        // Events of a pair that the view does not have.
        findings.duplicates.extend(by_origin.iter().map(|(origin, count)| format!("{origin}: {count} not counted")));
    }
    for (id, target) in successes {
        if !logged.contains(&(id.clone(), target)) {
            findings.lost.push(id);
        }
    }
    findings
}

/// Every item of a list.
async fn every(clients: &Clients, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = clients.root().get(&format!("{path}?per_page=100{cursor}")).await;
        let next = page.headers.get("x-next-cursor").and_then(|next| next.to_str().ok()).map(str::to_owned);
        items.extend(page.ok(200).as_array().cloned().expect("a list"));
        match next {
            Some(next) if !next.is_empty() => cursor = format!("&cursor={next}"),
            _ => return items,
        }
    }
}

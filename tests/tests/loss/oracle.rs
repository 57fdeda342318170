//! Holds the log against what the clients and the upstream saw.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use system::{Api, within};

use crate::load::{Entry, Seen, id};
use crate::stage::Stage;

/// How long the last records may take to get into the log when everything runs again.
const DRAIN: Duration = Duration::from_secs(90);

/// What is wrong with the log.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many accesses the log has.
    events: usize,
    /// Requests without a verdict, which are no accesses.
    unresolved: usize,
    /// A client was given a success that the log does not have.
    lost: BTreeSet<String>,
    /// The log has an access that the upstream never answered with success.
    invented: BTreeSet<String>,
    /// The log has an access twice, or counts more or fewer than it has.
    duplicates: BTreeSet<String>,
    /// The log says of an access what was not so.
    misreported: BTreeSet<String>,
}

impl Verdict {
    /// Holds it to nothing wrong.
    pub fn assert_clean(&self, stage: &Stage) {
        let clean = [&self.lost, &self.invented, &self.duplicates, &self.misreported].iter().all(|set| set.is_empty());
        assert!(clean, "{self:#?}\n{}", stage.system.auth.program.everything());
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, unresolved, lost, invented, duplicates, misreported } = self;
        let [lost, invented, duplicates, misreported] = [lost, invented, duplicates, misreported].map(BTreeSet::len);
        write!(f, "{events} in the log, {unresolved} unresolved: ")?;
        write!(f, "{lost} lost, {invented} invented, {duplicates} duplicates, {misreported} misreported")
    }
}

/// An access as the log has it.
#[derive(Debug)]
struct Event {
    request_id: String,
    /// Target, origin, as the view has its rows.
    pair: (i64, i64),
    /// What the log says beside that: job, status, mode, policies, whether there was a verdict.
    told: Value,
}

impl Event {
    fn of(event: &Value) -> Self {
        let told = ["job_id", "status", "capture_mode", "job_token_policies", "resolved"].map(|key| event[key].clone());
        Self {
            request_id: event["request_id"].as_str().unwrap_or_default().to_owned(),
            pair: pair(event),
            told: json!(told),
        }
    }

    /// Whether it says who reached what, and what came of it.
    fn is_true(&self, entry: &Entry, statuses: &[u16], stage: &Stage) -> bool {
        let job = &stage.jobs[entry.ask.job];
        let (mode, policy) = if entry.ask.strict { ("strict", "read_jobs") } else { ("spool", "read_packages") };
        let is_told = |status: u16| self.told == json!([job.id, status, mode, [policy], true]);
        let status_is_true = match entry.seen {
            Seen::Answered(status) => is_told(status),
            // The client does not know; the upstream does.
            _ => statuses.iter().any(|status| is_told(*status)),
        };
        status_is_true && self.pair == (stage.targets[entry.ask.target], job.project)
    }
}

/// Waits until the log has everything that it must have, and judges it.
pub async fn judge(stage: &Stage, entries: &[Entry], run: &str) -> Verdict {
    let root = stage.system.root();
    let asked: HashMap<_, _> = entries.iter().map(|entry| (id(run, entry.number), entry)).collect();
    let succeeded = |entry: &&Entry| matches!(entry.seen, Seen::Answered(200..400));
    let due: HashSet<_> = entries.iter().filter(succeeded).map(|entry| id(run, entry.number)).collect();
    drain(&root, stage, &due).await;

    let events = events(&root, stage, "").await.expect("the log can be read");
    let mut verdict = Verdict { events: events.len(), ..Verdict::default() };
    let mut known = HashSet::new();
    for event in &events {
        let statuses = stage.upstream.statuses(&event.request_id);
        if !known.insert(event.request_id.as_str()) {
            verdict.duplicates.insert(event.request_id.clone());
        }
        if !statuses.iter().any(|status| (200..400).contains(status)) {
            verdict.invented.insert(event.request_id.clone());
        }
        if asked.get(&event.request_id).is_none_or(|entry| !event.is_true(entry, &statuses, stage)) {
            verdict.misreported.insert(format!("{event:?} {statuses:?}"));
        }
    }
    verdict.lost = due.into_iter().filter(|id| !known.contains(id.as_str())).collect();
    let rows = rows(&root, stage).await.expect("the log can be read");
    verdict.duplicates.extend(wrong_counts(rows, &events));
    verdict.unresolved = self::events(&root, stage, "&unresolved=true").await.map_or(0, |all| all.len());
    verdict
}

/// Waits until everything that is due is in the log; what takes longer is lost, as far as anybody can tell. The log is
/// read only when it has stopped growing.
async fn drain(root: &Api, stage: &Stage, due: &HashSet<String>) {
    let (mut size, mut read_at) = (None, None);
    let drained = within(DRAIN, async || {
        let now = rows(root, stage).await?.values().sum::<i64>();
        let grows = size.replace(now) != Some(now);
        if grows || read_at.replace(now) == Some(now) {
            return None;
        }
        let events = events(root, stage, "").await?;
        let known: HashSet<_> = events.iter().map(|event| event.request_id.as_str()).collect();
        due.iter().all(|id| known.contains(id.as_str())).then_some(())
    });
    if drained.await.is_none() {
        system::say("loss harness: the log does not get complete");
    }
}

/// How many accesses the view counts for each pair. None when the product is not available yet.
async fn rows(root: &Api, stage: &Stage) -> Option<BTreeMap<(i64, i64), i64>> {
    let mut all = BTreeMap::new();
    for target in &stage.targets {
        let path = format!("/projects/{target}/job_token_scope/authentication_log?per_page=100");
        let answer = root.get(&path).await;
        let rows = answer.body.as_array().filter(|_| answer.status == 200)?;
        all.extend(rows.iter().map(|row| (pair(row), row["access_count"].as_i64().unwrap_or(0))));
    }
    Some(all)
}

/// The rows of the view whose count is not that of the events.
fn wrong_counts(rows: BTreeMap<(i64, i64), i64>, events: &[Event]) -> Vec<String> {
    let mut counts: BTreeMap<_, (i64, i64)> = rows.into_iter().map(|(pair, counted)| (pair, (counted, 0))).collect();
    for event in events {
        counts.entry(event.pair).or_default().1 += 1;
    }
    let wrong = counts.into_iter().filter(|(_, (counted, found))| counted != found);
    wrong.map(|(pair, (counted, found))| format!("{pair:?}: {found} accesses, {counted} counted")).collect()
}

/// Target and origin.
fn pair(item: &Value) -> (i64, i64) {
    let project = |side: &str| item[side]["id"].as_i64().unwrap_or(0);
    (project("accessed_project"), project("origin_project"))
}

/// Every event of the projects that were reached. None when the product is not available yet.
async fn events(root: &Api, stage: &Stage, filter: &str) -> Option<Vec<Event>> {
    let mut all = Vec::new();
    for target in &stage.targets {
        let path = format!("/projects/{target}/job_token_scope/authentication_log/events?per_page=100{filter}");
        let mut cursor = String::new();
        loop {
            let answer = root.get(&format!("{path}{cursor}")).await;
            let page = answer.body.as_array().filter(|_| answer.status == 200)?;
            all.extend(page.iter().map(Event::of));
            match answer.header("x-next-cursor") {
                "" => break,
                next => cursor = format!("&cursor={next}"),
            }
        }
    }
    Some(all)
}

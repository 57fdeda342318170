//! The facts against a plain model of the world that keeps its history: a decision is right if it is the one that the model
//! makes for some instant within the lag, and after a change by this process itself.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use chassis::access::Caller;
use futures::FutureExt as _;
use proto::paddock::{
    contract::v1::Process,
    directory::v1::{Project, Visibility},
    job_token::v1::JobTokenPolicy::{self, AdminJobs, ReadJobs},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::*;
use crate::scope::Grant;

const START: OffsetDateTime = datetime!(2026-01-15 12:00:00 UTC);
const STEPS: u32 = 1_000_000;
const LAG_MS: i64 = 1000;

const JOBS: usize = 5;
const PROJECTS: usize = 4;
const GROUPS: usize = 2;
const POLICIES: [&[JobTokenPolicy]; 3] = [&[], &[ReadJobs], &[AdminJobs]];

/// The one user.
const USER: i64 = 3;

/// What an entry can grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    None,
    Everything,
    Reading,
    Changing,
}

/// Everything that a decision depends on. Job `n` runs in project `n % PROJECTS`; a project's groups are `n % GROUPS`, and
/// then the other one.
#[derive(Clone, Debug)]
struct World {
    jobs: [JobStatus; JOBS],
    exists: [bool; PROJECTS],
    private: [bool; PROJECTS],
    role: [i32; PROJECTS],
    enforced: [bool; PROJECTS],
    project_entries: [[Entry; PROJECTS]; PROJECTS],
    group_entries: [[Entry; GROUPS]; PROJECTS],
}

/// What a decision ends with: the code of the reason of a refusal, or nothing.
type Outcome = Option<&'static str>;

/// A request: the job, the project and the policies, by their places.
#[derive(Clone, Copy, Debug)]
struct Asked {
    job: usize,
    target: usize,
    policies: usize,
}

impl World {
    fn new() -> Self {
        Self {
            jobs: [JobStatus::Running; JOBS],
            exists: [true; PROJECTS],
            private: [true; PROJECTS],
            role: [40; PROJECTS],
            enforced: [true; PROJECTS],
            project_entries: [[Entry::None; PROJECTS]; PROJECTS],
            group_entries: [[Entry::None; GROUPS]; PROJECTS],
        }
    }

    fn groups(project: usize) -> [usize; GROUPS] {
        [project % GROUPS, (project + 1) % GROUPS]
    }

    /// The rules, once more and as plainly as can be.
    fn outcome(&self, asked: Asked) -> Outcome {
        let (origin, target) = (asked.job % PROJECTS, asked.target);
        if self.jobs[asked.job] != JobStatus::Running {
            return Some("job_not_running");
        }
        if !self.exists[origin] {
            return Some("job_project_deleted");
        }
        if !self.exists[target] {
            return Some("project_not_found");
        }
        if self.private[target] && self.role[target] == 0 {
            return Some("project_not_found");
        }
        let mut entry = self.project_entries[target][origin];
        for group in Self::groups(origin) {
            if entry == Entry::None {
                entry = self.group_entries[target][group];
            }
        }
        if self.enforced[target] && origin != target {
            match (entry, asked.policies) {
                (Entry::None, _) => return Some("job_token_not_in_scope"),
                (Entry::Everything, _) | (Entry::Changing, 1 | 2) | (Entry::Reading, 1) => {}
                (_, 0) => return Some("job_token_route_unauthorized"),
                _ => return Some("job_token_policy_missing"),
            }
        }
        let least = match asked.policies {
            1 if self.private[target] => 10,
            2 => 30,
            _ => 0,
        };
        if self.role[target] < least { Some("access_denied") } else { None }
    }
}

/// The sources, which tell the world as it is.
struct Told(Mutex<World>);

fn grants<const N: usize>(entries: &[Entry; N]) -> HashMap<i64, Grant> {
    let grant = |(id, entry): (usize, &Entry)| {
        let grant = match entry {
            Entry::None => return None,
            Entry::Everything => Grant::Everything,
            Entry::Reading => Grant::Policies([ReadJobs].into()),
            Entry::Changing => Grant::Policies([AdminJobs].into()),
        };
        Some((id as i64, grant))
    };
    entries.iter().enumerate().filter_map(grant).collect()
}

impl Sources for Told {
    async fn job(&self, id: i64) -> Result<Option<JobFacts>> {
        let status = self.0.lock().unwrap().jobs[id as usize];
        Ok(Some(JobFacts { project_id: id % PROJECTS as i64, user_id: USER, status }))
    }

    async fn access(&self, project: &str, _: i64, _: &CallContext) -> Result<Option<GetProjectAccessResponse>> {
        let world = self.0.lock().unwrap();
        // A project is named by its id or by its path.
        let id: usize = project.trim_start_matches('p').parse().unwrap();
        let visibility = if world.private[id] { Visibility::Private } else { Visibility::Internal };
        let project = Project {
            id: id as i64,
            path_with_namespace: format!("p{id}"),
            visibility: visibility.into(),
            ..Project::default()
        };
        Ok(world.exists[id].then(|| GetProjectAccessResponse {
            project: Some(project),
            ancestor_group_ids: World::groups(id).map(|group| group as i64).to_vec(),
            access_level: Some(world.role[id]).filter(|role| *role > 0),
            user_exists: true,
            ..GetProjectAccessResponse::default()
        }))
    }

    async fn scope(&self, project_id: i64, _: &Origin) -> Result<Scope> {
        let (world, project) = (self.0.lock().unwrap(), project_id as usize);
        Ok(Scope {
            inbound_enabled: world.enforced[project],
            projects: grants(&world.project_entries[project]),
            groups: grants(&world.group_entries[project]),
        })
    }
}

/// The worlds that were, each from its beginning on, and which of them can still count.
struct History {
    worlds: VecDeque<(i64, World)>,
    /// The number of the first one that is kept.
    first: usize,
    /// For each job, the number of the first one that may count.
    counts_from: [usize; JOBS],
}

impl History {
    fn current(&self) -> &World {
        &self.worlds.back().unwrap().1
    }

    fn last_number(&self) -> usize {
        self.first + self.worlds.len() - 1
    }

    /// Whether the outcome was right at some instant within the lag.
    fn was_right(&self, asked: Asked, outcome: Outcome, now: i64) -> bool {
        let from = self.counts_from[asked.job].saturating_sub(self.first);
        (from..self.worlds.len()).rev().any(|at| {
            let ended = self.worlds.get(at + 1).map_or(now, |(began, _)| *began);
            now - ended < LAG_MS && self.worlds[at].1.outcome(asked) == outcome
        })
    }

    fn forget_before(&mut self, now: i64) {
        while self.worlds.get(1).is_some_and(|(began, _)| now - began >= LAG_MS) {
            self.worlds.pop_front();
            self.first += 1;
        }
    }
}

/// A test under way.
struct Trial {
    facts: Facts<Told>,
    clock: Clock,
    random: StdRng,
    history: History,
    tokens: Vec<(JobToken, OffsetDateTime)>,
    context: CallContext,
    /// How often each outcome was seen.
    seen: HashMap<Outcome, u32>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let clock = Clock::manual(START);
        let keys = SigningKeys::from_seeds(&(1..33).collect::<Vec<u8>>().into(), None).unwrap();
        // The token of the first job expires while the trial runs.
        let token = |job: usize| {
            let expires_at = START + Duration::seconds(if job == 0 { 300 } else { 1_000_000_000 });
            let claims = Claims::new(job as i64, (job % PROJECTS) as i64, USER, START - Duration::days(99), expires_at);
            (JobToken::issue(&keys, &claims).unwrap(), expires_at)
        };
        let tokens = (0..JOBS).map(token).collect();
        let told = Told(Mutex::new(World::new()));
        let config: crate::config::ProcessConfig =
            chassis::config::load(&[chassis::config::DEFAULTS, crate::config::DEFAULTS], None).unwrap();
        assert_eq!(i64::try_from(config.job_token_auth.cache_ms).unwrap(), LAG_MS);
        let history = History { worlds: [(millis(&clock), World::new())].into(), first: 0, counts_from: [0; JOBS] };
        let caller = Caller::Process(Process::Gateway);
        let context = CallContext { caller, request_id: "r".to_owned(), peer_address: None };
        let facts = Facts::new(told, keys, clock.clone(), &config.job_token_auth);
        Self { facts, clock, random: StdRng::seed_from_u64(seed), history, tokens, context, seen: HashMap::new() }
    }

    fn step(&mut self) {
        match self.random.random_range(0..1000) {
            0..750 => self.ask(),
            750..850 => self.advance(),
            850 => self.go_back(),
            _ => self.change(),
        }
    }

    fn ask(&mut self) {
        let job = self.random.random_range(0..JOBS);
        self.ask_for(job);
    }

    fn ask_for(&mut self, job: usize) {
        let asked = Asked {
            job,
            target: self.random.random_range(0..PROJECTS),
            policies: self.random.random_range(0..POLICIES.len()),
        };
        let path = if self.random.random_bool(0.2) { "p" } else { "" };
        let outcome = self.decide(asked, &format!("{path}{}", asked.target));
        *self.seen.entry(outcome).or_default() += 1;
        if self.clock.now() >= self.tokens[asked.job].1 {
            assert_eq!(outcome, Some("job_token_expired"), "expiry knows no lag");
            return;
        }
        let now = millis(&self.clock);
        self.history.forget_before(now);
        assert!(
            self.history.was_right(asked, outcome, now),
            "{asked:?} {outcome:?} at {now}: {:?}",
            self.history.worlds
        );
    }

    fn decide(&self, asked: Asked, project: &str) -> Outcome {
        let decided = async {
            let claims = self.facts.claims(self.tokens[asked.job].0.clone()).await?;
            self.facts.decide(&claims, project, POLICIES[asked.policies], &self.context).await
        };
        match decided.now_or_never().expect("the model answers at once") {
            Ok(_) => None,
            Err(Error::Refused(refusal)) => Some(refusal.spec().code),
            Err(error) => panic!("{error}"),
        }
    }

    fn advance(&mut self) {
        self.clock.advance(Duration::milliseconds(self.random.random_range(0..60)));
    }

    /// How old an answer is cannot be told any more, so only the world as it is now may count. The jump is seen by those who
    /// look before and after it; whoever holds an expired token does not look.
    fn go_back(&mut self) {
        self.ask_for(1);
        self.clock.advance(Duration::milliseconds(-self.random.random_range(1..1500)));
        let world = self.history.current().clone();
        self.history.first = self.history.last_number() + 1;
        self.history.worlds = [(millis(&self.clock), world)].into();
        self.history.counts_from = [self.history.first; JOBS];
        self.ask_for(1);
    }

    /// Changes one thing, by this process or by another one.
    fn change(&mut self) {
        let mut world = self.history.current().clone();
        let random = &mut self.random;
        let (project, other) = (random.random_range(0..PROJECTS), random.random_range(0..PROJECTS));
        // Rarely by us: a change of ours ends every belief, which then never grows old.
        let (job, by_us) = (random.random_range(0..JOBS), random.random_bool(0.02));
        let entry = [Entry::None, Entry::Everything, Entry::Reading, Entry::Changing][random.random_range(0..4)];
        let kind = random.random_range(0..8);
        match kind {
            0 | 1 => {
                let ended = [JobStatus::Created, JobStatus::Finished][random.random_range(0..2)];
                world.jobs[job] = if random.random_bool(0.8) { JobStatus::Running } else { ended };
            }
            2 => world.enforced[project] = random.random_bool(0.8),
            3 => world.project_entries[project][other] = entry,
            4 => world.group_entries[project][random.random_range(0..GROUPS)] = entry,
            5 => world.role[project] = [0, 10, 20, 30, 40][random.random_range(0..5)],
            6 => world.private[project] = random.random_bool(0.6),
            _ => world.exists[project] = random.random_bool(0.9),
        }
        *self.facts.sources.0.lock().unwrap() = world.clone();
        self.history.worlds.push_back((millis(&self.clock), world));
        let number = self.history.last_number();
        match kind {
            0 | 1 if by_us => {
                self.facts.job_changed(job as i64);
                self.history.counts_from[job] = number;
            }
            2..=4 if by_us => {
                self.facts.scope_changed();
                self.history.counts_from = [number; JOBS];
            }
            _ => {}
        }
    }
}

fn millis(clock: &Clock) -> i64 {
    proto::timestamp::millis(clock.now())
}

#[test]
fn a_million_random_steps_show_no_decision_that_was_not_right_within_the_lag() {
    const TRIALS: u32 = 4;
    std::thread::scope(|scope| {
        for seed in 0..TRIALS {
            scope.spawn(move || {
                let mut trial = Trial::new(u64::from(seed));
                (0..STEPS / TRIALS).for_each(|_| trial.step());
                let rarest = trial.seen.values().min();
                assert!(trial.seen.len() == 9 && rarest > Some(&500), "{:?}", trial.seen);
            });
        }
    });
}

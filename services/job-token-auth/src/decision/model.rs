//! Checks decisions against a plain model that keeps the history of everything they depend on. A decision is right if the model
//! makes the same one for some instant within the lag, and after the last change by this process.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use chassis::access::Caller;
use futures::FutureExt as _;
use proto::paddock::{
    contract::v1::Process,
    directory::v1::{GetProjectAccessResponse, Project, Visibility},
    job_token::v1::{
        JobStatus,
        JobTokenPolicy::{self, AdminJobs, ReadJobs},
    },
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::{sources::JobRecord, *};
use crate::allowlist::rules::Grant;

const START: OffsetDateTime = datetime!(2026-01-15 12:00:00 UTC);
const TRIALS: u32 = 4;
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

/// Everything that a decision depends on. Job `n` runs in project `n % PROJECTS`. The nearest group of project `n` is
/// `n % GROUPS`; the other group is above it.
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

/// The code of the reason of a refusal; none: allowed.
type Outcome = Option<&'static str>;

/// The job, the project and the policies of a request, by their indexes.
#[derive(Clone, Copy, Debug)]
struct Request {
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

    /// Applies the rules, written in the plainest way.
    fn outcome(&self, request: Request) -> Outcome {
        let origin = request.job % PROJECTS;
        let target = request.target;
        if self.jobs[request.job] != JobStatus::Running {
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
            match (entry, request.policies) {
                (Entry::None, _) => return Some("job_token_not_in_scope"),
                (Entry::Everything, _) | (Entry::Changing, 1 | 2) | (Entry::Reading, 1) => {}
                (_, 0) => return Some("job_token_route_unauthorized"),
                _ => return Some("job_token_policy_missing"),
            }
        }
        let least = match request.policies {
            1 if self.private[target] => 10,
            2 => 30,
            _ => 0,
        };
        if self.role[target] < least { Some("access_denied") } else { None }
    }
}

/// Sources that read from a world.
struct WorldSources(Mutex<World>);

impl Entry {
    fn grant(self) -> Option<Grant> {
        match self {
            Self::None => None,
            Self::Everything => Some(Grant::Everything),
            Self::Reading => Some(Grant::Policies([ReadJobs].into())),
            Self::Changing => Some(Grant::Policies([AdminJobs].into())),
        }
    }
}

/// Returns the grants by the index of their project or group.
fn grants_by_id<const N: usize>(entries: &[Entry; N]) -> HashMap<i64, Grant> {
    entries.iter().enumerate().filter_map(|(id, entry)| Some((id as i64, entry.grant()?))).collect()
}

impl Sources for WorldSources {
    async fn job(&self, id: i64) -> Result<Option<JobRecord>> {
        let status = self.0.lock().unwrap().jobs[id as usize];
        Ok(Some(JobRecord { project_id: id % PROJECTS as i64, user_id: USER, status }))
    }

    async fn project_access(&self, project: &str, _: i64, _: &CallContext) -> Result<Option<GetProjectAccessResponse>> {
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
        let world = self.0.lock().unwrap();
        let project = project_id as usize;
        Ok(Scope {
            inbound_enabled: world.enforced[project],
            projects: grants_by_id(&world.project_entries[project]),
            groups: grants_by_id(&world.group_entries[project]),
        })
    }
}

/// The past states of the world, each with the time from which it held.
struct History {
    worlds: VecDeque<(i64, World)>,
    /// The number of the first state that is kept.
    first: usize,
    /// For each job, the number of the first state that a decision may be based on.
    first_valid: [usize; JOBS],
}

impl History {
    fn current(&self) -> &World {
        &self.worlds.back().unwrap().1
    }

    fn last_number(&self) -> usize {
        self.first + self.worlds.len() - 1
    }

    /// Reports whether the outcome was right at some instant within the lag.
    fn was_right(&self, request: Request, outcome: Outcome, now: i64) -> bool {
        let first_valid = self.first_valid[request.job].saturating_sub(self.first);
        (first_valid..self.worlds.len()).rev().any(|index| {
            let end = self.worlds.get(index + 1).map_or(now, |(start, _)| *start);
            now - end < LAG_MS && self.worlds[index].1.outcome(request) == outcome
        })
    }

    fn forget_before(&mut self, now: i64) {
        while self.worlds.get(1).is_some_and(|(start, _)| now - start >= LAG_MS) {
            self.worlds.pop_front();
            self.first += 1;
        }
    }
}

/// Issues the token of a job, and returns when it expires. The token of the first job expires during the trial.
fn issue_token(keys: &SigningKeys, job: usize) -> (JobToken, OffsetDateTime) {
    let expires_at = START + Duration::milliseconds(if job == 0 { token_life_ms() } else { 1_000_000_000_000 });
    let claims = Claims::new(job as i64, (job % PROJECTS) as i64, USER, START - Duration::days(99), expires_at);
    (JobToken::issue(keys, &claims).unwrap(), expires_at)
}

/// A run of random steps.
struct Trial {
    decider: Decider<WorldSources>,
    clock: Clock,
    random: StdRng,
    history: History,
    tokens: Vec<(JobToken, OffsetDateTime)>,
    context: CallContext,
    /// How often each outcome occurred.
    outcomes: HashMap<Outcome, u32>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let clock = Clock::manual(START);
        let keys = SigningKeys::from_seeds(&(1..33).collect::<Vec<u8>>().into(), None).unwrap();
        let config: crate::config::ProcessConfig =
            chassis::config::load(&[chassis::config::DEFAULTS, crate::config::DEFAULTS], None).unwrap();
        assert_eq!(i64::try_from(config.job_token_auth.cache_ms).unwrap(), LAG_MS);
        let sources = WorldSources(Mutex::new(World::new()));
        Self {
            tokens: (0..JOBS).map(|job| issue_token(&keys, job)).collect(),
            decider: Decider::new(sources, keys, clock.clone(), &config.job_token_auth),
            random: StdRng::seed_from_u64(seed),
            history: History {
                worlds: [(clock_millis(&clock), World::new())].into(),
                first: 0,
                first_valid: [0; JOBS],
            },
            clock,
            context: CallContext {
                caller: Caller::Process(Process::Gateway),
                request_id: "r".to_owned(),
                peer_address: None,
                user_agent: None,
            },
            outcomes: HashMap::new(),
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..1000) {
            0..750 => self.request_access(),
            750..850 => self.advance_clock(),
            850 => self.set_clock_back(),
            _ => self.change(),
        }
    }

    fn request_access(&mut self) {
        let job = self.random.random_range(0..JOBS);
        self.request_access_of(job);
    }

    fn request_access_of(&mut self, job: usize) {
        let request = Request {
            job,
            target: self.random.random_range(0..PROJECTS),
            policies: self.random.random_range(0..POLICIES.len()),
        };
        let path = if self.random.random_bool(0.2) { "p" } else { "" };
        let outcome = self.decide(request, &format!("{path}{}", request.target));
        *self.outcomes.entry(outcome).or_default() += 1;
        if self.clock.now() >= self.tokens[request.job].1 {
            assert_eq!(outcome, Some("job_token_expired"), "a token expires without a lag");
            return;
        }
        let now = clock_millis(&self.clock);
        self.history.forget_before(now);
        assert!(
            self.history.was_right(request, outcome, now),
            "{request:?} {outcome:?} at {now}: {:?}",
            self.history.worlds
        );
    }

    fn decide(&self, request: Request, project: &str) -> Outcome {
        let client = ResolvedClient::default();
        let decision = async {
            let claims = self.decider.claims(self.tokens[request.job].0.clone(), &client).await?;
            self.decider.decide(&claims, project, POLICIES[request.policies], &self.context).await
        };
        match decision.now_or_never().expect("the sources answer at once") {
            Ok(_) => None,
            Err(Error::Refused(refusal)) => Some(refusal.spec().code),
            Err(error) => panic!("{error}"),
        }
    }

    fn advance_clock(&mut self) {
        self.clock.advance(Duration::milliseconds(self.random.random_range(0..60)));
    }

    /// After this the age of cached values is unknown, so only the current world is valid. The cache notices the jump only if it
    /// is used before and after it. An expired token does not reach the cache, so this uses a job whose token does not expire.
    fn set_clock_back(&mut self) {
        self.request_access_of(1);
        self.clock.advance(Duration::milliseconds(-self.random.random_range(1..1500)));
        let world = self.history.current().clone();
        self.history.first = self.history.last_number() + 1;
        self.history.worlds = [(clock_millis(&self.clock), world)].into();
        self.history.first_valid = [self.history.first; JOBS];
        self.request_access_of(1);
    }

    /// Changes one thing, by this process or by another one.
    fn change(&mut self) {
        let mut world = self.history.current().clone();
        let random = &mut self.random;
        let project = random.random_range(0..PROJECTS);
        let other = random.random_range(0..PROJECTS);
        let job = random.random_range(0..JOBS);
        // Rarely by this process: such a change invalidates the cache, and values would never reach the end of the lag.
        let by_this_process = random.random_bool(0.02);
        let entry = [Entry::None, Entry::Everything, Entry::Reading, Entry::Changing][random.random_range(0..4)];
        let kind = random.random_range(0..8);
        match kind {
            0 | 1 => {
                let not_running = [JobStatus::Created, JobStatus::Finished][random.random_range(0..2)];
                world.jobs[job] = if random.random_bool(0.8) { JobStatus::Running } else { not_running };
            }
            2 => world.enforced[project] = random.random_bool(0.8),
            3 => world.project_entries[project][other] = entry,
            4 => world.group_entries[project][random.random_range(0..GROUPS)] = entry,
            5 => world.role[project] = [0, 10, 20, 30, 40][random.random_range(0..5)],
            6 => world.private[project] = random.random_bool(0.6),
            _ => world.exists[project] = random.random_bool(0.9),
        }
        *self.decider.sources.0.lock().unwrap() = world.clone();
        self.history.worlds.push_back((clock_millis(&self.clock), world));
        let number = self.history.last_number();
        match kind {
            0 | 1 if by_this_process => {
                self.decider.job_changed(job as i64);
                self.history.first_valid[job] = number;
            }
            2..=4 if by_this_process => {
                self.decider.scope_changed();
                self.history.first_valid = [number; JOBS];
            }
            _ => {}
        }
    }
}

fn clock_millis(clock: &Clock) -> i64 {
    proto::timestamp::millis(clock.now())
}

/// Returns the number of steps of all trials together. `make soak` makes the long run.
fn step_count() -> u32 {
    if std::env::var_os("PADDOCK_TEST_SOAK").is_some() { 1_000_000 } else { 100_000 }
}

/// Returns how long the token of the first job lives: less than half of a trial, in which a step takes 3 ms on average.
fn token_life_ms() -> i64 {
    i64::from(step_count() / TRIALS) * 6 / 5
}

#[test]
fn random_steps_show_no_decision_that_was_not_right_within_the_lag() {
    std::thread::scope(|scope| {
        for seed in 0..TRIALS {
            scope.spawn(move || {
                let mut trial = Trial::new(u64::from(seed));
                (0..step_count() / TRIALS).for_each(|_| trial.step());
                let rarest = trial.outcomes.values().min();
                assert!(
                    trial.outcomes.len() == 9 && rarest > Some(&(step_count() / TRIALS / 500)),
                    "{:?}",
                    trial.outcomes
                );
            });
        }
    });
}

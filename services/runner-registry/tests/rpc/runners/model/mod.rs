//! Random steps of runner programs, strangers, an administrator, the clock and the machine, against the service and an oracle.
//!
//! The oracle says before each call what it answers and what is in the tables after it. `PADDOCK_TEST_SEED` repeats a run, but for the
//! instants at which the service is killed. `make soak` makes the long run.

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    fmt::Write as _,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use proto::paddock::directory::v1::Project;
use rand::{SeedableRng as _, rngs::StdRng};
use runner_registry::runner::token::RunnerToken;
use sea_orm::ConnectionTrait as _;
use tokio::time::timeout;

use self::{
    calls::{Answer, Callers, Returned},
    oracle::{AWAITED_WITHIN, Call, DAY, Generation, Outcome, Runner, Situation},
    steps::{Keep, NewRunner, PROGRAMS, Program, Step, View},
    tables::{Digests, Rows},
};
use super::seconds;
use crate::support::Registry;

mod calls;
mod oracle;
mod steps;
mod tables;

/// The number of steps in a report of a difference.
const REPORTED: usize = 30;

/// The tables are read after at most so many steps.
const READ_EVERY: u32 = 8;

/// A call that takes at least so long may go without a record of its contact.
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);

/// How many tokens of deleted runners are remembered.
const FORMER: Generation = 3;

/// What must happen in a run, so that it shows something.
const NEEDED: [&str; 12] = [
    "ok",
    "fresh",
    "again",
    "expired",
    "superseded",
    "revoked",
    "runner_removed",
    "unassigned",
    "deadline_passed",
    "limited",
    "runner_manager_not_found",
    "killed",
];

/// A run of random steps.
struct Trial<'a> {
    registry: &'a mut Registry,
    callers: Callers,
    random: StdRng,
    /// The runner as the oracle has it.
    runner: Runner,
    situation: Situation,
    /// When the runner of each noted token was deleted.
    removals: BTreeMap<Generation, i64>,
    /// The project of the runner, if it is one of a project that has not been deleted.
    project: Option<Project>,
    is_of_project: bool,
    projects_made: u32,
    programs: Vec<Program>,
    rows: Arc<Rows>,
    digests: Digests,
    /// The last steps, in the language of `fleet_cases`.
    script: VecDeque<String>,
    steps_taken: u32,
    /// How often what happened.
    outcomes: BTreeMap<&'static str, u32>,
}

impl<'a> Trial<'a> {
    async fn start(registry: &'a mut Registry, seed: u64) -> Self {
        let situation = Situation {
            now: 0,
            overlap: DAY,
            life: None,
            is_assigned: true,
            are_contacts_recorded: true,
            removed_at: None,
        };
        let mut trial = Self {
            callers: Callers::new(registry).await,
            random: StdRng::seed_from_u64(seed),
            runner: Runner::default(),
            situation,
            removals: BTreeMap::new(),
            project: None,
            is_of_project: false,
            projects_made: 0,
            programs: Vec::new(),
            rows: Arc::default(),
            digests: Digests::new(),
            script: VecDeque::new(),
            steps_taken: 0,
            outcomes: BTreeMap::new(),
            registry,
        };
        trial.create_runner(NewRunner { is_of_project: false, expires_at: None, deadline: None }).await;
        trial
    }

    async fn run(&mut self, steps: u32) {
        let mut queue = VecDeque::new();
        for _ in 0..steps {
            while queue.is_empty() {
                queue.extend(self.with_view(steps::choose));
            }
            let Some(step) = queue.pop_front() else { continue };
            self.take(step).await;
            if !self.runner.exists {
                let new = self.with_view(|random, view| view.new_runner(random));
                queue = VecDeque::from([Step::Replace(new)]);
            }
        }
    }

    /// Lets the state of the trial and the random numbers decide.
    fn with_view<T>(&mut self, decide: impl FnOnce(&mut StdRng, &View<'_>) -> T) -> T {
        let known = self.callers.texts.keys().copied().collect();
        let view = View { runner: &self.runner, situation: self.situation, programs: &self.programs, known };
        decide(&mut self.random, &view)
    }

    async fn take(&mut self, step: Step) {
        self.steps_taken += 1;
        match step {
            Step::Call(call) => {
                self.call(&call).await;
            }
            Step::Poll { program, method } => {
                let Program { name, holds, .. } = self.programs[program];
                self.call(&Call::Poll { manager: Some(name), token: holds, method }).await;
            }
            Step::Rotate { program, keep } => self.rotate(program, keep).await,
            Step::Move { program } => {
                let program = &mut self.programs[program];
                if let Some(saved) = program.saved.take() {
                    program.holds = saved;
                    let line = format!("# {} saved T{saved}", program.name);
                    self.note(line);
                }
            }
            Step::Reinstall { program } => {
                let newest = *self.callers.texts.keys().last().unwrap();
                self.programs[program] = Program::new(PROGRAMS[program], newest);
                self.note(format!("# {} is given T{newest}", PROGRAMS[program]));
            }
            Step::SetClock(now) => self.set_clock(now),
            Step::SetLife(life) => {
                self.situation.life = life;
                calls::set_life(self.registry, life).await;
                self.note(format!("# new tokens live {life:?} seconds"));
            }
            Step::ToggleProject => self.toggle_project().await,
            Step::Replace(new) => {
                if self.runner.exists {
                    self.call(&Call::DeleteById).await;
                }
                self.create_runner(new).await;
            }
            Step::Kill { call, after, overlap } => self.kill_during(&call, after, overlap).await,
        }
    }

    /// Makes a call, and compares the answer and the tables with the prediction.
    async fn call(&mut self, call: &Call) -> Outcome {
        let prediction = oracle::predict(&self.runner, self.situation_of(call), call);
        let started = Instant::now();
        let answer = self.callers.make(call).await;
        let is_slow = started.elapsed() >= RECORD_TIMEOUT;
        if is_slow {
            self.wait_for_transactions().await;
        }
        // What must not have changed need not be read every time.
        let is_read = !prediction.states.is_empty()
            || matches!(answer, Ok(Some(_)))
            || self.steps_taken.is_multiple_of(READ_EVERY);
        let before = Arc::clone(&self.rows);
        if is_read {
            self.rows = Arc::new(self.read_rows().await);
        }
        let outcome = self.name(&answer);
        self.note(format!("{} = {}", words(call), named(outcome)));
        self.count(outcome);
        if outcome != prediction.outcome {
            self.fail(&format!("the oracle says {:?}, the service {outcome:?}", prediction.outcome));
        }
        let entitled = before.check_authenticated(call, outcome, self.situation.now);
        entitled.unwrap_or_else(|problem| self.fail(&problem));
        self.check_program(call, outcome);
        let mut states = prediction.states;
        if is_slow && states.last().is_some_and(|state| *state != self.rows.in_words()) {
            // The service did not wait for the record of the contact.
            let situation = Situation { are_contacts_recorded: false, ..self.situation };
            states = oracle::predict(&self.runner, situation, call).states;
            *self.outcomes.entry("slow").or_default() += 1;
        }
        self.change_runner(states.pop());
        self.check_rows();
        if let (Outcome::Token(generation), Ok(Some(returned))) = (outcome, answer) {
            if returned.expires_at != self.runner.tokens[&generation].expires_at {
                self.fail(&format!("T{generation} is returned with the expiry {:?}", returned.expires_at));
            }
            self.callers.texts.insert(generation, returned.text);
        }
        outcome
    }

    async fn read_rows(&self) -> Rows {
        Rows::read(&self.registry.database, self.callers.runner_id).await
    }

    /// Names a returned token by the row with its digest.
    fn name(&self, answer: &Answer) -> Outcome {
        match answer {
            Err(reason) => Outcome::Refused(reason),
            Ok(None) => Outcome::Ok,
            Ok(Some(Returned { text, .. })) => {
                let digest = RunnerToken::parse(text).unwrap().digest();
                let generation = self.rows.generation_of(digest.as_bytes());
                Outcome::Token(generation.unwrap_or_else(|| self.fail("a token is returned that is not stored")))
            }
        }
    }

    fn check_rows(&mut self) {
        let stored = self.rows.in_words();
        if stored != self.runner {
            self.fail(&format!("the oracle has {:#?}\nthe tables have {stored:#?}", self.runner));
        }
        self.rows.check(&mut self.digests).unwrap_or_else(|problem| self.fail(&problem));
    }

    /// Checks that a program that saves what it is given is not refused while its token has not expired. `runner` is as before the
    /// call.
    fn check_program(&mut self, call: &Call, outcome: Outcome) {
        let situation = self.situation;
        match (call, outcome) {
            (Call::ResetById, Outcome::Token(_)) => self.entitle_nobody(),
            (Call::Leave { manager, .. }, Outcome::Ok) => {
                let left = self.programs.iter_mut().find(|program| program.name == *manager);
                left.into_iter().for_each(|program| program.is_entitled = false);
            }
            (Call::Poll { manager: Some(manager), token, .. }, outcome) => {
                let Some(program) = self.programs.iter_mut().find(|program| program.name == *manager) else { return };
                let is_accepted = outcome == Outcome::Ok;
                if program.holds != *token {
                    program.is_entitled &= !is_accepted || *token < program.holds;
                    return;
                }
                program.refusals = if is_accepted { 0 } else { program.refusals + 1 };
                let known = self.runner.managers.get(*manager);
                let has_gone_back = known.is_some_and(|known| known.generation > *token);
                // GitLab's rule entitles nobody.
                let is_entitled = is_accepted && !has_gone_back && situation.overlap > 0;
                let was_entitled = std::mem::replace(&mut program.is_entitled, is_entitled);
                let token = self.runner.tokens.get(token);
                let last_seen = known.map(|known| known.last_seen);
                let is_over = token.is_none_or(|token| {
                    token.has_expired(situation.now) || token.is_overlap_over(last_seen, situation)
                });
                if !is_accepted && was_entitled && !is_over {
                    self.fail("a program is refused that saved what it was given");
                }
            }
            _ => {}
        }
    }

    fn entitle_nobody(&mut self) {
        self.programs.iter_mut().for_each(|program| program.is_entitled = false);
    }

    async fn rotate(&mut self, program: usize, keep: Keep) {
        let Program { name, holds, is_entitled, .. } = self.programs[program];
        let known = self.runner.managers.get(name).cloned();
        let token = self.runner.tokens.get(&holds).cloned();
        let outcome = self.call(&Call::Rotate { token: holds }).await;
        let situation = self.situation;
        let program = &mut self.programs[program];
        match (outcome, keep) {
            (Outcome::Token(generation), Keep::Use) => {
                program.holds = generation;
                program.saved = None;
            }
            (Outcome::Token(generation), Keep::Save) => program.saved = Some(generation),
            (Outcome::Refused("runner_token_superseded"), _) if is_entitled => {
                let last_seen = known.as_ref().map(|known| known.last_seen);
                let is_over = token.is_none_or(|token| token.is_overlap_over(last_seen, situation));
                let is_awaited = known.is_some_and(|known| known.last_seen >= situation.now - AWAITED_WITHIN);
                if !is_over && is_awaited {
                    self.fail("a program that is awaited gets no token");
                }
            }
            (Outcome::Refused("runner_token_revoked" | "runner_token_unknown"), _) if is_entitled => {
                self.fail("the token of a program is gone");
            }
            _ => {}
        }
    }

    fn set_clock(&mut self, now: i64) {
        self.situation.now = now;
        self.registry.set_clock(now);
        self.note(format!("at {now}"));
        for program in &mut self.programs {
            let token = self.runner.tokens.get(&program.holds);
            let situation = self.situation;
            let last_seen = self.runner.managers.get(program.name).map(|manager| manager.last_seen);
            program.is_entitled &=
                token.is_some_and(|it| !it.has_expired(now) && !it.is_overlap_over(last_seen, situation));
        }
    }

    async fn toggle_project(&mut self) {
        if !self.is_of_project {
            return;
        }
        match self.project.take() {
            Some(project) => {
                self.callers.delete_project(&project).await;
                self.note("# the project is deleted".to_owned());
            }
            None => {
                let project = self.make_project().await;
                self.callers.assign(&project).await;
                self.project = Some(project);
                self.note("# the runner is assigned to a project".to_owned());
            }
        }
        self.situation.is_assigned = self.project.is_some();
    }

    async fn make_project(&mut self) -> Project {
        self.projects_made += 1;
        let path = format!("project-{}", self.projects_made);
        self.registry.project(&path, &self.callers.group).await
    }

    async fn create_runner(&mut self, new: NewRunner) {
        self.project = if new.is_of_project { Some(self.make_project().await) } else { None };
        self.is_of_project = new.is_of_project;
        self.situation.is_assigned = true;
        let created = self.callers.create(new, self.project.as_ref()).await;
        self.note(format!("# a new runner: {new:?}"));
        let now = self.situation.now;
        let expires_at = new.expires_at.or_else(|| self.situation.life.map(|life| now + life));
        assert_eq!(seconds(created.token_expires_at), expires_at);
        self.remember_former();
        self.callers.texts.insert(1, created.token);
        self.runner = Runner::new(now, expires_at, new.deadline);
        self.programs = PROGRAMS.iter().map(|name| Program::new(name, 1)).collect();
        self.digests.clear();
        self.rows = Arc::new(self.read_rows().await);
        self.check_rows();
    }

    /// The situation of a call.
    fn situation_of(&self, call: &Call) -> Situation {
        let removed_at = call.token().and_then(|token| self.removals.get(&token)).copied();
        Situation { removed_at, ..self.situation }
    }

    /// Takes over a new state of the runner, if there is one. The tokens of a runner that is gone are noted, and those that were
    /// noted long ago are forgotten.
    fn change_runner(&mut self, next: Option<Runner>) {
        let Some(next) = next else { return };
        if self.runner.exists && !next.exists {
            let now = self.situation.now;
            self.removals.retain(|_, removed_at| *removed_at > now - oracle::KEPT);
            self.removals.extend(self.runner.tokens.keys().map(|generation| (*generation, now)));
        }
        self.runner = next;
    }

    /// Keeps one token of the runner that is gone.
    fn remember_former(&mut self) {
        self.remember_removals();
        let mut texts = std::mem::take(&mut self.callers.texts);
        let newest = texts.pop_last().filter(|(generation, _)| *generation > 0);
        let former = texts.into_iter().filter(|(generation, _)| (-FORMER + 1..0).contains(generation));
        self.callers.texts = former.map(|(generation, text)| (generation - 1, text)).collect();
        self.callers.texts.extend(newest.map(|(_, text)| (-1, text)));
    }

    /// Renumbers the removals as [`Self::remember_former`] renumbers the tokens.
    fn remember_removals(&mut self) {
        let removals = std::mem::take(&mut self.removals);
        let newest = self.callers.texts.last_key_value().map(|(generation, _)| *generation);
        let renumbered = removals.into_iter().filter_map(|(generation, removed_at)| match generation {
            former if former < 0 => Some((former - 1, removed_at)),
            generation if newest == Some(generation) => Some((-1, removed_at)),
            _ => None,
        });
        self.removals = renumbered.collect();
    }

    /// Kills the service during a call. Every transaction of the call may have been committed, or not; the tables tell.
    async fn kill_during(&mut self, call: &Call, after: Duration, overlap: i64) {
        let prediction = oracle::predict(&self.runner, self.situation_of(call), call);
        let is_answered = timeout(after, self.callers.make(call)).await.is_ok();
        self.registry.kill().await;
        self.wait_for_transactions().await;
        self.rows = Arc::new(self.read_rows().await);
        let stored = self.rows.in_words();
        let possible: Vec<_> = std::iter::once(self.runner.clone()).chain(prediction.states).collect();
        let committed = possible.iter().rposition(|state| *state == stored);
        let all = possible.len() - 1;
        let answered = if is_answered { "answered" } else { "cut off" };
        self.note(format!("# killed in: {}; {answered}, committed {committed:?} of {all}", words(call)));
        for what in ["killed", extent(committed, all)] {
            *self.outcomes.entry(what).or_default() += 1;
        }
        match committed {
            Some(committed) if committed == all || !is_answered => {
                self.change_runner(Some(possible[committed].clone()))
            }
            _ => self.fail(&format!("possible are {possible:#?}\nthe tables have {stored:#?}")),
        }
        self.check_rows();
        self.disturb(call, overlap);
        self.situation.overlap = overlap;
        self.note(format!("# restarted with an overlap of {overlap}"));
        self.registry.restart(|config| config.rotation.overlap_seconds = overlap.try_into().unwrap()).await;
        self.callers.reconnect(self.registry);
    }

    /// Waits until no transaction that the service gave up, or that was killed with it, can be committed any more.
    async fn wait_for_transactions(&self) {
        let transaction = chassis::db::begin_write(&self.registry.database).await.unwrap();
        let lock = format!("UPDATE runners SET paused = paused WHERE id = {}", self.callers.runner_id);
        transaction.execute_unprepared(&lock).await.unwrap();
        transaction.rollback().await.unwrap();
    }

    /// Notes which programs may be refused after a call of which nobody knows whether it was made.
    fn disturb(&mut self, call: &Call, overlap: i64) {
        let is_reset = matches!(call, Call::ResetById);
        let is_shorter = overlap < self.situation.overlap;
        for program in &mut self.programs {
            let has_moved = matches!(call, Call::Poll { manager: Some(name), token, .. }
                if *name == program.name && *token > program.holds);
            program.is_entitled &= !(is_reset || is_shorter || has_moved);
        }
    }

    fn count(&mut self, outcome: Outcome) {
        let what = match outcome {
            Outcome::Ok => "ok",
            Outcome::Token(generation) if self.runner.tokens.contains_key(&generation) => "again",
            Outcome::Token(_) => "fresh",
            Outcome::Refused(reason) => shortened(reason),
        };
        *self.outcomes.entry(what).or_default() += 1;
    }

    fn note(&mut self, line: String) {
        if self.script.len() == REPORTED {
            self.script.pop_front();
        }
        self.script.push_back(line);
    }

    #[track_caller]
    fn fail(&self, problem: &str) -> ! {
        let mut report =
            format!("step {}: {problem}\nthe runner before: {:#?}\nthe last steps:\n", self.steps_taken, self.runner);
        for line in &self.script {
            let _ = writeln!(report, "    {line};");
        }
        panic!("{report}")
    }
}

/// A call in the language of `fleet_cases`.
fn words(call: &Call) -> String {
    match *call {
        Call::Poll { manager: Some(manager), token, .. } => format!("{manager} polls T{token}"),
        Call::Poll { manager: None, token, .. } => format!("verifies T{token}"),
        Call::Rotate { token } => format!("resets T{token}"),
        Call::Leave { manager, token } => format!("{manager} leaves T{token}"),
        Call::Delete { token } => format!("deletes T{token}"),
        Call::ResetById => "administrator resets".to_owned(),
        Call::DeleteById => "administrator deletes".to_owned(),
    }
}

/// Names how far the killed service came.
fn extent(committed: Option<usize>, all: usize) -> &'static str {
    match committed {
        Some(committed) if committed == all => "killed after the last commit",
        Some(0) => "killed before the first commit",
        _ => "killed between two commits",
    }
}

fn named(outcome: Outcome) -> String {
    match outcome {
        Outcome::Ok => "ok".to_owned(),
        Outcome::Token(generation) => format!("T{generation}"),
        Outcome::Refused(reason) => shortened(reason).to_owned(),
    }
}

fn shortened(reason: &'static str) -> &'static str {
    ["runner_token_", "rotation_"].iter().find_map(|start| reason.strip_prefix(start)).unwrap_or(match reason {
        "runner_unassigned" => "unassigned",
        other => other,
    })
}

/// Returns the number of steps on each database.
fn step_count() -> u32 {
    if env::var_os("PADDOCK_TEST_SOAK").is_some() { 50_000 } else { 2_500 }
}

/// Returns the seed: the given one, or another one in each long run.
fn seed() -> u64 {
    let given = env::var("PADDOCK_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let default = if env::var_os("PADDOCK_TEST_SOAK").is_some() { std::process::id().into() } else { 1 };
    given.unwrap_or(default)
}

async fn run_on(database: &str, mut registry: Registry) {
    let seed = seed();
    let _ = writeln!(std::io::stderr(), "random steps of rotations on {database}: PADDOCK_TEST_SEED={seed}");
    let mut trial = Trial::start(&mut registry, seed).await;
    trial.run(step_count()).await;
    let outcomes = trial.outcomes;
    assert!(NEEDED.iter().all(|needed| outcomes.contains_key(needed)), "{outcomes:?}");
    let _ = writeln!(std::io::stderr(), "{outcomes:?}");
    registry.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_steps_on_sqlite_are_answered_as_the_rule_says() {
    run_on("sqlite", Registry::on_sqlite(|_config| {}).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_steps_on_postgres_are_answered_as_the_rule_says() {
    let Some(registry) = Registry::on_postgres(|_config| {}).await else { return };
    run_on("postgres", registry).await;
}

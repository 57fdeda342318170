//! A host with a runner program, its configuration file and its misfortunes. The program does what the official one does:
//!
//! - It polls for jobs. After three answers 403 in a row it disables the runner for an hour.
//! - It rotates the token after three quarters of the life that it sees, by its own clock, and saves the new token when it has
//!   read the answer. A failed rotation is repeated at once, without end.
//! - It repeats a call after 408, 429 and 5xx up to four times, and waits as `Retry-After` says. It makes no other call meanwhile.

use std::collections::VecDeque;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use system::raw::RawAnswer;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::{
    Scale,
    client::{Call, Delivery, Outcome, RunnerConfig, Wire},
};

/// How many answers 403 in a row disable a runner, and for how long.
const UNHEALTHY: u32 = 3;
const DISABLED: Duration = Duration::HOUR;

/// The time between two polls of a program that has just changed its token or was refused.
const CHECK_INTERVAL: Duration = Duration::seconds(3);

/// How often a rotation is repeated at the same instant. The true program repeats it without end.
const REPETITIONS: u32 = 12;

/// The time until a program whose rotations are refused repeats them again, in the simulation.
const REPETITION_PAUSE: Duration = Duration::hours(4);

/// How long a host is off at most, and how long before the expiry of its token it is back at the latest.
const MAX_OUTAGE: Duration = Duration::days(3);
const MARGIN: Duration = Duration::minutes(20);

/// How long a program with a dead token waits until its operator registers it again.
const OPERATOR: Duration = Duration::hours(6);

/// How many events a manager remembers for the report of a failure.
const HISTORY: usize = 40;

/// What happens to the answer of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered(Delivery),
    /// It arrives, and the program crashes before it saves the token.
    CrashBeforeSave,
}

/// The running program.
#[derive(Clone, Debug)]
struct Program {
    config: RunnerConfig,
    next_poll: OffsetDateTime,
    polls_after_change: u32,
    refused_in_a_row: u32,
    disabled_until: Option<OffsetDateTime>,
    /// Rotations were repeated at this instant; the next ones follow after a pause.
    rotates_not_before: OffsetDateTime,
    /// The next attempt of a call that waits: its time and its number.
    waiting: Option<(Call, OffsetDateTime, u32)>,
}

#[derive(Clone, Debug)]
enum Host {
    /// The runner is not registered before this time.
    New(OffsetDateTime),
    /// Without a running program until this time.
    Off(OffsetDateTime),
    On(Program),
}

/// A manager of the fleet.
pub struct Manager {
    pub system_id: String,
    /// How far its clock is ahead.
    skew: Duration,
    /// The configuration file cannot be written: a new token is lost at the next start.
    read_only: bool,
    wire: Wire,
    random: StdRng,
    scale: Scale,
    host: Host,
    file: Option<RunnerConfig>,
    /// The program will end at the first time, and start again at the second.
    outage: Option<(OffsetDateTime, OffsetDateTime)>,
    /// It started with an older token than it had used. Set until it has a token that it has not used.
    pub did_not_save: bool,
    /// When the operator registers it again.
    operator_comes: Option<OffsetDateTime>,
    pub rotations: u32,
    /// The answers that a manager must not get.
    pub findings: Vec<String>,
    history: VecDeque<String>,
    pub counts: Counts,
}

/// What happened to a manager.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub calls: u64,
    pub lost_answers: u64,
    pub crashes_before_save: u64,
    pub outages: u64,
    pub not_saved: u64,
    pub told_to_wait: u64,
}

/// An instant of the simulation.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: OffsetDateTime,
    /// A process is killed, so that any call may fail for no fault of the token.
    pub kill: bool,
}

impl Manager {
    /// A manager that registers at this time.
    pub fn new(number: u32, registers_at: OffsetDateTime, port: u16, scale: Scale) -> Self {
        let mut random = StdRng::seed_from_u64(u64::from(scale.seed) << 32 | u64::from(number));
        let skew = if number.is_multiple_of(4) { random.random_range(-300..=300) } else { 0 };
        Self {
            system_id: format!("s_{number:012}"),
            skew: Duration::seconds(skew),
            read_only: number % 16 == 5,
            wire: Wire::new(port),
            random,
            scale,
            host: Host::New(registers_at),
            file: None,
            outage: None,
            did_not_save: false,
            operator_comes: None,
            rotations: 0,
            findings: Vec::new(),
            history: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// When something happens to it next.
    pub fn next_event(&self) -> OffsetDateTime {
        match &self.host {
            Host::New(at) | Host::Off(at) => *at,
            Host::On(program) => {
                let own = match program.waiting {
                    Some((_, at, _)) => at,
                    None => program.next_poll().min(self.next_rotation(program)),
                };
                let outage = self.outage.map(|(from, _)| from);
                [outage, self.operator_comes].into_iter().flatten().fold(own, OffsetDateTime::min)
            }
        }
    }

    /// Reports whether it will rotate at this time.
    pub fn rotates_at(&self, now: OffsetDateTime) -> bool {
        matches!(&self.host, Host::On(program) if program.waiting.is_none() && self.next_rotation(program) <= now)
    }

    /// The token that it got last and knows, and since when.
    pub fn token(&self) -> Option<(OffsetDateTime, &str)> {
        let config = match &self.host {
            Host::On(program) => Some(&program.config),
            Host::New(_) | Host::Off(_) => self.file.as_ref(),
        };
        config.map(|config| (config.obtained_at - self.skew, config.token.as_str()))
    }

    /// Forgets its connection, whose other end is gone.
    pub fn disconnect(&mut self) {
        self.wire.disconnect();
    }

    /// Reports whether its program runs.
    pub fn is_on(&self) -> bool {
        matches!(self.host, Host::On(_))
    }

    /// Lets it poll at this time if it would poll later.
    pub fn poll_by(&mut self, time: OffsetDateTime) {
        if let Host::On(program) = &mut self.host {
            program.next_poll = program.next_poll.min(time);
        }
    }

    /// Ends its outage, and plans no other.
    pub fn return_at(&mut self, now: OffsetDateTime) {
        self.outage = None;
        if let Host::Off(until) = &mut self.host {
            *until = now;
        }
    }

    /// Reports whether its operator registers it again at this time.
    pub fn needs_operator(&self, now: OffsetDateTime) -> bool {
        self.is_on() && self.operator_comes.is_some_and(|at| at <= now)
    }

    fn next_rotation(&self, program: &Program) -> OffsetDateTime {
        ceil_second(program.config.rotation_due() - self.skew).max(program.rotates_not_before)
    }

    /// Registers with a token, as `gitlab-runner register` does, and starts the program.
    pub async fn register(&mut self, token: &str, moment: Moment) {
        let answer = self.send(Call::Register, token, Delivery::Arrives, moment).await;
        let Outcome::Done(body) = Call::Register.judge(answer.as_ref(), 1) else {
            // The operator tries again. If this manager was the only one with the current token, nobody has it now: the tokens of all
            // others retire, and are refused to it until one of them rotates.
            self.operator_comes = self.operator_comes.map(|_| moment.now + OPERATOR);
            if let Host::New(at) = &mut self.host {
                *at = moment.now + Duration::minutes(1);
            }
            return;
        };
        self.file = Some(RunnerConfig::from_answer(token, &body, moment.now + self.skew));
        self.operator_comes = None;
        self.did_not_save = false;
        self.start(moment.now);
        self.plan_outage(moment.now);
    }

    /// Does everything that is due.
    pub async fn act(&mut self, first_token: &str, moment: Moment) {
        match (&self.host, self.outage) {
            (Host::New(_), _) => self.register(first_token, moment).await,
            (Host::Off(_), _) => self.start(moment.now),
            (Host::On(_), Some((from, until))) if from <= moment.now => self.end(moment.now, until, "off"),
            (Host::On(_), _) => self.call(moment).await,
        }
    }

    /// Makes the calls that are due, in either order.
    async fn call(&mut self, moment: Moment) {
        let Host::On(program) = &mut self.host else { return };
        if let Some((call, at, attempt)) = program.waiting {
            if at <= moment.now {
                program.waiting = None;
                match call {
                    Call::Poll => self.poll(attempt, moment).await,
                    Call::Rotate | Call::Register => self.rotate(attempt, moment).await,
                }
            }
            return;
        }
        let mut polls_first = self.random.random();
        for _ in 0..2 {
            let Host::On(program) = &self.host else { return };
            if program.waiting.is_some() {
                return;
            }
            if polls_first && program.next_poll() <= moment.now {
                self.poll(1, moment).await;
            } else if !polls_first && self.next_rotation(program) <= moment.now {
                self.rotate(1, moment).await;
            }
            polls_first = !polls_first;
        }
    }

    async fn poll(&mut self, attempt: u32, moment: Moment) {
        let Moment { now, .. } = moment;
        let Host::On(program) = &self.host else { return };
        let token = program.config.token.clone();
        let answer = self.send(Call::Poll, &token, Delivery::Arrives, moment).await;
        let idle = self.scale.idle * self.random.random_range(0.5..1.5);
        let Host::On(program) = &mut self.host else { return };
        let outcome = Call::Poll.judge(answer.as_ref(), attempt);
        if let Outcome::Again(wait) = outcome {
            program.waiting = Some((Call::Poll, now + wait, attempt + 1));
            return;
        }
        let is_done = matches!(outcome, Outcome::Done(_));
        if outcome == Outcome::Forbidden {
            program.refused_in_a_row += 1;
        } else {
            program.refused_in_a_row = 0;
        }
        program.disabled_until = (program.refused_in_a_row >= UNHEALTHY).then(|| now + DISABLED);
        program.next_poll =
            if is_done && program.polls_after_change == 0 { ceil_minute(now + idle) } else { now + CHECK_INTERVAL };
        program.polls_after_change = program.polls_after_change.saturating_sub(1);
        if program.disabled_until.is_some() {
            program.refused_in_a_row = 0;
            self.note("disabled", moment);
        }
    }

    /// Rotates, and repeats a failure at once.
    async fn rotate(&mut self, mut attempt: u32, moment: Moment) {
        for _ in 0..REPETITIONS {
            let Host::On(program) = &self.host else { return };
            let token = program.config.token.clone();
            let fate = self.draw_fate();
            let delivery = match fate {
                Fate::Delivered(delivery) => delivery,
                Fate::CrashBeforeSave => Delivery::Arrives,
            };
            let mut answer = self.send(Call::Rotate, &token, delivery, moment).await;
            if delivery != Delivery::Arrives {
                self.counts.lost_answers += u64::from(!self.did_not_save);
                answer = None;
            }
            match Call::Rotate.judge(answer.as_ref(), attempt) {
                Outcome::Done(_) if fate == Fate::CrashBeforeSave => return self.crash(moment.now),
                Outcome::Done(body) => return self.save(&body, moment),
                Outcome::Again(wait) => {
                    let Host::On(program) = &mut self.host else { return };
                    program.waiting = Some((Call::Rotate, moment.now + wait, attempt + 1));
                    return;
                }
                Outcome::Forbidden | Outcome::Failed => attempt = 1,
            }
        }
        let pause = if self.did_not_save { REPETITION_PAUSE } else { CHECK_INTERVAL };
        let Host::On(program) = &mut self.host else { return };
        program.rotates_not_before = moment.now + pause;
    }

    /// Takes a new token over, and writes the configuration file if it can.
    fn save(&mut self, body: &serde_json::Value, moment: Moment) {
        let Host::On(program) = &mut self.host else { return };
        let token = body["token"].as_str().unwrap_or_else(|| panic!("no token: {body}"));
        let config = RunnerConfig::from_answer(token, body, moment.now + self.skew);
        let left = config.expires_at - moment.now;
        if left > self.scale.life || left < self.scale.life / 2 {
            self.findings.push(format!("{} expires in {left}", name(token)));
        }
        *program = Program::new(config.clone(), moment.now + CHECK_INTERVAL, self.scale.polls_after_rotation);
        if !self.read_only || self.file.is_none() {
            self.file = Some(config);
        }
        self.rotations += 1;
        self.did_not_save = false;
        self.operator_comes = None;
        self.plan_outage(moment.now);
    }

    /// Ends the program after it got a token and before it wrote the file.
    fn crash(&mut self, now: OffsetDateTime) {
        self.counts.crashes_before_save += 1;
        let longest = self.latest_return(now).min(now + Duration::hours(30)) - now;
        let until = ceil_minute(now + longest * self.random.random_range(0.0..1.0));
        self.end(now, until, "crash before the token was saved");
    }

    fn end(&mut self, now: OffsetDateTime, until: OffsetDateTime, why: &str) {
        let Host::On(program) = &self.host else { return };
        // The file of a host with a read-only configuration has an older token than the program used.
        let file_is_old = self.file.as_ref().is_some_and(|file| file.token != program.config.token);
        if file_is_old && !self.did_not_save {
            self.did_not_save = true;
            self.counts.not_saved += 1;
        }
        self.counts.outages += 1;
        self.outage = None;
        self.wire.disconnect();
        self.host = Host::Off(until);
        self.remember(now, &format!("{why}, until {}", short(until)));
    }

    /// Starts the program with the token of the file.
    fn start(&mut self, now: OffsetDateTime) {
        let Some(config) = self.file.clone() else { return };
        self.remember(now, &format!("starts with {}", name(&config.token)));
        self.host = Host::On(Program::new(config, now, 0));
    }

    /// Plans when the program ends before its next rotation is over, at random. Some hosts are switched off right after a rotation,
    /// some restart, some are off for days. All are back before their token expires.
    fn plan_outage(&mut self, now: OffsetDateTime) {
        let latest = self.latest_return(now);
        let life = latest - now;
        let is_due = if self.read_only { self.random.random_ratio(1, 4) } else { self.random.random_ratio(1, 3) };
        if !is_due || life <= Duration::HOUR {
            return;
        }
        let from = match self.random.random_range(0..3) {
            0 => now,
            _ => now + life * self.random.random_range(0.0..0.95),
        };
        let longest = if self.random.random_ratio(1, 3) { Duration::minutes(2) } else { MAX_OUTAGE };
        let until = from + longest.min(latest - from) * self.random.random_range(0.0..1.0);
        self.outage = Some((ceil_second(from), ceil_minute(until)));
    }

    /// The latest time at which a host must be back.
    fn latest_return(&self, now: OffsetDateTime) -> OffsetDateTime {
        match &self.host {
            Host::On(program) => (program.config.expires_at - MARGIN).max(now),
            Host::New(_) | Host::Off(_) => now,
        }
    }

    fn draw_fate(&mut self) -> Fate {
        match self.random.random_range(0..100) {
            0..10 => Fate::Delivered(Delivery::Lost),
            10..16 => Fate::Delivered(Delivery::Cut),
            16..22 => Fate::CrashBeforeSave,
            _ => Fate::Delivered(Delivery::Arrives),
        }
    }

    /// Sends a call once and writes down what a manager must not get.
    async fn send(&mut self, call: Call, token: &str, delivery: Delivery, moment: Moment) -> Option<RawAnswer> {
        let answer = self.wire.send(call, token, &self.system_id, delivery).await;
        self.counts.calls += 1;
        let what = match &answer {
            Some(answer) => format!("{call:?} {delivery:?} with {}: {} {}", name(token), answer.status, detail(answer)),
            None => format!("{call:?} {delivery:?} with {}: no answer", name(token)),
        };
        self.remember(moment.now, &what);
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        if status == 429 {
            self.counts.told_to_wait += 1;
        }
        let is_refused = (400..500).contains(&status);
        let is_unexpected = status >= 500 || (answer.is_none() && delivery != Delivery::Cut);
        if is_refused && self.did_not_save {
            self.operator_comes.get_or_insert(moment.now + OPERATOR);
        } else if is_refused || (is_unexpected && !moment.kill) {
            self.findings.push(what);
        }
        answer
    }

    /// Writes down that it is disabled.
    fn note(&mut self, what: &str, moment: Moment) {
        self.remember(moment.now, what);
        if !self.did_not_save {
            self.findings.push(what.to_owned());
        }
    }

    fn remember(&mut self, now: OffsetDateTime, what: &str) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(format!("{} {what}", short(now)));
    }

    /// What happened to it last, one event a line.
    pub fn history(&self) -> String {
        self.history.iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl Program {
    fn new(config: RunnerConfig, next_poll: OffsetDateTime, polls_after_change: u32) -> Self {
        Self {
            config,
            next_poll,
            polls_after_change,
            refused_in_a_row: 0,
            disabled_until: None,
            rotates_not_before: OffsetDateTime::UNIX_EPOCH,
            waiting: None,
        }
    }

    fn next_poll(&self) -> OffsetDateTime {
        self.disabled_until.map_or(self.next_poll, |until| until.max(self.next_poll))
    }
}

impl Counts {
    /// Adds those of another manager.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.lost_answers += other.lost_answers;
        self.crashes_before_save += other.crashes_before_save;
        self.outages += other.outages;
        self.not_saved += other.not_saved;
        self.told_to_wait += other.told_to_wait;
    }
}

/// The end of a token, which names it in messages without showing it.
fn name(token: &str) -> &str {
    token.get(token.len().saturating_sub(6)..).unwrap_or_default()
}

/// The token of a successful rotation, or the reason of a refusal.
fn detail(answer: &RawAnswer) -> String {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let new = body["token"].as_str().map(name);
    new.or_else(|| body["reason"].as_str()).unwrap_or_default().to_owned()
}

/// A time for messages.
pub fn short(time: OffsetDateTime) -> String {
    let time = time.to_offset(UtcOffset::UTC);
    let (hour, minute, second) = time.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02}", time.date())
}

fn ceil_second(time: OffsetDateTime) -> OffsetDateTime {
    ceil(time, 1)
}

fn ceil_minute(time: OffsetDateTime) -> OffsetDateTime {
    ceil(time, 60)
}

/// The next multiple of these seconds.
fn ceil(time: OffsetDateTime, step: i64) -> OffsetDateTime {
    let whole = time.unix_timestamp() + i64::from(time.nanosecond() > 0);
    let rounded = (whole + step - 1).div_euclid(step) * step;
    OffsetDateTime::from_unix_timestamp(rounded).unwrap_or(time)
}

//! The random steps: what runner programs, an administrator, a thief, the clock and the machine can do next.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

use super::oracle::{AWAITED_WITHIN, Call, DAY, Generation, MINT_WINDOW, Method, Phase, Runner, Situation, Token};

/// The system ids of the programs that an administrator installed.
pub const PROGRAMS: [&str; 4] = ["p1", "p2", "p3", "p4"];

/// System ids that present tokens which they should not have.
const STRANGERS: [&str; 2] = ["x1", "x2"];

/// How long the tokens of the settings live.
const LIVES: [Option<i64>; 7] = [None, None, Some(600), Some(7_200), Some(DAY), Some(15 * DAY), Some(90 * DAY)];

/// The longest life that can be stated for a first token.
const LONGEST_STATED: i64 = 15 * DAY;
const SHORTEST_STATED: i64 = 300;

/// A step of a trial.
#[derive(Clone, Debug)]
pub enum Step {
    /// Somebody calls, with any token.
    Call(Call),
    /// A program polls with the token that it holds.
    Poll {
        program: usize,
        method: Method,
    },
    /// A program rotates the token that it holds.
    Rotate {
        program: usize,
        keep: Keep,
    },
    /// A program moves to the token that it saved.
    Move {
        program: usize,
    },
    /// An administrator gives the newest token to a program.
    Reinstall {
        program: usize,
    },
    SetClock(i64),
    SetLife(Option<i64>),
    /// Deletes the projects of the runner, or assigns it to a new one.
    ToggleProject,
    /// Deletes the runner and creates another one.
    Replace(NewRunner),
    /// Kills the service during a call, and starts it with this overlap.
    Kill {
        call: Call,
        after: Duration,
        overlap: i64,
    },
}

/// What a program does with the token that a rotation returns.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// It uses the token from now on.
    Use,
    /// It saves the token, and moves to it later.
    Save,
    /// The answer is lost.
    Lose,
}

/// A runner to create.
#[derive(Clone, Copy, Debug)]
pub struct NewRunner {
    pub is_of_project: bool,
    pub expires_at: Option<i64>,
    pub deadline: Option<i64>,
}

/// A runner program that an administrator installed.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: &'static str,
    /// The token that it presents.
    pub holds: Generation,
    /// The token that it saved and does not use yet.
    pub saved: Option<Generation>,
    /// How often in a row its own polls were refused.
    pub refusals: u32,
    /// Whether its token was accepted, and neither the program nor anybody else has done anything since that may end that.
    pub is_entitled: bool,
}

impl Program {
    pub fn new(name: &'static str, holds: Generation) -> Self {
        Self { name, holds, saved: None, refusals: 0, is_entitled: false }
    }
}

/// What the choice of the next steps depends on.
pub struct View<'a> {
    pub runner: &'a Runner,
    pub situation: Situation,
    pub programs: &'a [Program],
    /// The tokens whose text is known.
    pub known: Vec<Generation>,
}

/// Chooses the next steps.
pub fn choose(random: &mut StdRng, view: &View<'_>) -> Vec<Step> {
    let program = random.random_range(0..view.programs.len());
    if view.is_over() && random.random_bool(0.2) {
        return view.begin_again(random);
    }
    match random.random_range(0..1000) {
        0..310 => view.own_poll(random, program),
        310..420 => vec![Step::Call(view.any_poll(random))],
        420..590 => vec![Step::Rotate { program, keep: view.any_keep(random) }],
        590..640 => vec![Step::Call(Call::Rotate { token: view.any_token(random) })],
        640..720 => vec![Step::Move { program }],
        720..830 => vec![Step::SetClock(view.situation.now + forward(random))],
        830..900 => view.boundary(random),
        900..910 => vec![Step::SetClock(view.situation.now - backward(random))],
        910..922 => vec![Step::Call(Call::Leave { manager: any_name(random), token: view.any_token(random) })],
        922..928 => vec![Step::Call(Call::Delete { token: view.any_token(random) })],
        928..940 => vec![Step::SetLife(*LIVES.choose(random).unwrap())],
        940..952 => vec![Step::ToggleProject],
        952..957 => view.begin_again(random),
        957..964 => vec![Step::Replace(view.new_runner(random))],
        964..966 => view.rotations_without_end(program),
        966..986 => vec![view.kill(random, program)],
        _ => vec![Step::Reinstall { program }],
    }
}

impl View<'_> {
    /// Reports whether no program can have a token that works.
    fn is_over(&self) -> bool {
        let current = self.runner.token_in(Phase::Current);
        current.is_none_or(|generation| {
            self.runner.tokens[&generation].has_expired(self.situation.now) || !self.known.contains(&generation)
        })
    }

    /// An administrator makes a new token for all programs, or a new runner.
    fn begin_again(&self, random: &mut StdRng) -> Vec<Step> {
        if random.random_bool(0.6) {
            return vec![Step::Replace(self.new_runner(random))];
        }
        let programs = 0..self.programs.len();
        let polls = programs.clone().map(|program| Step::Poll { program, method: any_method(random) });
        let refused: Vec<Step> = polls.collect();
        let reset = std::iter::once(Step::Call(Call::ResetById));
        reset.chain(refused).chain(programs.map(|program| Step::Reinstall { program })).collect()
    }

    /// A poll of a program with its own token. An administrator helps one that is refused again and again.
    fn own_poll(&self, random: &mut StdRng, program: usize) -> Vec<Step> {
        let is_helped = self.programs[program].refusals >= 3;
        vec![if is_helped { Step::Reinstall { program } } else { Step::Poll { program, method: any_method(random) } }]
    }

    fn any_poll(&self, random: &mut StdRng) -> Call {
        let manager = random.random_bool(0.6).then(|| any_name(random));
        Call::Poll { manager, token: self.any_token(random), method: any_method(random) }
    }

    fn any_keep(&self, random: &mut StdRng) -> Keep {
        *[Keep::Use, Keep::Save, Keep::Save, Keep::Lose].choose(random).unwrap()
    }

    /// Mostly a token that lives; now and then one that ended, or one of a runner that was deleted.
    fn any_token(&self, random: &mut StdRng) -> Generation {
        let alive = self.known.iter().copied();
        let alive = alive.filter(|generation| self.runner.tokens.get(generation).is_some_and(Token::is_alive));
        let alive: Vec<Generation> = alive.collect();
        let retiring = alive
            .iter()
            .copied()
            .filter(|generation| matches!(self.runner.tokens[generation].phase, Phase::Retiring { .. }));
        let retiring: Vec<Generation> = retiring.collect();
        let preferred = if retiring.is_empty() || random.random_bool(0.6) { alive } else { retiring };
        match preferred.choose(random) {
            Some(generation) if random.random_bool(0.8) => *generation,
            _ => *self.known.choose(random).unwrap(),
        }
    }

    /// Sets the clock to an instant at which something changes, or to the second before, and then mostly calls whom it concerns.
    fn boundary(&self, random: &mut StdRng) -> Vec<Step> {
        let mut boundaries = Vec::new();
        let alive = self.runner.tokens.iter().filter(|(_, token)| token.is_alive());
        for (generation, token) in alive {
            let program = random.random_range(0..self.programs.len());
            let manager = Some(self.programs[program].name);
            let poll = Call::Poll { manager, token: *generation, method: Method::RequestJob };
            let rotation = Call::Rotate { token: *generation };
            let successor_life = token.expires_at.filter(|_| token.phase == Phase::Successor);
            let half = successor_life.map(|expires_at| expires_at - (expires_at - token.minted_at) / 2 + 1);
            let overlap = match token.phase {
                Phase::Retiring { since } if token.expires_at.is_none() => Some(since + self.situation.overlap),
                _ => None,
            };
            let end_of_window = Some(token.minted_at + MINT_WINDOW).filter(|_| token.by_rotation);
            boundaries.extend(token.expires_at.map(|at| (at, poll.clone())));
            boundaries.extend(token.expires_at.map(|at| (at, rotation.clone())));
            boundaries
                .extend(token.deadline.into_iter().flat_map(|at| [(at, rotation.clone()), (at, rotation.clone())]));
            boundaries.extend(overlap.map(|at| (at, poll)));
            let forgotten = self.runner.last_seen_waiting(*generation).map(|at| at + AWAITED_WITHIN + 1);
            let forgotten = forgotten.filter(|_| matches!(token.phase, Phase::Retiring { .. }));
            boundaries.extend([end_of_window, forgotten].into_iter().flatten().map(|at| (at, rotation.clone())));
            let current = self.runner.token_in(Phase::Current).unwrap_or(*generation);
            boundaries.extend(half.map(|at| (at, Call::Rotate { token: current })));
        }
        boundaries.retain(|(at, call)| *at > self.situation.now && self.is_known(call));
        let Some((at, call)) = boundaries.choose(random).cloned() else { return Vec::new() };
        let at = at - i64::from(random.random_bool(0.4));
        let then = random.random_bool(0.8).then_some(Step::Call(call));
        std::iter::once(Step::SetClock(at)).chain(then).collect()
    }

    /// Reports whether the text of the token that a call presents is known.
    fn is_known(&self, call: &Call) -> bool {
        match call {
            Call::Poll { token, .. } | Call::Rotate { token } => self.known.contains(token),
            _ => true,
        }
    }

    /// Every second one has a first token with a stated expiry, most of them with a deadline.
    pub fn new_runner(&self, random: &mut StdRng) -> NewRunner {
        let now = self.situation.now;
        let longest = self.situation.life.unwrap_or(LONGEST_STATED).min(LONGEST_STATED);
        let life = random.random_bool(0.6).then(|| random.random_range(SHORTEST_STATED..=longest));
        let deadline = life.filter(|_| random.random_bool(0.8)).map(|life| random.random_range(0..=life));
        NewRunner {
            is_of_project: random.random_bool(0.4),
            expires_at: life.map(|life| now + life),
            deadline: deadline.map(|deadline| now + deadline),
        }
    }

    /// What a program does whose clock is ahead by more than the life of a token.
    fn rotations_without_end(&self, program: usize) -> Vec<Step> {
        let round = [Step::Rotate { program, keep: Keep::Use }, Step::Poll { program, method: Method::RequestJob }];
        let rounds = std::iter::repeat_n(round, 22).flatten();
        std::iter::once(Step::Reinstall { program }).chain(rounds).collect()
    }

    fn kill(&self, random: &mut StdRng, program: usize) -> Step {
        let Program { name, holds, saved, .. } = self.programs[program];
        let poll = |token| Call::Poll { manager: Some(name), token, method: Method::Verify };
        let call = match (random.random_range(0..6), saved) {
            (0..3, Some(saved)) => poll(saved),
            (0..3, None) => Call::Rotate { token: holds },
            (3, _) => self.any_poll(random),
            (4, _) => Call::ResetById,
            _ => poll(holds),
        };
        let after = Duration::from_millis(random.random_range(0..6));
        let overlap = *[DAY, DAY, DAY, DAY, DAY, 3_600, 0].choose(random).unwrap();
        Step::Kill { call, after, overlap }
    }
}

fn any_name(random: &mut StdRng) -> &'static str {
    let names: &[&'static str] = if random.random_bool(0.85) { &PROGRAMS } else { &STRANGERS };
    names.choose(random).unwrap()
}

fn any_method(random: &mut StdRng) -> Method {
    *[Method::Register, Method::RequestJob, Method::RequestJob, Method::Verify].choose(random).unwrap()
}

/// Seconds until the next step; mostly few.
fn forward(random: &mut StdRng) -> i64 {
    match random.random_range(0..20) {
        0..12 => random.random_range(1..90),
        12..17 => random.random_range(90..3 * 3_600),
        17..19 => random.random_range(3_600..DAY),
        _ => random.random_range(DAY..40 * DAY),
    }
}

/// Seconds by which a clock is set right.
fn backward(random: &mut StdRng) -> i64 {
    match random.random_range(0..4) {
        0 => random.random_range(1..60),
        1 | 2 => random.random_range(60..3 * 3_600),
        _ => random.random_range(3_600..40 * DAY),
    }
}

//! The rule of rotation, written down a second time from its words in `docs/explanation/tokens.md`: what each call answers, and what it
//! leaves in the tables. It calls nothing of the service.
//!
//! Every instant is in whole seconds after the start of the test. At its expiry a token has expired.

use std::collections::BTreeMap;

const MINUTE: i64 = 60;
pub const DAY: i64 = 86_400;

/// A manager that was seen within this time waits for a token.
pub const AWAITED_WITHIN: i64 = 7 * DAY;

/// The time over which the mints of a runner are counted.
pub const MINT_WINDOW: i64 = 10 * MINUTE;

/// What ended is kept for this time, and this many at most.
pub const KEPT: i64 = 30 * DAY;
const KEPT_AT_MOST: usize = 200;

/// The least time between two records of a contact, the default of the setting.
const RECORD_INTERVAL: i64 = MINUTE;

/// The row of the calls that come without a system id.
const NAMELESS: &str = "<legacy>";

/// The number of a token of the runner. A negative one: a token of a runner that was deleted.
pub type Generation = i32;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Successor,
    Current,
    Retiring { since: i64 },
    Ended { reason: &'static str, since: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub phase: Phase,
    pub minted_at: i64,
    pub expires_at: Option<i64>,
    pub deadline: Option<i64>,
    /// Whether a rotation minted it; else the creation of the runner or a reset by id.
    pub by_rotation: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// The newest token that it was seen with.
    pub generation: Generation,
    pub first_seen: i64,
    pub last_seen: i64,
}

/// A runner with all that decides about its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runner {
    pub exists: bool,
    pub tokens: BTreeMap<Generation, Token>,
    pub managers: BTreeMap<String, Manager>,
    pub last_seen: Option<i64>,
}

/// What the answer depends on beside the runner.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    pub now: i64,
    /// The setting `overlap_seconds`.
    pub overlap: i64,
    /// How long a new token lives.
    pub life: Option<i64>,
    /// Whether the runner has a project, or needs none.
    pub is_assigned: bool,
    /// Whether contacts can be recorded. If not, no call is refused for it.
    pub are_contacts_recorded: bool,
    /// When the runner of the presented token was deleted, if the token is noted as one of a deleted runner.
    pub removed_at: Option<i64>,
}

/// A call that presents a token, or that an administrator makes.
#[derive(Clone, Debug)]
pub enum Call {
    /// A contact of a manager, or one without a system id.
    Poll {
        manager: Option<&'static str>,
        token: Generation,
        method: Method,
    },
    Rotate {
        token: Generation,
    },
    Leave {
        manager: &'static str,
        token: Generation,
    },
    Delete {
        token: Generation,
    },
    ResetById,
    DeleteById,
}

impl Call {
    /// The token that it presents.
    pub fn token(&self) -> Option<Generation> {
        match *self {
            Self::Poll { token, .. } | Self::Rotate { token } | Self::Leave { token, .. } | Self::Delete { token } => {
                Some(token)
            }
            Self::ResetById | Self::DeleteById => None,
        }
    }
}

/// The three calls by which a manager shows that it is there.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    Register,
    RequestJob,
    Verify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// This token, returned before or fresh.
    Token(Generation),
    Refused(&'static str),
}

/// What a call must answer, and the runner after each transaction of the call.
#[derive(Debug)]
pub struct Prediction {
    pub outcome: Outcome,
    pub states: Vec<Runner>,
}

/// Who presents a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bearer<'a> {
    Manager(Option<&'a str>),
    LeavingManager(&'a str),
    Rotation,
    Deletion,
}

type Refusable<T> = Result<T, &'static str>;

/// Predicts a call.
pub fn predict(runner: &Runner, situation: Situation, call: &Call) -> Prediction {
    let mut attempt = Attempt { runner: runner.clone(), situation, states: Vec::new() };
    let outcome = match *call {
        Call::Poll { manager, token, .. } => attempt.poll(manager, token),
        Call::Rotate { token } => attempt.rotate(token),
        Call::Leave { manager, token } => attempt.leave(manager, token),
        Call::Delete { token } => attempt.delete(token),
        Call::ResetById => attempt.reset_by_id(),
        Call::DeleteById => {
            attempt.end_runner();
            Ok(Outcome::Ok)
        }
    };
    Prediction { outcome: outcome.unwrap_or_else(Outcome::Refused), states: attempt.states }
}

impl Token {
    pub fn has_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| now >= expires_at)
    }

    pub fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ended { .. })
    }

    /// Reports whether a retiring token without an expiry has come to its end for a manager that was last seen at an instant: the
    /// overlap counts from that, and from the retirement.
    pub fn is_overlap_over(&self, last_seen: Option<i64>, situation: Situation) -> bool {
        match self.phase {
            Phase::Retiring { since } => {
                let since = last_seen.map_or(since, |last_seen| since.max(last_seen));
                self.expires_at.is_none() && situation.now >= since + situation.overlap
            }
            _ => false,
        }
    }

    fn has_half_of_its_life(&self, now: i64) -> bool {
        self.expires_at.is_none_or(|expires_at| 2 * (expires_at - now) >= expires_at - self.minted_at)
    }

    /// The instant at which it was over, if that is past. `last_seen`: when one of those who may use it was last seen.
    fn end(&self, last_seen: Option<i64>, situation: Situation) -> Option<i64> {
        let end = match self.phase {
            Phase::Ended { since, .. } => since,
            Phase::Retiring { since } => {
                let last_needed = last_seen.map_or(since, |last_seen| since.max(last_seen));
                self.expires_at.unwrap_or(last_needed + situation.overlap)
            }
            Phase::Successor | Phase::Current => return None,
        };
        Some(end).filter(|end| *end < situation.now)
    }
}

impl Runner {
    /// A new runner with its first token.
    pub fn new(now: i64, expires_at: Option<i64>, deadline: Option<i64>) -> Self {
        let first = Token { phase: Phase::Current, minted_at: now, expires_at, deadline, by_rotation: false };
        Self { exists: true, tokens: BTreeMap::from([(1, first)]), ..Self::default() }
    }

    pub fn token_in(&self, phase: Phase) -> Option<Generation> {
        self.tokens.iter().find(|(_, token)| token.phase == phase).map(|(generation, _)| *generation)
    }

    fn next_generation(&self) -> Generation {
        self.tokens.keys().last().map_or(1, |newest| newest + 1)
    }

    /// Reports whether the manager is known, was seen with no newer token, and lately enough.
    fn has_not_moved(&self, manager: &str, generation: Generation, situation: Situation) -> bool {
        let Some(manager) = self.managers.get(manager) else { return false };
        let is_over = self.tokens[&generation].is_overlap_over(Some(manager.last_seen), situation);
        manager.generation <= generation && !is_over
    }

    /// When a manager that has not moved was last seen.
    pub fn last_seen_waiting(&self, generation: Generation) -> Option<i64> {
        let named = self.managers.iter().filter(|(name, _)| *name != NAMELESS).map(|(_, manager)| manager);
        named.filter(|manager| manager.generation <= generation).map(|manager| manager.last_seen).max()
    }

    /// Reports whether somebody waits to move away from a retiring token.
    fn is_awaited(&self, generation: Generation, situation: Situation) -> bool {
        let Some(last_seen) = self.last_seen_waiting(generation) else { return false };
        let is_over = self.tokens[&generation].is_overlap_over(Some(last_seen), situation);
        last_seen >= situation.now - AWAITED_WITHIN && !is_over
    }
}

/// A call that is being predicted.
struct Attempt {
    runner: Runner,
    situation: Situation,
    states: Vec<Runner>,
}

impl Attempt {
    fn commit(&mut self) {
        self.states.push(self.runner.clone());
    }

    fn poll(&mut self, manager: Option<&str>, generation: Generation) -> Refusable<Outcome> {
        let name = manager.unwrap_or(NAMELESS);
        let known = self.runner.managers.get(name).cloned();
        self.present(generation, Bearer::Manager(manager))?;
        let is_news = known.is_none_or(|known| known.generation < generation || self.is_due(Some(known.last_seen)));
        let is_due = is_news || self.is_due(self.runner.last_seen);
        if is_due && self.situation.are_contacts_recorded {
            self.runner.last_seen = Some(self.situation.now);
            self.note_manager(name, generation);
            self.commit();
        }
        Ok(Outcome::Ok)
    }

    /// Decides whether a token authenticates. The first use of the successor makes it current.
    fn present(&mut self, generation: Generation, bearer: Bearer) -> Refusable<()> {
        let token = self.runner.tokens.get(&generation).ok_or_else(|| self.missing())?;
        match token.phase {
            Phase::Ended { reason, .. } => return Err(reason),
            // GitLab's rule knows no retiring token.
            Phase::Retiring { .. } if self.situation.overlap == 0 => return Err("runner_token_superseded"),
            _ if token.has_expired(self.situation.now) => return Err("runner_token_expired"),
            _ => {}
        }
        match token.phase {
            Phase::Successor => {
                self.promote(generation, bearer);
                Ok(())
            }
            Phase::Retiring { .. } if !self.is_for(bearer, generation) => Err("runner_token_superseded"),
            _ => Ok(()),
        }
    }

    /// Why a token that the runner does not have is refused.
    fn missing(&self) -> &'static str {
        let is_noted = self.situation.removed_at.is_some_and(|removed_at| self.situation.now < removed_at + KEPT);
        if is_noted { "runner_removed" } else { "runner_token_unknown" }
    }

    /// Reports whether a retiring token is still for this bearer.
    fn is_for(&self, bearer: Bearer, generation: Generation) -> bool {
        match bearer {
            Bearer::Manager(Some(name)) | Bearer::LeavingManager(name) => {
                self.runner.has_not_moved(name, generation, self.situation)
            }
            Bearer::Manager(None) | Bearer::Deletion => false,
            Bearer::Rotation => self.runner.is_awaited(generation, self.situation),
        }
    }

    fn promote(&mut self, generation: Generation, bearer: Bearer) {
        let now = self.situation.now;
        let former = match self.situation.overlap {
            0 => Phase::Ended { reason: "runner_token_superseded", since: now },
            _ => Phase::Retiring { since: now },
        };
        for (other, token) in &mut self.runner.tokens {
            if *other == generation {
                token.phase = Phase::Current;
            } else if token.phase == Phase::Current {
                token.phase = former;
            }
        }
        if let Bearer::Manager(manager) = bearer {
            self.note_manager(manager.unwrap_or(NAMELESS), generation);
        }
        self.commit();
    }

    fn is_due(&self, last: Option<i64>) -> bool {
        last.is_none_or(|last| (self.situation.now - last).abs() >= RECORD_INTERVAL)
    }

    fn note_manager(&mut self, name: &str, generation: Generation) {
        let now = self.situation.now;
        let new = Manager { generation, first_seen: now, last_seen: now };
        let manager = self.runner.managers.entry(name.to_owned()).or_insert(new);
        manager.generation = manager.generation.max(generation);
        manager.last_seen = now;
    }

    fn rotate(&mut self, generation: Generation) -> Refusable<Outcome> {
        self.present(generation, Bearer::Rotation)?;
        let now = self.situation.now;
        if self.is_due(self.runner.last_seen) && self.situation.are_contacts_recorded {
            self.runner.last_seen = Some(now);
            self.commit();
        }
        if !self.situation.is_assigned {
            return Err("runner_unassigned");
        }
        let is_late = self.runner.tokens[&generation].deadline.is_some_and(|deadline| now >= deadline);
        if let Some(unused) = self.runner.token_in(Phase::Successor) {
            let successor = &self.runner.tokens[&unused];
            if !successor.has_expired(now) && (is_late || successor.has_half_of_its_life(now)) {
                return Ok(Outcome::Token(unused));
            }
        }
        if is_late {
            return Err("rotation_deadline_passed");
        }
        let since = now - MINT_WINDOW;
        let mints = self.runner.tokens.values().filter(|token| token.by_rotation);
        let mints = mints.filter(|token| since < token.minted_at && token.minted_at <= now).count();
        let managers = self.runner.managers.values().filter(|manager| manager.last_seen >= now - AWAITED_WITHIN);
        if mints >= managers.count() + 10 {
            // Nothing is minted, so an unused successor is returned however little of its life is left.
            let unused = self.runner.token_in(Phase::Successor);
            let unused = unused.filter(|unused| !self.runner.tokens[unused].has_expired(now));
            return unused.map(Outcome::Token).ok_or("rotation_limited");
        }
        Ok(self.mint_by_rotation())
    }

    fn mint_by_rotation(&mut self) -> Outcome {
        let now = self.situation.now;
        self.forget_what_ended();
        let phase = if self.situation.overlap == 0 {
            self.end_all("runner_token_superseded");
            Phase::Current
        } else {
            let unused = self.runner.tokens.values_mut().filter(|token| token.phase == Phase::Successor);
            unused.for_each(|token| token.phase = Phase::Retiring { since: now });
            Phase::Successor
        };
        self.mint(phase, true)
    }

    fn mint(&mut self, phase: Phase, by_rotation: bool) -> Outcome {
        let now = self.situation.now;
        let expires_at = self.situation.life.map(|life| now + life);
        let token = Token { phase, minted_at: now, expires_at, deadline: None, by_rotation };
        let generation = self.runner.next_generation();
        self.runner.tokens.insert(generation, token);
        self.commit();
        Outcome::Token(generation)
    }

    fn end_all(&mut self, reason: &'static str) {
        let since = self.situation.now;
        for token in self.runner.tokens.values_mut().filter(|token| token.is_alive()) {
            token.phase = Phase::Ended { reason, since };
        }
    }

    /// Forgets what ended long ago, and the oldest of too many; never the newest token, whose number is not given twice.
    fn forget_what_ended(&mut self) {
        let situation = self.situation;
        let newest = self.runner.next_generation() - 1;
        let runner = self.runner.clone();
        let end = |generation: Generation, token: &Token| token.end(runner.last_seen_waiting(generation), situation);
        let ended = self.runner.tokens.iter().rev().filter(|(generation, token)| end(**generation, token).is_some());
        let one_too_many = ended.map(|(generation, _)| *generation).nth(KEPT_AT_MOST);
        self.runner.tokens.retain(|generation, token| {
            let end = end(*generation, token);
            let is_long_ago = end.is_some_and(|end| end < situation.now - KEPT);
            let is_of_too_many = end.is_some() && one_too_many.is_some_and(|oldest| *generation <= oldest);
            *generation == newest || !(is_long_ago || is_of_too_many)
        });
    }

    fn leave(&mut self, manager: &str, generation: Generation) -> Refusable<Outcome> {
        self.present(generation, Bearer::LeavingManager(manager))?;
        self.runner.managers.remove(manager).ok_or("runner_manager_not_found")?;
        self.commit();
        Ok(Outcome::Ok)
    }

    fn delete(&mut self, generation: Generation) -> Refusable<Outcome> {
        self.present(generation, Bearer::Deletion)?;
        self.end_runner();
        Ok(Outcome::Ok)
    }

    fn end_runner(&mut self) {
        self.runner = Runner::default();
        self.commit();
    }

    fn reset_by_id(&mut self) -> Refusable<Outcome> {
        if !self.situation.is_assigned {
            return Err("runner_unassigned");
        }
        self.end_all("runner_token_revoked");
        Ok(self.mint(Phase::Current, false))
    }
}

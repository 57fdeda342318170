//! The storm guard. It stands in front of everything that costs I/O: a client that repeats a refused call is answered 429
//! from memory, and no service is asked.
//!
//! A budget belongs to a token on one method or protected route ([`budget`]). An address has another one, for tokens that
//! have not succeeded anywhere ([`address`]). Each gateway counts for itself: the guard is a shield and no account.

mod address;
mod budget;
mod earlier;
mod elapsed;
mod limit;
mod report;
pub mod settings;

use std::{
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chassis::{
    client_id::ResolvedClient,
    clock::Clock,
    status::{Refusal, Rejection},
};
use governor::clock::DefaultClock;
use moka::sync::Cache;
use proto::{
    contract::{METHODS, MethodSpec},
    paddock::contract::v1::{RateClass, Reason},
    timestamp::millis,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use self::{
    address::{AddressBlock, AddressBudget},
    budget::{Budget, Free, LONGEST_BLOCK_SECONDS, Limits, Start, TRUST_MS},
    earlier::EarlierRefusal,
    elapsed::is_within,
    limit::TokenLimit,
    report::{Offender, RefusedCall, Reports},
    settings::{GuardConfig, LimitsConfig},
};
use crate::{
    connection::networks::Networks,
    credential::token::TokenDigest,
    observe::{
        access_log::AccessRecord,
        metrics::{self, GuardEvent},
    },
};

/// The method whose calls [`LimitsConfig::runner_jobs_request_api_limit`] limits.
const JOB_REQUEST: &str = "RequestJob";

/// How long the state of a token or an address is kept after its last call.
const IDLE: Duration = Duration::from_secs(600);

/// How long a noted success of a token is current, in milliseconds. A call within this time writes nothing.
const SUCCESS_NOTED_MS: i64 = 60_000;

/// The time between two log lines about one offender.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The most answers that are held back at the same time.
const MAX_PAUSES: usize = 1000;

/// The least that a 429 asks its client to wait, in seconds.
const LEAST_WAIT_SECONDS: u32 = 5;

/// The most that chance adds to this wait, in seconds, so that clients do not come back all at once.
const JITTER_SECONDS: u32 = 5;

/// A method or protected route with a budget for each token.
#[derive(Clone, Copy, Debug)]
pub struct GuardedRoute {
    id: usize,
    class: RateClass,
    is_job_request: bool,
}

impl GuardedRoute {
    /// Returns the route of a method. All its bindings share a budget.
    pub fn method(method: &MethodSpec) -> Self {
        let id = METHODS.binary_search_by(|other| other.path.cmp(method.path)).unwrap_or_else(|at| at);
        Self { id, class: method.rate_class, is_job_request: method.name == JOB_REQUEST }
    }

    /// Returns the protected route with this index in its table.
    pub fn protected(index: usize) -> Self {
        Self { id: METHODS.len() + index, class: RateClass::Job, is_job_request: false }
    }
}

/// A token on a method or protected route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    route: usize,
    token: TokenDigest,
}

/// A call that the guard judges.
#[derive(Clone, Copy, Debug)]
struct Call {
    key: Key,
    class: RateClass,
    address: IpAddr,
}

/// A budget, and where calls wait for their turn.
#[derive(Debug, Default)]
struct Entry {
    budget: Mutex<Budget>,
    changed: Notify,
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, free: Free) {
        match free {
            Free::All => self.changed.notify_waiters(),
            Free::Calls(calls) => (0..calls).for_each(|_| self.changed.notify_one()),
        }
    }
}

/// The answer to a call that is not let through.
#[derive(Clone, Debug)]
struct Block {
    offender: Offender,
    earlier: EarlierRefusal,
    left_ms: i64,
}

/// How a call begins.
enum Judgement {
    Admitted { suspicious: bool },
    Blocked(Block),
    Wait,
}

/// The guard of one gateway.
pub struct Guard {
    is_enabled: bool,
    limits: Limits,
    address_failures: u32,
    exempt: Networks,
    clock: Clock,
    budgets: Cache<Key, Arc<Entry>>,
    /// When a token last succeeded, by rate class.
    good_tokens: Cache<(RateClass, TokenDigest), i64>,
    addresses: Cache<AddressBlock, Arc<Mutex<AddressBudget>>>,
    job_requests: Option<TokenLimit>,
    reports: Reports,
    pause: Duration,
    pauses: Semaphore,
}

impl Guard {
    /// Returns a guard without failures.
    pub fn new(config: &GuardConfig, limits: &LimitsConfig, clock: Clock) -> Self {
        let max_entries = config.max_entries;
        Self {
            is_enabled: config.enabled,
            limits: Limits { failures: config.failures, window_ms: i64::from(config.window_seconds) * 1000 },
            address_failures: config.address_failures,
            // The validation of the settings has refused a text that cannot be read. The fallback exempts no address.
            exempt: Networks::parse(&config.exempt_addresses).unwrap_or_default(),
            clock,
            budgets: Cache::builder().max_capacity(max_entries).time_to_idle(IDLE).build(),
            good_tokens: Cache::builder().max_capacity(max_entries).time_to_live(IDLE).build(),
            addresses: Cache::builder().max_capacity(max_entries).time_to_idle(IDLE).build(),
            job_requests: TokenLimit::new(limits.runner_jobs_request_api_limit, max_entries, DefaultClock::default()),
            reports: Reports::default(),
            pause: Duration::from_millis(config.pause_ms.into()),
            pauses: Semaphore::new(MAX_PAUSES),
        }
    }

    /// Lets a call through, or waits until others with the same token have ended. The caller limits the time.
    ///
    /// # Errors
    /// Returns the refusal of a call whose token or address has failed too often.
    pub async fn admit(
        &self,
        route: GuardedRoute,
        token: &TokenDigest,
        record: &mut AccessRecord,
    ) -> Result<Admission<'_>, Rejection> {
        let key = Key { route: route.id, token: *token };
        let call = Call { key, class: route.class, address: record.remote_ip() };
        if route.is_job_request
            && let Some(limit) = &self.job_requests
            && let Err(refusal) = limit.count(token)
        {
            metrics::count_guard_event(GuardEvent::OverLimit, class_name(call.class));
            self.report(&call, Offender::Token(key), &EarlierRefusal::of_reason(Reason::TooManyRequests), record);
            record.set_answered_from_memory(None);
            return Err(refusal.into());
        }
        if !self.is_enabled || !is_guarded(route.class) {
            return Ok(Admission::unguarded());
        }
        match self.enter(&call).await {
            Ok(admission) => Ok(admission),
            Err(block) => Err(self.refuse(&call, &block, record).into()),
        }
    }

    /// Holds an answer from memory back, after the request and everything that was read of it is gone. A client that does not heed Retry-After cannot send its next request meanwhile. Chance
    /// varies the time, so that clients do not come back all at once. When too many answers are held back already, this one is
    /// not.
    pub async fn pause(&self) {
        if let Ok(_place) = self.pauses.try_acquire() {
            tokio::time::sleep(self.pause.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }

    /// Writes a line about each offender in intervals, until shutdown and once after.
    pub async fn report_until(&self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(REPORT_INTERVAL)).await.is_some() {
            self.write_report();
        }
    }

    /// Writes a line about each offender since the last report.
    pub fn write_report(&self) {
        metrics::set_guard_length("budgets", self.budgets.entry_count());
        metrics::set_guard_length("good_tokens", self.good_tokens.entry_count());
        metrics::set_guard_length("addresses", self.addresses.entry_count());
        self.reports.write();
    }

    /// Lets a call through, now or when others have ended.
    async fn enter(&self, call: &Call) -> Result<Admission<'_>, Block> {
        let known = self.budgets.get(&call.key);
        if let Some(entry) = &known
            && entry.lock().start_trusted(self.limits, self.now())
        {
            return Ok(self.admission(call, Arc::clone(entry)));
        }
        if let Some(entry) = &known
            && let Some(block) = self.token_block(call, entry)
        {
            return Err(block);
        }
        let is_fresh = known.as_ref().is_none_or(|entry| entry.lock().earlier().is_none());
        if let Some(block) = self.address_block(call, is_fresh) {
            return Err(block);
        }
        let entry = known.unwrap_or_else(|| self.budgets.get_with(call.key, Arc::default));
        if self.wait_for_turn(call, &entry).await? {
            metrics::count_guard_event(GuardEvent::Suspicious, class_name(call.class));
        }
        Ok(self.admission(call, entry))
    }

    /// Begins the call as soon as the budget allows it. Returns whether an earlier one has failed.
    async fn wait_for_turn(&self, call: &Call, entry: &Entry) -> Result<bool, Block> {
        loop {
            // Listens before it judges, so that no end of another call is missed.
            let mut changed = pin!(entry.changed.notified());
            changed.as_mut().enable();
            match self.judge(call, entry) {
                Judgement::Admitted { suspicious } => return Ok(suspicious),
                Judgement::Blocked(block) => return Err(block),
                Judgement::Wait => changed.await,
            }
        }
    }

    fn judge(&self, call: &Call, entry: &Entry) -> Judgement {
        let mut budget = entry.lock();
        match budget.start(self.limits, AddressBlock::of(call.address), self.now()) {
            Start::Admitted { suspicious } => Judgement::Admitted { suspicious },
            Start::Full => Judgement::Wait,
            Start::Blocked(left_ms) => Judgement::Blocked(block_of_token(call, &budget, left_ms)),
        }
    }

    fn token_block(&self, call: &Call, entry: &Entry) -> Option<Block> {
        let budget = entry.lock();
        let left_ms = budget.blocked_for(AddressBlock::of(call.address), self.now());
        left_ms.map(|left_ms| block_of_token(call, &budget, left_ms))
    }

    fn address_block(&self, call: &Call, is_fresh: bool) -> Option<Block> {
        if self.is_good(call) || self.exempt.contains(call.address) {
            return None;
        }
        let address = AddressBlock::of(call.address);
        let budget = self.addresses.get(&address)?;
        let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
        let (left_ms, reason) = budget.blocked_for(self.address_failures, is_fresh, self.now())?;
        Some(Block { offender: Offender::Address(address), earlier: EarlierRefusal::of_reason(reason), left_ms })
    }

    fn admission(&self, call: &Call, entry: Arc<Entry>) -> Admission<'_> {
        Admission(Some(Admitted { guard: self, call: *call, entry }))
    }

    /// Returns the 429 of a blocked call.
    fn refuse(&self, call: &Call, block: &Block, record: &mut AccessRecord) -> Refusal {
        let event = match block.offender {
            Offender::Token(_) => GuardEvent::BlockedByToken,
            Offender::Address(_) => GuardEvent::BlockedByAddress,
        };
        metrics::count_guard_event(event, class_name(call.class));
        self.report(call, block.offender, &block.earlier, record);
        record.set_answered_from_memory(Some(block.earlier.reason));
        let jitter = rand::random_range(0..=JITTER_SECONDS);
        Refusal::new(Reason::TooManyRequests)
            .with_message(block.earlier.repeated_message())
            .with_retry_after(wait_seconds(block.left_ms, jitter))
    }

    fn report(&self, call: &Call, offender: Offender, earlier: &EarlierRefusal, record: &AccessRecord) {
        self.reports.add(offender, || RefusedCall {
            reason: earlier.reason,
            client_id: earlier.client_id.clone(),
            remote_ip: call.address,
            route: record.template().cloned(),
            class: call.class,
        });
    }

    /// Notes the failure of a call.
    fn fail(&self, call: &Call, entry: &Entry, refusal: &Refusal, client: &ResolvedClient) {
        let now = self.now();
        let counts_for_address = !self.is_good(call) && !self.exempt.contains(call.address);
        let mut budget = entry.lock();
        let address = AddressBlock::of(call.address);
        budget.fail(self.limits, address, now, EarlierRefusal::new(refusal, client.get()));
        let is_charged = counts_for_address && budget.charge(address::WINDOW_MS, now);
        drop(budget);
        if is_charged {
            let budget = self.addresses.get_with(address, || Arc::new(Mutex::new(AddressBudget::new(now))));
            budget.lock().unwrap_or_else(PoisonError::into_inner).charge(refusal.reason(), now);
        }
    }

    /// Notes that the token of a call is good.
    fn succeed(&self, call: &Call, entry: &Entry) {
        let now = self.now();
        let mut budget = entry.lock();
        let is_news = budget.is_success_older_than(SUCCESS_NOTED_MS, now) || budget.earlier().is_some();
        if !is_news {
            return;
        }
        budget.succeed(now);
        drop(budget);
        // The budget limits no call any more, and the call that has succeeded may take long yet.
        entry.wake(Free::All);
        self.good_tokens.insert((call.class, call.key.token), now);
    }

    /// Reports whether the token has succeeded lately on a method of the same class.
    fn is_good(&self, call: &Call) -> bool {
        let succeeded_at = self.good_tokens.get(&(call.class, call.key.token));
        succeeded_at.is_some_and(|at| is_within(at, TRUST_MS, self.now()))
    }

    fn now(&self) -> i64 {
        millis(self.clock.now())
    }
}

/// A call that was let through. It counts as neither good nor bad if it is dropped without a result: its client has gone,
/// and it may have succeeded.
pub struct Admission<'g>(Option<Admitted<'g>>);

struct Admitted<'g> {
    guard: &'g Guard,
    call: Call,
    entry: Arc<Entry>,
}

impl Admission<'_> {
    /// Returns the admission of a call that nothing guards.
    pub fn unguarded() -> Self {
        Self(None)
    }

    /// Notes that the token is good, whatever becomes of the rest of the call.
    pub fn confirm(&self) {
        if let Some(admitted) = &self.0 {
            admitted.guard.succeed(&admitted.call, &admitted.entry);
        }
    }

    /// Ends the call with its result. `client` is whom the credential belongs to.
    pub fn finish<T>(self, result: &Result<T, Rejection>, client: &ResolvedClient) {
        let Some(admitted) = &self.0 else { return };
        match result {
            Ok(_) => self.confirm(),
            Err(Rejection::Refusal(refusal)) if is_failure(admitted.call.class, refusal) => {
                admitted.guard.fail(&admitted.call, &admitted.entry, refusal, client);
            }
            Err(_) => {}
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let free = self.entry.lock().end(self.guard.limits, self.guard.now());
        self.entry.wake(free);
    }
}

fn block_of_token(call: &Call, budget: &Budget, left_ms: i64) -> Block {
    let earlier = budget.earlier().cloned();
    let earlier = earlier.unwrap_or_else(|| EarlierRefusal::of_reason(Reason::TooManyRequests));
    Block { offender: Offender::Token(call.key), earlier, left_ms }
}

/// Returns the seconds after which a blocked client may call again.
fn wait_seconds(left_ms: i64, jitter: u32) -> u32 {
    let left = u32::try_from(left_ms.max(0).unsigned_abs().div_ceil(1000)).unwrap_or(LONGEST_BLOCK_SECONDS);
    left.saturating_add(jitter).clamp(LEAST_WAIT_SECONDS, LONGEST_BLOCK_SECONDS)
}

/// Reports whether calls of the class have a budget.
fn is_guarded(class: RateClass) -> bool {
    match class {
        RateClass::Runner | RateClass::User | RateClass::Job => true,
        RateClass::Internal | RateClass::Unspecified => false,
    }
}

/// Reports whether a refusal counts as a failure. A runner program repeats whatever is refused. Scripts and package clients
/// get a 404 or 403 every day, so that there only a credential that is no good counts.
fn is_failure(class: RateClass, refusal: &Refusal) -> bool {
    let status = refusal.spec().http_status;
    match class {
        RateClass::Runner => !matches!(status, 408 | 429),
        RateClass::User | RateClass::Job => status == 401,
        RateClass::Internal | RateClass::Unspecified => false,
    }
}

/// Returns the name of a class in logs and metrics.
fn class_name(class: RateClass) -> &'static str {
    match class {
        RateClass::Runner => "runner",
        RateClass::User => "user",
        RateClass::Job => "job",
        RateClass::Internal => "internal",
        RateClass::Unspecified => "unspecified",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

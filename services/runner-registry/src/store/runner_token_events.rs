//! What happened to the tokens of runners. Repetitions are counted in one row an hour. A runner keeps its events for 30
//! days, and the newest thousand of each grade; that is enforced whenever a row is added.

use chassis::db::paging::{Paged, Window};
use proto::timestamp::millis;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait as _, NotSet, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, QueryTrait as _, SelectExt as _, Set,
    sea_query::{Expr, ExprTrait as _, OnConflict, SubQueryStatement},
};
use time::{Duration, OffsetDateTime};

use crate::{
    entity::{
        runner_token,
        runner_token_event::{self, Column, TokenEventGrade, TokenEventKind},
    },
    error::Result,
    runner::token_event::Finding,
};

/// How long an event is kept after it happened last.
const KEPT: Duration = Duration::days(30);

/// How many events of each grade are kept at most of one runner.
const KEPT_PER_RUNNER: u64 = 1000;

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

/// Who caused an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCaller {
    /// The system id that a manager sent.
    pub system_id: Option<String>,
    /// The address of the client.
    pub ip_address: Option<String>,
    /// Its user agent, at most 256 bytes.
    pub user_agent: Option<String>,
    /// The user who called.
    pub user_id: Option<i64>,
}

/// An event to record.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// The runner.
    pub runner_id: i64,
    /// The generation of the token.
    pub generation: i32,
    /// What happened, and its grade.
    pub finding: Finding,
    /// Who caused it.
    pub caller: &'a EventCaller,
}

impl<'a> NewEvent<'a> {
    /// An event of a token.
    pub fn of(token: &runner_token::Model, finding: Finding, caller: &'a EventCaller) -> Self {
        Self { runner_id: token.runner_id, generation: token.generation, finding, caller }
    }
}

/// Records an event, or counts it if it happened within the same hour before. If it is a new row, deletes the events of
/// the runner that are too old or too many.
///
/// # Errors
/// A violated reference if the runner is gone by now.
pub async fn record(tx: &DatabaseTransaction, event: NewEvent<'_>, now: OffsetDateTime) -> Result<()> {
    let caller = event.caller.clone();
    let row = runner_token_event::ActiveModel {
        id: NotSet,
        runner_id: Set(event.runner_id),
        generation: Set(event.generation),
        kind: Set(event.finding.kind),
        grade: Set(event.finding.grade),
        system_id: Set(caller.system_id.unwrap_or_default()),
        ip_address: Set(caller.ip_address.unwrap_or_default()),
        hour: Set(millis(now).div_euclid(HOUR)),
        user_agent: Set(caller.user_agent),
        actor_id: Set(caller.user_id),
        first_at: Set(millis(now)),
        last_at: Set(millis(now)),
        count: Set(1),
    };
    let recorded = runner_token_event::Entity::insert(row).on_conflict(count_again()).exec_with_returning(tx).await?;
    if recorded.count == 1 {
        delete_old(tx, event.runner_id, event.finding.grade, now).await?;
    }
    Ok(())
}

/// What changes in the row of an event that happens again. Its grade never falls.
fn count_again() -> OnConflict {
    let same = [Column::RunnerId, Column::Generation, Column::Kind, Column::SystemId, Column::IpAddress, Column::Hour];
    let highest = Expr::cust(
        "CASE WHEN excluded.grade > runner_token_events.grade THEN excluded.grade ELSE runner_token_events.grade END",
    );
    let latest = Expr::cust(
        "CASE WHEN excluded.last_at > runner_token_events.last_at \
         THEN excluded.last_at ELSE runner_token_events.last_at END",
    );
    OnConflict::columns(same)
        .value(Column::Grade, highest)
        .value(Column::UserAgent, Expr::cust("COALESCE(excluded.user_agent, runner_token_events.user_agent)"))
        .value(Column::LastAt, latest)
        .value(Column::Count, Expr::cust("runner_token_events.count + 1"))
        .to_owned()
}

/// Deletes the events of a runner that are too old, and those of a grade that are too many: whoever causes many events of one
/// grade must not push those of another one out.
async fn delete_old(
    tx: &DatabaseTransaction,
    runner_id: i64,
    grade: TokenEventGrade,
    now: OffsetDateTime,
) -> Result<()> {
    let newest_not_kept = runner_token_event::Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Column::Grade.eq(grade))
        .order_by_desc(Column::Id)
        .offset(KEPT_PER_RUNNER)
        .limit(1)
        .into_query();
    // Without such an event the comparison is null, and so no match.
    let too_many = Expr::col(Column::Id).lte(Expr::from(SubQueryStatement::from(newest_not_kept)));
    let too_many = Column::Grade.eq(grade).and(too_many);
    let too_old = Column::LastAt.lt(millis(now.saturating_sub(KEPT)));
    runner_token_event::Entity::delete_many()
        .filter(Column::RunnerId.eq(runner_id))
        .filter(too_old.or(too_many))
        .exec(tx)
        .await?;
    Ok(())
}

/// Reports whether a manager, which named itself, is known as the first user of a generation.
pub async fn was_first_used_by_manager(db: &impl ConnectionTrait, runner_id: i64, generation: i32) -> Result<bool> {
    let first_use = runner_token_event::Entity::find()
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Column::Generation.eq(generation))
        .filter(Column::Kind.eq(TokenEventKind::FirstUsed))
        .filter(Column::SystemId.ne(""));
    Ok(first_use.exists(db).await?)
}

/// What listed events have in common. Every entry that is set must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What happened.
    pub kind: Option<TokenEventKind>,
    /// The grade.
    pub grade: Option<TokenEventGrade>,
}

/// A page of the events of a runner, the one that happened last first.
pub async fn list(
    db: &impl ConnectionTrait,
    runner_id: i64,
    filter: Filter,
    window: Window,
    now: OffsetDateTime,
) -> Result<Paged<runner_token_event::Model>> {
    let wanted = Condition::all()
        .add(Column::RunnerId.eq(runner_id))
        .add(Column::LastAt.gte(millis(now.saturating_sub(KEPT))))
        .add_option(filter.kind.map(|kind| Column::Kind.eq(kind)))
        .add_option(filter.grade.map(|grade| Column::Grade.eq(grade)));
    let query =
        runner_token_event::Entity::find().filter(wanted).order_by_desc(Column::LastAt).order_by_desc(Column::Id);
    Ok(window.fetch(query, db).await?)
}

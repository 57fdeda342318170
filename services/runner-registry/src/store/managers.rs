//! The runner programs that use a runner's token, and when they were last seen.

use proto::timestamp::millis;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait as _, NotSet, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, SelectExt as _, Set,
    sea_query::{Expr, ExprTrait as _, OnConflict, Query, SelectStatement},
};
use time::{Duration, OffsetDateTime};

use crate::{
    entity::{
        runner,
        runner_manager::{self, Column},
        runner_token,
    },
    error::{Error, Result},
    runner::rotation,
};

/// The system id of a runner program that sends none. It names no single program.
pub const LEGACY_SYSTEM_ID: &str = "<legacy>";

/// What a runner program reports about itself, and where it calls from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
    /// Its platform.
    pub platform: Option<String>,
    /// Its architecture.
    pub architecture: Option<String>,
    /// Its executor.
    pub executor: Option<String>,
    /// The address that it calls from.
    pub ip_address: Option<String>,
}

/// The managers of a runner, the one seen last first.
pub async fn list(db: &impl ConnectionTrait, runner_id: i64) -> Result<Vec<runner_manager::Model>> {
    let managers = runner_manager::Entity::find()
        .filter(Column::RunnerId.eq(runner_id))
        .order_by_desc(Column::ContactedAt)
        .order_by_desc(Column::Id);
    Ok(managers.all(db).await?)
}

/// Deletes one manager of a runner.
///
/// # Errors
/// [`Error::RunnerManagerNotFound`] if there is none with this system id.
pub async fn delete(db: &impl ConnectionTrait, runner_id: i64, system_id: &str) -> Result<()> {
    let deleted = runner_manager::Entity::delete_many()
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Column::SystemId.eq(system_id))
        .exec(db)
        .await?;
    if deleted.rows_affected == 0 { Err(Error::RunnerManagerNotFound) } else { Ok(()) }
}

/// Reports whether a manager waits to be rotated away from a retiring token: it may still use the token, and was seen
/// lately.
pub async fn is_awaited(
    db: &impl ConnectionTrait,
    token: &runner_token::Model,
    overlap: Duration,
    now: OffsetDateTime,
) -> Result<bool> {
    let overlap_began = millis(now.saturating_sub(overlap));
    let must_be_recent = token.expires_at.is_none() && token.retired_at.is_none_or(|at| at <= overlap_began);
    let recent = must_be_recent.then(|| Column::ContactedAt.gt(overlap_began));
    let waiting = runner_manager::Entity::find()
        .filter(Column::RunnerId.eq(token.runner_id))
        .filter(Column::SystemId.ne(LEGACY_SYSTEM_ID))
        .filter(Column::Generation.lte(token.generation))
        .filter(Column::ContactedAt.gte(millis(now.saturating_sub(rotation::AWAITED_WITHIN))))
        .filter(Condition::all().add_option(recent));
    Ok(waiting.exists(db).await?)
}

/// The managers that may use the retiring token of an outer query, and were seen at this instant or later.
pub fn of_token_since(instant: i64) -> SelectStatement {
    let runner_id = Expr::col((runner_manager::Entity, Column::RunnerId));
    let generation = Expr::col((runner_manager::Entity, Column::Generation));
    Query::select()
        .expr(Expr::val(1))
        .from(runner_manager::Entity)
        .and_where(runner_id.equals((runner_token::Entity, runner_token::Column::RunnerId)))
        .and_where(generation.lte(Expr::col((runner_token::Entity, runner_token::Column::Generation))))
        .and_where(Column::SystemId.ne(LEGACY_SYSTEM_ID))
        .and_where(Column::ContactedAt.gte(instant))
        .to_owned()
}

/// Finds the manager of a runner with this system id.
pub async fn find(db: &impl ConnectionTrait, runner_id: i64, system_id: &str) -> Result<Option<runner_manager::Model>> {
    let manager =
        runner_manager::Entity::find().filter(Column::RunnerId.eq(runner_id)).filter(Column::SystemId.eq(system_id));
    Ok(manager.one(db).await?)
}

/// Returns the newest generation that a manager of a runner was seen with, apart from the one with this system id; none
/// if there is no other manager.
pub async fn newest_generation_of_others(
    db: &impl ConnectionTrait,
    runner_id: i64,
    system_id: &str,
) -> Result<Option<i32>> {
    let newest: Option<Option<i32>> = runner_manager::Entity::find()
        .select_only()
        .column_as(Column::Generation.max(), "newest")
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Column::SystemId.ne(system_id))
        .into_tuple()
        .one(db)
        .await?;
    Ok(newest.flatten())
}

/// Counts the managers of a runner that may wait for a new token.
pub async fn count_seen_lately(db: &impl ConnectionTrait, runner_id: i64, now: OffsetDateTime) -> Result<u64> {
    let seen = runner_manager::Entity::find()
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Column::ContactedAt.gte(millis(now.saturating_sub(rotation::AWAITED_WITHIN))));
    Ok(seen.count(db).await?)
}

/// Records a contact of a runner, and reports whether the runner still exists.
pub async fn record_contact(
    tx: &DatabaseTransaction,
    runner_id: i64,
    info: &Info,
    now: OffsetDateTime,
) -> Result<bool> {
    let columns = [
        (runner::Column::Name, &info.name),
        (runner::Column::Version, &info.version),
        (runner::Column::Revision, &info.revision),
        (runner::Column::Platform, &info.platform),
        (runner::Column::Architecture, &info.architecture),
    ];
    let mut update = runner::Entity::update_many().col_expr(runner::Column::ContactedAt, Expr::value(millis(now)));
    for (column, value) in columns {
        if let Some(value) = value {
            update = update.col_expr(column, Expr::value(value.clone()));
        }
    }
    let updated = update.filter(runner::Column::Id.eq(runner_id)).exec(tx).await?;
    Ok(updated.rows_affected > 0)
}

/// Records a manager of a runner, new or known, that uses a generation of the token. What it does not report stays as it
/// was. The generation never falls: a call with an older token can be recorded after one with a newer token.
pub async fn record(
    tx: &DatabaseTransaction,
    runner_id: i64,
    system_id: &str,
    generation: i32,
    info: &Info,
    now: OffsetDateTime,
) -> Result<()> {
    let row = runner_manager::ActiveModel {
        id: NotSet,
        runner_id: Set(runner_id),
        system_id: Set(system_id.to_owned()),
        version: Set(info.version.clone()),
        revision: Set(info.revision.clone()),
        platform: Set(info.platform.clone()),
        architecture: Set(info.architecture.clone()),
        executor: Set(info.executor.clone()),
        ip_address: Set(info.ip_address.clone()),
        generation: Set(generation),
        moved_at: Set(Some(millis(now))),
        created_at: Set(millis(now)),
        contacted_at: Set(millis(now)),
    };
    let columns = [
        (Column::Version, info.version.is_some()),
        (Column::Revision, info.revision.is_some()),
        (Column::Platform, info.platform.is_some()),
        (Column::Architecture, info.architecture.is_some()),
        (Column::Executor, info.executor.is_some()),
        (Column::IpAddress, info.ip_address.is_some()),
        (Column::ContactedAt, true),
    ];
    let known = columns.into_iter().filter(|(_, known)| *known).map(|(column, _)| column);
    let highest = Expr::cust(
        "CASE WHEN excluded.generation > runner_managers.generation \
         THEN excluded.generation ELSE runner_managers.generation END",
    );
    let moved_at = Expr::cust(
        "CASE WHEN excluded.generation > runner_managers.generation \
         THEN excluded.moved_at ELSE runner_managers.moved_at END",
    );
    let update = OnConflict::columns([Column::RunnerId, Column::SystemId])
        .update_columns(known)
        .value(Column::Generation, highest)
        .value(Column::MovedAt, moved_at)
        .to_owned();
    runner_manager::Entity::insert(row).on_conflict(update).exec_without_returning(tx).await?;
    Ok(())
}

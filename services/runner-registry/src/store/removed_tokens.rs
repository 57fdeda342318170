//! The tokens of runners that were deleted. They are known for 30 days, so that a refusal can say what happened to the
//! runner. Each deletion of a runner writes them in its own transaction.

use proto::timestamp::{self, millis};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, QueryTrait as _,
    sea_query::{Expr, LockType, Query},
};
use time::{Duration, OffsetDateTime};

use crate::{
    entity::{
        removed_runner_token::{self, Column},
        runner, runner_token,
    },
    error::{Error, Result},
};

/// How long the tokens of a deleted runner are known.
const KEPT: Duration = Duration::days(30);

/// The refusal of a token that is not found: its runner was removed, or it is unknown.
pub async fn refusal(db: &impl ConnectionTrait, digest: &[u8], now: OffsetDateTime) -> Result<Error> {
    let removed = removed_runner_token::Entity::find_by_id(digest.to_vec()).one(db).await?;
    let removed_after = millis(now.saturating_sub(KEPT));
    Ok(match removed.filter(|removed| removed.removed_at > removed_after) {
        Some(removed) => {
            Error::RunnerRemoved { runner_id: removed.runner_id, removed_at: timestamp::time(removed.removed_at) }
        }
        None => Error::RunnerTokenUnknown,
    })
}

/// Notes every token of the runners that match, which are about to be deleted, and forgets those that were noted too long
/// ago. The runners are locked until the transaction ends, so that no token comes after the note.
pub async fn note(tx: &DatabaseTransaction, removed: Condition, now: OffsetDateTime) -> Result<()> {
    let locked: Vec<i64> = runner::Entity::find()
        .select_only()
        .column(runner::Column::Id)
        .filter(removed.clone())
        .order_by_asc(runner::Column::Id)
        .lock(LockType::NoKeyUpdate)
        .into_tuple()
        .all(tx)
        .await?;
    if locked.is_empty() {
        return Ok(());
    }
    removed_runner_token::Entity::delete_many()
        .filter(Column::RemovedAt.lte(millis(now.saturating_sub(KEPT))))
        .exec(tx)
        .await?;
    let runner_ids = runner::Entity::find().select_only().column(runner::Column::Id).filter(removed).into_query();
    let tokens = runner_token::Entity::find()
        .select_only()
        .column(runner_token::Column::Digest)
        .column(runner_token::Column::RunnerId)
        .expr(Expr::val(millis(now)))
        .filter(runner_token::Column::RunnerId.in_subquery(runner_ids))
        .into_query();
    let mut insert = Query::insert();
    insert
        .into_table(removed_runner_token::Entity)
        .columns([Column::Digest, Column::RunnerId, Column::RemovedAt])
        .select_from(tokens)
        .map_err(Error::internal)?;
    tx.execute(&insert).await?;
    Ok(())
}

//! The generations of runner tokens. Every change locks the runner first (`runners::lock`), so that the changes of one
//! runner's tokens come one after the other.

use std::collections::HashMap;

use proto::timestamp::{self, millis};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult,
    IdenStatic as _, IntoActiveModel as _, Iterable as _, JoinType, NotSet, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QueryResult, QuerySelect as _, RelationDef, RelationTrait as _, Select, Set,
    sea_query::{Expr, ExprTrait as _, IntoCondition as _, Query},
};
use time::{Duration, OffsetDateTime};
use token::Digest;

use crate::{
    entity::{
        runner, runner_manager,
        runner_token::{self, Column, Relation, TokenState},
    },
    error::{Error, Result},
    runner::{rotation, seal::Sealed},
    store::managers,
};

/// The states in which a token can authenticate.
const LIVING: [TokenState; 3] = [TokenState::Successor, TokenState::Current, TokenState::Retiring];

/// How long tokens that have ended are kept, so that a refusal can say why.
const KEPT: Duration = Duration::days(30);

/// How many tokens of one runner are kept at most after their end.
const KEPT_PER_RUNNER: u64 = 200;

/// What the look-up of a presented token finds.
#[derive(Clone, Debug)]
pub struct PresentedToken {
    /// The token.
    pub token: runner_token::Model,
    /// The runner that it belongs to.
    pub runner: runner::Model,
    /// The manager that presents it, if it is known.
    pub manager: Option<runner_manager::Model>,
}

impl FromQueryResult for PresentedToken {
    fn from_query_result(row: &QueryResult, _prefix: &str) -> Result<Self, sea_orm::DbErr> {
        Ok(Self {
            token: FromQueryResult::from_query_result(row, "t_")?,
            runner: FromQueryResult::from_query_result(row, "r_")?,
            manager: FromQueryResult::from_query_result(row, "m_")?,
        })
    }
}

impl From<&runner_token::Model> for rotation::Token {
    fn from(row: &runner_token::Model) -> Self {
        Self {
            state: row.state,
            generation: row.generation,
            created_at: timestamp::time(row.created_at),
            expires_at: row.expires_at.map(timestamp::time),
            rotation_deadline: row.rotation_deadline.map(timestamp::time),
            retired_at: row.retired_at.map(timestamp::time),
        }
    }
}

impl From<&runner_manager::Model> for rotation::Manager {
    fn from(row: &runner_manager::Model) -> Self {
        Self { generation: row.generation, contacted_at: timestamp::time(row.contacted_at) }
    }
}

/// Finds a token by its digest, with its runner and the manager of that system id, in one query.
pub async fn find(db: &impl ConnectionTrait, digest: &Digest, system_id: &str) -> Result<Option<PresentedToken>> {
    let query = runner_token::Entity::find().select_only();
    let query = select_prefixed::<runner_token::Entity>(query, "t_");
    let query = select_prefixed::<runner::Entity>(query, "r_");
    let query = select_prefixed::<runner_manager::Entity>(query, "m_")
        .join(JoinType::InnerJoin, Relation::Runner.def())
        .join(JoinType::LeftJoin, to_manager(system_id))
        .filter(Column::Digest.eq(digest.as_bytes().to_vec()));
    Ok(query.into_model().one(db).await?)
}

fn select_prefixed<E: EntityTrait>(
    query: Select<runner_token::Entity>,
    prefix: &'static str,
) -> Select<runner_token::Entity> {
    E::Column::iter().fold(query, |query, column| query.column_as(column, format!("{prefix}{}", column.as_str())))
}

/// From a token to the manager of its runner with that system id.
fn to_manager(system_id: &str) -> RelationDef {
    let system_id = system_id.to_owned();
    Relation::Manager.def().on_condition(move |_, manager| {
        Expr::col((manager, runner_manager::Column::SystemId)).eq(system_id.as_str()).into_condition()
    })
}

/// The unused successor of a runner, if there is one, and the given token in any state.
pub async fn successor_and(
    db: &impl ConnectionTrait,
    runner_id: i64,
    token_id: i64,
) -> Result<Vec<runner_token::Model>> {
    let wanted = Column::State.eq(TokenState::Successor).or(Column::Id.eq(token_id));
    Ok(runner_token::Entity::find().filter(Column::RunnerId.eq(runner_id)).filter(wanted).all(db).await?)
}

/// Finds a token of a runner that is locked.
pub async fn find_by_id(tx: &DatabaseTransaction, token_id: i64) -> Result<Option<runner_token::Model>> {
    Ok(runner_token::Entity::find_by_id(token_id).one(tx).await?)
}

/// The current token of each runner.
pub async fn current(db: &impl ConnectionTrait, runner_ids: &[i64]) -> Result<HashMap<i64, runner_token::Model>> {
    let rows = runner_token::Entity::find()
        .filter(Column::RunnerId.is_in(runner_ids.iter().copied()))
        .filter(Column::State.eq(TokenState::Current))
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.runner_id, row)).collect())
}

/// A token to store.
#[derive(Debug)]
pub struct NewToken {
    /// The runner.
    pub runner_id: i64,
    /// The number of the generation.
    pub generation: i32,
    /// The digest of the token.
    pub digest: Digest,
    /// [`TokenState::Current`], or [`TokenState::Successor`] for one that a rotation makes.
    pub state: TokenState,
    /// The token that it succeeds.
    pub predecessor_id: Option<i64>,
    /// From this instant on it does not authenticate.
    pub expires_at: Option<OffsetDateTime>,
    /// From this instant on it cannot be rotated.
    pub rotation_deadline: Option<OffsetDateTime>,
    /// The text, for a repeated rotation.
    pub sealed: Option<Sealed>,
}

/// Stores a token.
pub async fn insert(tx: &DatabaseTransaction, new: NewToken, now: OffsetDateTime) -> Result<runner_token::Model> {
    let (sealed, sealed_key_id) = new.sealed.map(|sealed| (sealed.bytes, sealed.key_id)).unzip();
    let row = runner_token::ActiveModel {
        id: NotSet,
        runner_id: Set(new.runner_id),
        generation: Set(new.generation),
        digest: Set(new.digest.as_bytes().to_vec()),
        state: Set(new.state),
        predecessor_id: Set(new.predecessor_id),
        expires_at: Set(new.expires_at.map(millis)),
        rotation_deadline: Set(new.rotation_deadline.map(millis)),
        created_at: Set(millis(now)),
        sealed: Set(sealed),
        sealed_key_id: Set(sealed_key_id),
        promoted_at: Set(None),
        retired_at: Set(None),
        superseded_at: Set(None),
    };
    Ok(row.insert(tx).await?)
}

/// The number of the next generation of a runner that is locked.
pub async fn next_generation(tx: &DatabaseTransaction, runner_id: i64) -> Result<i32> {
    let greatest: Option<Option<i32>> = runner_token::Entity::find()
        .select_only()
        .column_as(Column::Generation.max(), "greatest")
        .filter(Column::RunnerId.eq(runner_id))
        .into_tuple()
        .one(tx)
        .await?;
    let greatest = greatest.flatten().unwrap_or(0);
    greatest.checked_add(1).ok_or_else(|| Error::internal("a runner has no generation left"))
}

/// Counts the tokens that rotations minted for a runner within the last [`rotation::MINT_WINDOW`]. Those of the future do
/// not count: the clock was ahead.
pub async fn count_minted_lately(tx: &DatabaseTransaction, runner_id: i64, now: OffsetDateTime) -> Result<u64> {
    let minted = runner_token::Entity::find()
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Column::PredecessorId.is_not_null())
        .filter(Column::CreatedAt.gt(millis(now.saturating_sub(rotation::MINT_WINDOW))))
        .filter(Column::CreatedAt.lte(millis(now)));
    Ok(minted.count(tx).await?)
}

/// Makes the successor the runner's token and erases the sealed text. The token before it gets the state `former`.
pub async fn promote(
    tx: &DatabaseTransaction,
    successor: runner_token::Model,
    former: TokenState,
    now: OffsetDateTime,
) -> Result<runner_token::Model> {
    // The index allows one current token, so the old one goes first.
    replace_tokens(tx, TokenState::Current, former, successor.runner_id, now).await?;
    let mut row = successor.into_active_model();
    row.state = Set(TokenState::Current);
    row.promoted_at = Set(Some(millis(now)));
    row.sealed = Set(None);
    row.sealed_key_id = Set(None);
    Ok(row.update(tx).await?)
}

/// Retires the unused successor of a runner, so that another one can be minted. It is not ended, because a manager may
/// have received it.
pub async fn retire_successor(tx: &DatabaseTransaction, runner_id: i64, now: OffsetDateTime) -> Result<()> {
    replace_tokens(tx, TokenState::Successor, TokenState::Retiring, runner_id, now).await
}

/// Supersedes every token of a runner that can authenticate.
pub async fn supersede(tx: &DatabaseTransaction, runner_id: i64, now: OffsetDateTime) -> Result<()> {
    end_living(tx, TokenState::Superseded, runner_id, now).await
}

/// Revokes every token of a runner that can authenticate.
pub async fn revoke(tx: &DatabaseTransaction, runner_id: i64, now: OffsetDateTime) -> Result<()> {
    end_living(tx, TokenState::Revoked, runner_id, now).await
}

async fn end_living(tx: &DatabaseTransaction, end: TokenState, runner_id: i64, now: OffsetDateTime) -> Result<()> {
    for state in LIVING {
        replace_tokens(tx, state, end, runner_id, now).await?;
    }
    Ok(())
}

/// Moves the tokens of a runner from one state to a later one, and deletes what is sealed in them.
async fn replace_tokens(
    tx: &DatabaseTransaction,
    from: TokenState,
    to: TokenState,
    runner_id: i64,
    now: OffsetDateTime,
) -> Result<()> {
    let instant = if to == TokenState::Retiring { Column::RetiredAt } else { Column::SupersededAt };
    runner_token::Entity::update_many()
        .col_expr(Column::State, Expr::value(to))
        .col_expr(instant, Expr::value(millis(now)))
        .col_expr(Column::Sealed, Expr::value(None::<Vec<u8>>))
        .col_expr(Column::SealedKeyId, Expr::value(None::<String>))
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Column::State.eq(from))
        .exec(tx)
        .await?;
    Ok(())
}

/// Deletes the tokens of a runner that ended more than [`KEPT`] ago, and the oldest of more than [`KEPT_PER_RUNNER`].
/// The number of the newest generation is never used again, so the newest token stays.
pub async fn delete_ended(
    tx: &DatabaseTransaction,
    runner_id: i64,
    overlap: Duration,
    now: OffsetDateTime,
) -> Result<()> {
    let ended = has_ended(overlap, now);
    let mut oldest_kept = runner_token::Entity::find()
        .select_only()
        .column(Column::Generation)
        .filter(Column::RunnerId.eq(runner_id))
        .filter(ended.clone())
        .order_by_desc(Column::Generation)
        .offset(KEPT_PER_RUNNER)
        .limit(1)
        .into_tuple::<i32>()
        .all(tx)
        .await?;
    let long_ago = has_ended(overlap, now.saturating_sub(KEPT));
    let too_many = oldest_kept.pop().map(|generation| ended.add(Column::Generation.lte(generation)));
    let newest = Query::select()
        .expr(Column::Generation.max())
        .from(runner_token::Entity)
        .and_where(Column::RunnerId.eq(runner_id))
        .to_owned();
    runner_token::Entity::delete_many()
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Condition::any().add(long_ago).add_option(too_many))
        .filter(Column::Generation.not_in_subquery(newest))
        .exec(tx)
        .await?;
    Ok(())
}

/// The tokens that had ended at an instant: replaced or revoked, or retiring and at their end.
fn has_ended(overlap: Duration, at: OffsetDateTime) -> Condition {
    let replaced =
        Column::State.is_in([TokenState::Superseded, TokenState::Revoked]).and(Column::SupersededAt.lt(millis(at)));
    let overlap_began = millis(at.saturating_sub(overlap));
    let retired_long_ago =
        Column::RetiredAt.lt(overlap_began).and(Expr::exists(managers::of_token_since(overlap_began)).not());
    let retired_out = Column::ExpiresAt.lt(millis(at)).or(Column::ExpiresAt.is_null().and(retired_long_ago));
    let retired_out = Column::State.eq(TokenState::Retiring).and(retired_out);
    Condition::all().add(replaced.or(retired_out))
}

//! The generations of runner tokens. Every change locks the runner first (`runners::lock`), so that the changes of one
//! runner's tokens come one after the other.

use std::collections::HashMap;

use proto::timestamp::{self, millis};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult,
    IdenStatic as _, IntoActiveModel as _, Iterable as _, JoinType, NotSet, QueryFilter as _, QueryResult,
    QuerySelect as _, RelationDef, RelationTrait as _, Select, Set,
    sea_query::{Expr, ExprTrait as _, IntoCondition as _},
};
use time::OffsetDateTime;
use token::Digest;

use crate::{
    entity::{
        runner, runner_manager,
        runner_token::{self, Column, Relation, TokenState},
    },
    error::{Error, Result},
    runner::{rotation, seal::Sealed},
};

/// The states in which a token can authenticate.
const ACTIVE: [TokenState; 2] = [TokenState::Successor, TokenState::Current];

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
            expires_at: row.expires_at.map(timestamp::time),
            rotation_deadline: row.rotation_deadline.map(timestamp::time),
            overlap_ends_at: row.overlap_ends_at.map(timestamp::time),
        }
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

/// The tokens of a runner that can authenticate, and the given one in any state.
pub async fn active_and(db: &impl ConnectionTrait, runner_id: i64, token_id: i64) -> Result<Vec<runner_token::Model>> {
    let wanted = Column::State.is_in(ACTIVE).or(Column::Id.eq(token_id));
    Ok(runner_token::Entity::find().filter(Column::RunnerId.eq(runner_id)).filter(wanted).all(db).await?)
}

/// The tokens of a runner that can authenticate.
pub async fn active(db: &impl ConnectionTrait, runner_id: i64) -> Result<Vec<runner_token::Model>> {
    let active = Column::State.is_in(ACTIVE);
    Ok(runner_token::Entity::find().filter(Column::RunnerId.eq(runner_id)).filter(active).all(db).await?)
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
        overlap_ends_at: Set(None),
        sealed: Set(sealed),
        sealed_key_id: Set(sealed_key_id),
        promoted_at: Set(None),
        superseded_at: Set(None),
    };
    Ok(row.insert(tx).await?)
}

/// The number after the greatest of these.
pub fn next_generation<'a>(tokens: impl IntoIterator<Item = &'a runner_token::Model>) -> Result<i32> {
    let greatest = tokens.into_iter().map(|token| token.generation).max().unwrap_or(0);
    greatest.checked_add(1).ok_or_else(|| Error::internal("a runner has no generation left"))
}

/// Makes the successor the runner's token, supersedes the one before, and erases the sealed text.
pub async fn promote(
    tx: &DatabaseTransaction,
    successor: runner_token::Model,
    now: OffsetDateTime,
) -> Result<runner_token::Model> {
    // The index allows one current token, so the old one goes first.
    supersede(tx, successor.runner_id, now).await?;
    let mut row = successor.into_active_model();
    row.state = Set(TokenState::Current);
    row.promoted_at = Set(Some(millis(now)));
    row.sealed = Set(None);
    row.sealed_key_id = Set(None);
    Ok(row.update(tx).await?)
}

/// Supersedes the current token of a runner.
pub async fn supersede(tx: &DatabaseTransaction, runner_id: i64, now: OffsetDateTime) -> Result<()> {
    end_tokens(tx, TokenState::Current, TokenState::Superseded, runner_id, now).await
}

/// Supersedes the unused successor of a runner, so that another one can replace it.
pub async fn discard_successor(tx: &DatabaseTransaction, runner_id: i64, now: OffsetDateTime) -> Result<()> {
    end_tokens(tx, TokenState::Successor, TokenState::Superseded, runner_id, now).await
}

/// Revokes every token of a runner that can authenticate.
pub async fn revoke(tx: &DatabaseTransaction, runner_id: i64, now: OffsetDateTime) -> Result<()> {
    for state in ACTIVE {
        end_tokens(tx, state, TokenState::Revoked, runner_id, now).await?;
    }
    Ok(())
}

/// Sets the end of the overlap of a rotated token.
pub async fn set_overlap(tx: &DatabaseTransaction, token_id: i64, ends_at: OffsetDateTime) -> Result<()> {
    runner_token::Entity::update_many()
        .col_expr(Column::OverlapEndsAt, Expr::value(millis(ends_at)))
        .filter(Column::Id.eq(token_id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Moves the tokens of a runner from one state to another, and deletes what is sealed in them.
async fn end_tokens(
    tx: &DatabaseTransaction,
    from: TokenState,
    to: TokenState,
    runner_id: i64,
    now: OffsetDateTime,
) -> Result<()> {
    runner_token::Entity::update_many()
        .col_expr(Column::State, Expr::value(to))
        .col_expr(Column::SupersededAt, Expr::value(millis(now)))
        .col_expr(Column::Sealed, Expr::value(None::<Vec<u8>>))
        .col_expr(Column::SealedKeyId, Expr::value(None::<String>))
        .filter(Column::RunnerId.eq(runner_id))
        .filter(Column::State.eq(from))
        .exec(tx)
        .await?;
    Ok(())
}

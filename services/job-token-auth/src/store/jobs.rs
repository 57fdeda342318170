//! Jobs. One goes from created to running to finished, and never back.

use chassis::db::paging::{Paged, Window};
use proto::paddock::job_token::v1::JobStatus;
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, ExprTrait as _, QueryFilter as _, QueryOrder as _,
    UpdateMany,
    sea_query::Expr,
};
use time::OffsetDateTime;

use proto::timestamp::millis;

use crate::{
    entity::job::{ActiveModel, Column, Entity, Model},
    error::Result,
};

/// A job to record; its texts are checked.
#[derive(Debug)]
pub struct New {
    /// See the column.
    pub project_id: i64,
    /// See the column.
    pub user_id: i64,
    /// Created or running.
    pub status: JobStatus,
    /// See the column.
    pub name: Option<String>,
    /// See the column.
    pub stage: Option<String>,
    /// See the column.
    pub r#ref: Option<String>,
    /// See the column.
    pub token_expires_at: OffsetDateTime,
}

/// Which jobs to list.
#[derive(Debug, Default)]
pub struct Filter {
    /// Only jobs that stand here.
    pub status: Option<JobStatus>,
    /// Only jobs of this project.
    pub project_id: Option<i64>,
}

/// Records a job.
pub async fn insert(db: &impl ConnectionTrait, new: New, now: OffsetDateTime) -> Result<Model> {
    let now = millis(now);
    let row = ActiveModel {
        id: NotSet,
        project_id: Set(new.project_id),
        user_id: Set(new.user_id),
        status: Set(number(new.status)),
        name: Set(new.name),
        stage: Set(new.stage),
        r#ref: Set(new.r#ref),
        created_at: Set(now),
        started_at: Set((new.status == JobStatus::Running).then_some(now)),
        finished_at: Set(None),
        token_expires_at: Set(millis(new.token_expires_at)),
    };
    Ok(row.insert(db).await?)
}

/// The job with the id.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>> {
    Ok(Entity::find_by_id(id).one(db).await?)
}

/// A page of jobs, the newest first.
pub async fn list(db: &impl ConnectionTrait, filter: &Filter, window: Window) -> Result<Paged<Model>> {
    let condition = Condition::all()
        .add_option(filter.status.map(|status| Column::Status.eq(number(status))))
        .add_option(filter.project_id.map(|id| Column::ProjectId.eq(id)));
    Ok(window.fetch(Entity::find().filter(condition).order_by_desc(Column::Id), db).await?)
}

/// Lets a created job run, for as long as it might have from its creation; any other stays as it is.
pub async fn start(db: &impl ConnectionTrait, id: i64, now: OffsetDateTime) -> Result<()> {
    let lifetime = Expr::col(Column::TokenExpiresAt).sub(Expr::col(Column::CreatedAt));
    advance(id, JobStatus::Running, Column::StartedAt, now)
        .col_expr(Column::TokenExpiresAt, lifetime.add(millis(now)))
        .filter(Column::Status.eq(number(JobStatus::Created)))
        .exec(db)
        .await?;
    Ok(())
}

/// Ends a job that has not ended; any other stays as it is.
pub async fn finish(db: &impl ConnectionTrait, id: i64, now: OffsetDateTime) -> Result<()> {
    let update = advance(id, JobStatus::Finished, Column::FinishedAt, now);
    update.filter(Column::Status.ne(number(JobStatus::Finished))).exec(db).await?;
    Ok(())
}

fn advance(id: i64, to: JobStatus, at: Column, now: OffsetDateTime) -> UpdateMany<Entity> {
    let update = Entity::update_many().col_expr(Column::Status, Expr::value(number(to)));
    update.col_expr(at, Expr::value(millis(now))).filter(Column::Id.eq(id))
}

/// The number of a status in the contract.
fn number(status: JobStatus) -> i16 {
    status as i16
}

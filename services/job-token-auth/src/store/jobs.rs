//! The table of jobs. A job goes from created to running to finished, and never back.

use chassis::db::paging::{Paged, Window};
use proto::{paddock::job_token::v1::JobStatus, timestamp::millis};
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait as _, ExprTrait as _,
    QueryFilter as _, QueryOrder as _, UpdateMany,
    sea_query::Expr,
};
use time::OffsetDateTime;

use crate::{
    entity::job::{ActiveModel, Column, Entity, Model},
    error::Result,
};

/// A job to insert. The caller has validated its texts.
#[derive(Debug)]
pub struct NewJob {
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
pub struct JobFilter {
    /// Only jobs with this status.
    pub status: Option<JobStatus>,
    /// Only jobs of this project.
    pub project_id: Option<i64>,
}

/// Inserts a job.
pub async fn insert(tx: &DatabaseTransaction, new: NewJob, now: OffsetDateTime) -> Result<Model> {
    let now = millis(now);
    let row = ActiveModel {
        id: NotSet,
        project_id: Set(new.project_id),
        user_id: Set(new.user_id),
        status: Set(status_number(new.status)),
        name: Set(new.name),
        stage: Set(new.stage),
        r#ref: Set(new.r#ref),
        created_at: Set(now),
        started_at: Set((new.status == JobStatus::Running).then_some(now)),
        finished_at: Set(None),
        token_expires_at: Set(millis(new.token_expires_at)),
    };
    Ok(row.insert(tx).await?)
}

/// Finds the job with the id.
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<Option<Model>> {
    Ok(Entity::find_by_id(id).one(db).await?)
}

/// Lists a page of jobs, the newest first.
pub async fn list(db: &impl ConnectionTrait, filter: &JobFilter, window: Window) -> Result<Paged<Model>> {
    let condition = Condition::all()
        .add_option(filter.status.map(|status| Column::Status.eq(status_number(status))))
        .add_option(filter.project_id.map(|id| Column::ProjectId.eq(id)));
    Ok(window.fetch(Entity::find().filter(condition).order_by_desc(Column::Id), db).await?)
}

/// Starts a created job. Its token then expires as long after the start as it would have after the creation. Any other job stays as
/// it is.
pub async fn start(db: &impl ConnectionTrait, id: i64, now: OffsetDateTime) -> Result<()> {
    let lifetime = Expr::col(Column::TokenExpiresAt).sub(Expr::col(Column::CreatedAt));
    update_status(id, JobStatus::Running, Column::StartedAt, now)
        .col_expr(Column::TokenExpiresAt, lifetime.add(millis(now)))
        .filter(Column::Status.eq(status_number(JobStatus::Created)))
        .exec(db)
        .await?;
    Ok(())
}

/// Finishes a job that has not finished. Any other job stays as it is.
pub async fn finish(db: &impl ConnectionTrait, id: i64, now: OffsetDateTime) -> Result<()> {
    let update = update_status(id, JobStatus::Finished, Column::FinishedAt, now);
    update.filter(Column::Status.ne(status_number(JobStatus::Finished))).exec(db).await?;
    Ok(())
}

fn update_status(id: i64, status: JobStatus, time_column: Column, now: OffsetDateTime) -> UpdateMany<Entity> {
    let update = Entity::update_many().col_expr(Column::Status, Expr::value(status_number(status)));
    update.col_expr(time_column, Expr::value(millis(now))).filter(Column::Id.eq(id))
}

/// Returns the number of a status in the contract.
fn status_number(status: JobStatus) -> i16 {
    status as i16
}

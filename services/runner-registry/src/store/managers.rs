//! The runner programs that use a runner's token, and when they were last seen.

use proto::timestamp::millis;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, NotSet, QueryFilter as _,
    QueryOrder as _, Set,
    sea_query::{Expr, OnConflict},
};
use time::OffsetDateTime;

use crate::{
    entity::{
        runner,
        runner_manager::{self, Column},
    },
    error::{Error, Result},
};

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

/// Records a manager of a runner, new or known. What it does not report stays as it was.
pub async fn record(
    tx: &DatabaseTransaction,
    runner_id: i64,
    system_id: &str,
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
    let update = OnConflict::columns([Column::RunnerId, Column::SystemId]).update_columns(known).to_owned();
    runner_manager::Entity::insert(row).on_conflict(update).exec_without_returning(tx).await?;
    Ok(())
}

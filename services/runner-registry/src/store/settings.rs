//! The settings of the instance: one row.

use sea_orm::{ActiveModelTrait as _, ConnectionTrait, DatabaseConnection, EntityTrait as _, IntoActiveModel as _};

use super::set_if_given;
use crate::{
    entity::application_settings::{self, Entity, Model},
    error::{Error, Result},
};

/// The settings to change, each with its new value.
#[derive(Debug, Default)]
pub struct Changes {
    /// See the column.
    pub runner_token_expiration_interval: Option<Option<i64>>,
    /// See the column.
    pub group_runner_token_expiration_interval: Option<Option<i64>>,
    /// See the column.
    pub project_runner_token_expiration_interval: Option<Option<i64>>,
}

/// The settings.
pub async fn get(db: &impl ConnectionTrait) -> Result<Model> {
    let row = Entity::find_by_id(application_settings::ID).one(db).await?;
    row.ok_or_else(|| Error::internal("the settings have no row"))
}

/// Changes the settings.
pub async fn update(database: &DatabaseConnection, changes: Changes) -> Result<Model> {
    let tx = super::begin(database).await?;
    let mut row = get(&tx).await?.into_active_model();
    set_if_given(&mut row.runner_token_expiration_interval, changes.runner_token_expiration_interval);
    set_if_given(&mut row.group_runner_token_expiration_interval, changes.group_runner_token_expiration_interval);
    set_if_given(&mut row.project_runner_token_expiration_interval, changes.project_runner_token_expiration_interval);
    let row = row.update(&tx).await?;
    tx.commit().await?;
    Ok(row)
}

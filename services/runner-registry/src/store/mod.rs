//! Every query of the service. The callers check permissions; `entity` describes the rows.

use sea_orm::{ActiveValue, DatabaseConnection, DatabaseTransaction, Value};

use crate::error::Result;

pub mod access_tokens;
pub mod groups;
pub mod intervals;
pub mod json;
pub mod lookups;
pub mod managers;
pub mod members;
pub mod projects;
pub mod removed_tokens;
pub mod roles;
pub mod routes;
pub mod runner_lists;
pub mod runner_token_events;
pub mod runner_tokens;
pub mod runners;
pub mod search;
pub mod settings;
pub mod users;

/// Begins a transaction that writes.
pub async fn begin(database: &DatabaseConnection) -> Result<DatabaseTransaction> {
    Ok(chassis::db::begin_write(database).await?)
}

/// Gives a column its new value, if there is one.
fn set_if_given<T: Into<Value>>(column: &mut ActiveValue<T>, to: Option<T>) {
    if let Some(value) = to {
        *column = ActiveValue::Set(value);
    }
}

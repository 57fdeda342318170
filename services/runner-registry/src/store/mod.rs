//! Every query of the service. What callers may see or do is decided above, what a row looks like below, in `entity`.

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::error::Result;

pub mod json;
pub mod managers;
pub mod paging;
pub mod runners;
pub mod times;
pub mod tokens;

/// Begins a transaction that writes.
pub async fn begin(database: &DatabaseConnection) -> Result<DatabaseTransaction> {
    Ok(chassis::db::begin_write(database).await?)
}

//! Many rows as one parameter: the statement stays the same whatever their number, so the database prepares it once, and
//! no limit on parameters is met.

use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, Statement, Value};
use serde::Serialize;

/// A statement whose parameters are `$1`, `$2`, … on both databases.
pub fn statement<const N: usize>(db: &impl ConnectionTrait, sql: impl Into<String>, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(db.get_database_backend(), sql, values)
}

/// The rows as the parameter that [`source`] unfolds.
pub fn parameter<T: Serialize>(rows: &[T]) -> Result<Value, DbErr> {
    serde_json::to_string(rows).map(Value::from).map_err(|error| DbErr::Custom(error.to_string()))
}

/// The table `given` that `$1` unfolds to. A column is its name, which is also that of the field, and its Postgres type.
pub fn source(backend: DatabaseBackend, columns: &[(&str, &str)]) -> String {
    let list = |column: fn(&(&str, &str)) -> String| columns.iter().map(column).collect::<Vec<_>>().join(", ");
    match backend {
        DatabaseBackend::Sqlite => {
            let columns = list(|(name, _)| format!("value ->> '{name}' AS {name}"));
            format!("(SELECT {columns} FROM json_each($1)) AS given")
        }
        _ => format!("json_to_recordset($1::json) AS given({})", list(|(name, kind)| format!("{name} {kind}"))),
    }
}

/// The names of the columns, separated by commas.
pub fn names(columns: &[(&str, &str)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

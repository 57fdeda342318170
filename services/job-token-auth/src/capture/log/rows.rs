//! Passes many rows as one parameter: the statement is the same for any number of rows, so the database prepares it once, and
//! the limit on parameters does not matter.

use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, Statement, Value};
use serde::Serialize;

/// Maximum number of rows of one statement: enough to make its round trip cheap, few enough to keep its text small.
pub const ROWS_PER_STATEMENT: usize = 4096;

/// Returns a statement whose parameters are `$1`, `$2`, … on both databases.
pub fn statement<const N: usize>(db: &impl ConnectionTrait, sql: impl Into<String>, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(db.get_database_backend(), sql, values)
}

/// Encodes the rows as the parameter that [`source`] or [`text_list`] reads.
pub fn parameter<T: Serialize>(rows: &[T]) -> Result<Value, DbErr> {
    serde_json::to_string(rows).map(Value::from).map_err(|error| DbErr::Custom(error.to_string()))
}

/// Returns the SQL of the table `given` that `$1` holds. A column is its name, which is also the name of the field, and its
/// Postgres type.
pub fn source(backend: DatabaseBackend, columns: &[(&str, &str)]) -> String {
    let mut list = Vec::with_capacity(columns.len());
    match backend {
        DatabaseBackend::Sqlite => {
            for (name, _) in columns {
                list.push(format!("value ->> '{name}' AS {name}"));
            }
            format!("(SELECT {} FROM json_each($1)) AS given", list.join(", "))
        }
        _ => {
            for (name, kind) in columns {
                list.push(format!("{name} {kind}"));
            }
            format!("json_to_recordset($1::json) AS given({})", list.join(", "))
        }
    }
}

/// Returns the SQL of a query whose rows are the texts that `$1` holds.
pub fn text_list(backend: DatabaseBackend) -> &'static str {
    match backend {
        DatabaseBackend::Sqlite => "SELECT value FROM json_each($1)",
        _ => "SELECT json_array_elements_text($1::json)",
    }
}

/// Returns the names of the columns, separated by commas.
pub fn names(columns: &[(&str, &str)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

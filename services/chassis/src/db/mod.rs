//! The database of a service: Postgres, or a SQLite file, by the same code.

pub mod columns;
pub mod error;
pub mod paging;

use std::{path::PathBuf, time::Duration};

use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseBackend, DatabaseTransaction, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};
use sea_orm_migration::MigratorTrait;
use serde::Deserialize;

use crate::secrets::SecretBytes;

pub use sea_orm::DatabaseConnection;

/// How long a statement waits for another writer of the SQLite file. It is shorter than the deadline of a call between
/// processes, so that the caller gets the reason and not a timeout.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long [`close`] waits for connections that are in use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Session settings on PostgreSQL. A transaction waits for nothing but the database, so one that is idle for seconds belongs to a
/// process that hangs. The keepalive settings find a lost machine in less than a minute.
const POSTGRES_OPTIONS: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30s"),
];

/// Which database a service uses.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

/// The address of a database.
#[derive(Clone, Debug)]
pub enum DatabaseLocation {
    /// A file. It is created if it is missing.
    Sqlite(PathBuf),
    /// A server. The connection URL holds its password.
    Postgres(SecretBytes),
}

/// Opens a pool of connections.
///
/// # Errors
/// If the database cannot be reached or opened.
pub async fn connect(location: &DatabaseLocation, max_connections: u32) -> Result<DatabaseConnection, DbErr> {
    let mut options = match location {
        DatabaseLocation::Sqlite(path) => sqlite_options(path)?,
        DatabaseLocation::Postgres(url) => {
            let url = std::str::from_utf8(url.expose()).map_err(|error| DbErr::Custom(error.to_string()))?;
            postgres_options(url)
        }
    };
    options.max_connections(max_connections).acquire_timeout(ACQUIRE_TIMEOUT).sqlx_logging(false);
    Database::connect(options).await
}

/// A process that hangs or is cut off must not hold its locks for ever: the server ends its transactions.
fn postgres_options(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.to_owned());
    options.map_sqlx_postgres_opts(|options| options.options(POSTGRES_OPTIONS));
    options
}

/// Durable and concurrent: readers do not wait for the writer, and a commit is on disk before it returns.
fn sqlite_options(path: &std::path::Path) -> Result<ConnectOptions, DbErr> {
    let path = path.to_str().ok_or_else(|| DbErr::Custom(format!("{} is not UTF-8", path.display())))?;
    let mut options = ConnectOptions::new(format!("sqlite://{path}?mode=rwc"));
    options.map_sqlx_sqlite_opts(|options| {
        options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(SQLITE_BUSY_TIMEOUT)
            .foreign_keys(true)
    });
    Ok(options)
}

/// Closes the pool and all its clones. SQLite then moves the write-ahead log into the database file, so that the file alone is a
/// complete copy. Call it when nothing uses the database any more.
pub async fn close(database: &DatabaseConnection) {
    match tokio::time::timeout(CLOSE_TIMEOUT, database.close_by_ref()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the database was not closed"),
        Err(_) => tracing::warn!("the database was not closed: some of its connections are still in use"),
    }
}

/// Begins a transaction that writes. On SQLite it takes the write lock at once. A transaction that reads first and writes later
/// would fail, and not wait, if another one wrote in between.
///
/// Every statement that returns what it wrote needs such a transaction. Outside of one, SQLite returns the row before it commits, and
/// the driver stops reading at the row, so that a failed commit (the disk is full) would go unnoticed. Store functions that insert
/// and return a row therefore take a [`DatabaseTransaction`], not any connection.
///
/// # Errors
/// If no connection, or no write lock, is free in time.
pub async fn begin_write(database: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let sqlite = database.get_database_backend() == DatabaseBackend::Sqlite;
    database
        .begin_with_options(TransactionOptions {
            isolation_level: None,
            access_mode: None,
            sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
        })
        .await
}

/// The key of the advisory lock that a process holds while it changes the schema.
const MIGRATION_LOCK: i64 = 0x0070_6164_646f_636b;

/// Brings the schema up to date. Processes that start at the same time run one after another.
///
/// # Errors
/// Those of the database.
pub async fn migrate<M: MigratorTrait>(database: &DatabaseConnection) -> Result<(), DbErr> {
    let tx = begin_write(database).await?;
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
    }
    M::up(&tx, None).await?;
    tx.commit().await
}

//! Access to the databases: fresh ones on PostgreSQL, and statements for states that need the passage of time.

use std::path::PathBuf;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, sqlite::SqliteConnectOptions};
use system::{Database, Paddock, Registry};

use crate::fixtures::unique;

/// The database of a runner-registry.
pub enum Records {
    /// A file.
    Sqlite(PathBuf),
    /// The URL of a database on a PostgreSQL server.
    Postgres(String),
}

impl Records {
    /// Those of `paddock serve`.
    pub fn of_paddock(paddock: &Paddock) -> Self {
        Self::Sqlite(paddock.data().join("runner-registry.sqlite"))
    }

    /// Those of a registry that was started with this database.
    pub fn of_registry(registry: &Registry, database: &Database) -> Self {
        match database {
            Database::Sqlite => Self::Sqlite(registry.database_file()),
            Database::Postgres { registry, .. } => Self::Postgres(registry.clone()),
        }
    }

    /// Runs a statement that must change something.
    pub async fn run(&self, statement: &str) {
        let query = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        let changed = match self {
            Self::Sqlite(file) => {
                let mut connection =
                    SqliteConnectOptions::new().filename(file).connect().await.expect("the database opens");
                let done = query.execute(&mut connection).await.expect(statement);
                connection.close().await.expect("the database closes");
                done.rows_affected()
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.expect("the server answers");
                let done = query.execute(&mut connection).await.expect(statement);
                connection.close().await.expect("the connection closes");
                done.rows_affected()
            }
        };
        assert!(changed > 0, "nothing changed: {statement}");
    }
}

/// Runs a statement on the records of `paddock serve`. It must change something.
pub async fn run(paddock: &Paddock, statement: &'static str) {
    Records::of_paddock(paddock).run(statement).await;
}

/// Creates databases on the PostgreSQL server. Prints a note and returns none if there is no server.
pub async fn on_postgres() -> Option<Database> {
    let server = system::postgres()?;
    let mut connection = PgConnection::connect(&server).await.expect("the server answers");
    let (address, _) = server.rsplit_once('/').expect("a URL with a database");
    let mut urls = Vec::new();
    for _ in 0..2 {
        let name = unique(&format!("system_{}", std::process::id())).replace('-', "_");
        let statement = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(statement).execute(&mut connection).await.expect("the database is made");
        urls.push(format!("{address}/{name}"));
    }
    connection.close().await.expect("the connection closes");
    let job_token_auth = urls.pop().expect("two");
    Some(Database::Postgres { registry: urls.pop().expect("two"), job_token_auth })
}

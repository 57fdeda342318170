//! Access to the databases: fresh ones on PostgreSQL, and statements on the embedded one for states that need the passage of
//! time.

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, sqlite::SqliteConnectOptions};
use system::{Database, Paddock};

use crate::fixtures::unique;

/// Runs a statement that must change something.
pub async fn run(paddock: &Paddock, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(paddock.data().join("runner-registry.sqlite"));
    let mut connection = options.connect().await.expect("the database opens");
    let done = sqlx::query(statement).execute(&mut connection).await.expect(statement);
    assert!(done.rows_affected() > 0, "nothing changed: {statement}");
    connection.close().await.expect("the database closes");
}

/// Creates databases on the PostgreSQL server. Prints a note and returns none if there is no server.
pub async fn on_postgres() -> Option<Database> {
    let server = system::postgres()?;
    let mut connection = PgConnection::connect(&server).await.expect("the server answers");
    let (address, _) = server.rsplit_once('/').expect("a URL with a database");
    let mut urls = Vec::new();
    for _ in 0..2 {
        let name = unique(&format!("system_{}", std::process::id())).replace('-', "_");
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(statement).execute(&mut connection).await.expect("the database is made");
        urls.push(format!("{address}/{name}"));
    }
    connection.close().await.expect("the connection closes");
    let job_token_auth = urls.pop().expect("two");
    Some(Database::Postgres { registry: urls.pop().expect("two"), job_token_auth })
}

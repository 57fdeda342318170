//! What a failed statement means. One classification covers both databases, and one table leads from it to the reasons of the
//! contract, so that every route answers the same error in the same way.

use proto::paddock::contract::v1::Reason;
use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, error::ErrorKind, postgres::PgDatabaseError, sqlite::SqliteError},
};

use crate::status::{Fault, Refusal, Rejection};

/// The class of a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseFailure {
    /// Another transaction held a lock for longer than the statement may wait.
    Locked,
    /// The database cannot be reached, is stopping or starting, or ended the connection.
    Unavailable,
    /// No connection was free: the pool is in use, or the server accepts no more connections.
    ConnectionLimit,
    /// The disk of the database is full, or another resource of its server is used up.
    OutOfResources,
    /// The database rolled back one of two transactions that changed the same rows. Sending the request again helps.
    Conflict,
    /// A row with the same unique value exists.
    UniqueViolation,
    /// The row that a reference needs does not exist.
    ForeignKeyViolation,
    /// Any other error. It is a mistake in this program.
    Other,
}

impl DatabaseFailure {
    /// Classifies an error.
    #[must_use]
    pub fn of(error: &DbErr) -> Self {
        match error {
            DbErr::ConnectionAcquire(_) => Self::ConnectionLimit,
            DbErr::Conn(RuntimeErr::SqlxError(error)) => match Self::of_driver(error) {
                // Without a connection no statement of this program can have been wrong.
                Self::Other => Self::Unavailable,
                known => known,
            },
            DbErr::Conn(_) => Self::Unavailable,
            DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
                Self::of_driver(error)
            }
            _ => Self::Other,
        }
    }

    /// Returns the reason that a caller gets.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Locked | Self::Unavailable | Self::ConnectionLimit | Self::OutOfResources => Reason::Unavailable,
            Self::Conflict => Reason::Conflict,
            Self::UniqueViolation | Self::ForeignKeyViolation | Self::Other => Reason::Internal,
        }
    }

    fn of_driver(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolClosed => Self::Unavailable,
            sqlx::Error::PoolTimedOut => Self::ConnectionLimit,
            sqlx::Error::Database(error) => Self::of_database(error.as_ref()),
            _ => Self::Other,
        }
    }

    fn of_database(error: &(dyn sqlx::error::DatabaseError + 'static)) -> Self {
        match error.kind() {
            ErrorKind::UniqueViolation => return Self::UniqueViolation,
            ErrorKind::ForeignKeyViolation => return Self::ForeignKeyViolation,
            _ => {}
        }
        let code = error.code().unwrap_or_default();
        if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            Self::of_postgres(&code)
        } else if error.try_downcast_ref::<SqliteError>().is_some() {
            code.parse().map_or(Self::Other, Self::of_sqlite)
        } else {
            Self::Other
        }
    }

    /// Classifies a code of PostgreSQL. Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    fn of_postgres(code: &str) -> Self {
        match code {
            // lock_not_available
            "55P03" => Self::Locked,
            // too_many_connections
            "53300" => Self::ConnectionLimit,
            // serialization_failure, deadlock_detected
            "40001" | "40P01" => Self::Conflict,
            // idle_in_transaction_session_timeout, transaction_timeout, idle_session_timeout: the server closed the connection.
            "25P03" | "25P04" | "57P05" => Self::Unavailable,
            // The class of insufficient resources: disk_full, out_of_memory.
            _ if code.starts_with("53") => Self::OutOfResources,
            // The class of connection exceptions; admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped.
            _ if code.starts_with("08") || code.starts_with("57P0") => Self::Unavailable,
            _ => Self::Other,
        }
    }

    /// Classifies an extended result code of SQLite. Source: <https://www.sqlite.org/rescode.html>
    fn of_sqlite(code: u32) -> Self {
        const SQLITE_BUSY: u32 = 5;
        const SQLITE_LOCKED: u32 = 6;
        const SQLITE_FULL: u32 = 13;
        const SQLITE_IOERR_SHMSIZE: u32 = 4874;
        const PRIMARY_CODE: u32 = 0xff;
        // The shared memory of the write-ahead log is a file; it cannot grow on a full disk.
        if code == SQLITE_IOERR_SHMSIZE {
            return Self::OutOfResources;
        }
        match code & PRIMARY_CODE {
            SQLITE_BUSY | SQLITE_LOCKED => Self::Locked,
            SQLITE_FULL => Self::OutOfResources,
            _ => Self::Other,
        }
    }
}

impl From<DbErr> for Rejection {
    fn from(error: DbErr) -> Self {
        let reason = DatabaseFailure::of(&error).reason();
        match reason {
            Reason::Conflict => Refusal::new(reason).with_detail(error.to_string()).into(),
            _ => Fault::of(reason, error).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::error::ConnAcquireErr;

    fn query(error: sqlx::Error) -> DbErr {
        DbErr::Query(RuntimeErr::SqlxError(error.into()))
    }

    fn io_error() -> sqlx::Error {
        sqlx::Error::Io(std::io::Error::other("gone"))
    }

    #[test]
    fn an_unreachable_database_differs_from_a_failing_one() {
        let cases = [
            (DbErr::ConnectionAcquire(ConnAcquireErr::Timeout), DatabaseFailure::ConnectionLimit),
            (DbErr::Conn(RuntimeErr::Internal("refused".to_owned())), DatabaseFailure::Unavailable),
            (DbErr::Conn(RuntimeErr::SqlxError(io_error().into())), DatabaseFailure::Unavailable),
            (DbErr::Conn(RuntimeErr::SqlxError(sqlx::Error::RowNotFound.into())), DatabaseFailure::Unavailable),
            (query(io_error()), DatabaseFailure::Unavailable),
            (query(sqlx::Error::PoolClosed), DatabaseFailure::Unavailable),
            (query(sqlx::Error::PoolTimedOut), DatabaseFailure::ConnectionLimit),
            (query(sqlx::Error::RowNotFound), DatabaseFailure::Other),
            (DbErr::Exec(RuntimeErr::Internal("gone".to_owned())), DatabaseFailure::Other),
            (DbErr::Custom("gone".to_owned()), DatabaseFailure::Other),
        ];
        for (error, expected) in cases {
            assert_eq!(DatabaseFailure::of(&error), expected, "{error}");
        }
    }

    #[test]
    fn codes_of_postgres_are_known() {
        let cases = [
            ("08006", DatabaseFailure::Unavailable),
            ("25P03", DatabaseFailure::Unavailable),
            ("57P01", DatabaseFailure::Unavailable),
            ("57P03", DatabaseFailure::Unavailable),
            ("57P05", DatabaseFailure::Unavailable),
            ("53300", DatabaseFailure::ConnectionLimit),
            ("53100", DatabaseFailure::OutOfResources),
            ("53200", DatabaseFailure::OutOfResources),
            ("55P03", DatabaseFailure::Locked),
            ("40001", DatabaseFailure::Conflict),
            ("40P01", DatabaseFailure::Conflict),
            ("42P01", DatabaseFailure::Other),
            ("25P02", DatabaseFailure::Other),
            ("57014", DatabaseFailure::Other),
            ("5", DatabaseFailure::Other),
            ("", DatabaseFailure::Other),
        ];
        for (code, expected) in cases {
            assert_eq!(DatabaseFailure::of_postgres(code), expected, "{code}");
        }
    }

    #[test]
    fn codes_of_sqlite_are_known() {
        let cases = [
            // SQLITE_BUSY, SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT, SQLITE_LOCKED_SHAREDCACHE
            (5, DatabaseFailure::Locked),
            (261, DatabaseFailure::Locked),
            (517, DatabaseFailure::Locked),
            (262, DatabaseFailure::Locked),
            // SQLITE_FULL, SQLITE_IOERR_SHMSIZE
            (13, DatabaseFailure::OutOfResources),
            (4874, DatabaseFailure::OutOfResources),
            // SQLITE_ERROR, SQLITE_IOERR_READ, SQLITE_CORRUPT, SQLITE_CONSTRAINT_CHECK
            (1, DatabaseFailure::Other),
            (266, DatabaseFailure::Other),
            (11, DatabaseFailure::Other),
            (275, DatabaseFailure::Other),
        ];
        for (code, expected) in cases {
            assert_eq!(DatabaseFailure::of_sqlite(code), expected, "{code}");
        }
    }

    #[test]
    fn a_conflict_is_a_refusal_and_everything_else_a_fault() {
        let failures = [
            (DatabaseFailure::Locked, Reason::Unavailable),
            (DatabaseFailure::Unavailable, Reason::Unavailable),
            (DatabaseFailure::ConnectionLimit, Reason::Unavailable),
            (DatabaseFailure::OutOfResources, Reason::Unavailable),
            (DatabaseFailure::Conflict, Reason::Conflict),
            (DatabaseFailure::UniqueViolation, Reason::Internal),
            (DatabaseFailure::ForeignKeyViolation, Reason::Internal),
            (DatabaseFailure::Other, Reason::Internal),
        ];
        for (failure, reason) in failures {
            assert_eq!(failure.reason(), reason, "{failure:?}");
        }
    }
}

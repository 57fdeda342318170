//! The throw-away PostgreSQL that `scripts/with-postgres` starts beside the tests.

use crate::skipped;

/// The URL of the server; its user may create databases. None, after saying so, when there is none.
#[must_use]
pub fn postgres() -> Option<String> {
    let url = std::env::var("PADDOCK_TEST_POSTGRES").ok();
    if url.is_none() {
        skipped("the tests on PostgreSQL: no server; `make test` starts one where it is installed");
    }
    url
}

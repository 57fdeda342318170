//! The log of accesses, and what keeps count of the captures on their way to it.

use chassis::db::columns::{self, index, table, unique};
use sea_orm_migration::{prelude::*, schema::*};

/// The length of a UUID in text.
const UUID: u32 = 36;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = vec![
            events_table("access_events").col(small_integer("status")).to_owned(),
            access_pairs_table(),
            access_pair_policies_table(),
            events_table("unresolved_captures").to_owned(),
            pending_captures_table(),
            capture_ranges_table(),
            capture_gaps_table(),
            capture_producers_table(),
        ];
        let indexes = vec![
            index("access_events", &["target_project_id", "accessed_at", "id"]),
            index("access_events", &["origin_project_id", "accessed_at", "id"]),
            index("access_pairs", &["target_project_id", "last_authorized_at"]),
            index("access_pairs", &["origin_project_id", "last_authorized_at"]),
            index("unresolved_captures", &["target_project_id", "accessed_at", "id"]),
            index("unresolved_captures", &["origin_project_id", "accessed_at", "id"]),
            index("pending_captures", &["deadline"]),
            unique("capture_gaps", &["producer", "partition", "first"]),
        ];
        columns::create(manager, tables, indexes).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            "capture_producers",
            "capture_gaps",
            "capture_ranges",
            "pending_captures",
            "unresolved_captures",
            "access_pair_policies",
            "access_pairs",
            "access_events",
        ];
        columns::drop(manager, &tables).await
    }
}

/// One row for each target of a request; the id is that of the capture. `policies` are names separated by commas.
fn events_table(name: &'static str) -> TableCreateStatement {
    Table::create()
        .table(name)
        .col(string_len("id", UUID))
        .col(big_integer("target_project_id"))
        .col(big_integer("origin_project_id"))
        .col(big_integer("job_id"))
        .col(big_integer("user_id"))
        .col(text("route"))
        .col(text("policies"))
        .col(small_integer("mode"))
        .col(big_integer("accessed_at"))
        .col(text("request_id"))
        .col(text("remote_ip"))
        .primary_key(Index::create().col("id").col("target_project_id"))
        .to_owned()
}

/// The view: all accesses of one project to another.
fn access_pairs_table() -> TableCreateStatement {
    Table::create()
        .table("access_pairs")
        .col(big_integer("target_project_id"))
        .col(big_integer("origin_project_id"))
        .col(big_integer("first_authorized_at"))
        .col(big_integer("last_authorized_at"))
        .col(big_integer("access_count"))
        .col(big_integer("last_job_id"))
        .col(big_integer("last_user_id"))
        .primary_key(Index::create().col("target_project_id").col("origin_project_id"))
        .to_owned()
}

/// When each policy was last used by a pair. `policy` is its number in the contract.
fn access_pair_policies_table() -> TableCreateStatement {
    Table::create()
        .table("access_pair_policies")
        .col(big_integer("target_project_id"))
        .col(big_integer("origin_project_id"))
        .col(integer("policy"))
        .col(big_integer("last_authorized_at"))
        .primary_key(Index::create().col("target_project_id").col("origin_project_id").col("policy"))
        .to_owned()
}

/// Captures without a verdict, when the database holds them. `capture` is the encoded message.
fn pending_captures_table() -> TableCreateStatement {
    Table::create()
        .table("pending_captures")
        .col(string_len("id", UUID).primary_key())
        .col(big_integer("deadline"))
        .col(blob("capture"))
        .to_owned()
}

/// The numbers of each producer that have arrived, as ranges without a hole; a second range shows a hole before it.
fn capture_ranges_table() -> TableCreateStatement {
    Table::create()
        .table("capture_ranges")
        .col(string_len("producer", UUID))
        .col(integer("partition"))
        .col(big_integer("first"))
        .col(big_integer("last"))
        .primary_key(Index::create().col("producer").col("partition").col("first"))
        .to_owned()
}

/// Numbers that were acknowledged to their producer and never arrived: lost records.
fn capture_gaps_table() -> TableCreateStatement {
    table("capture_gaps")
        .col(string_len("producer", UUID))
        .col(integer("partition"))
        .col(big_integer("first"))
        .col(big_integer("last"))
        .col(big_integer("detected_at"))
        .to_owned()
}

/// The highest number that each producer was acknowledged, written now and then: it shows what was lost when a producer
/// and its Redis end together.
fn capture_producers_table() -> TableCreateStatement {
    Table::create()
        .table("capture_producers")
        .col(string_len("producer", UUID))
        .col(integer("partition"))
        .col(big_integer("acknowledged"))
        .col(big_integer("updated_at"))
        .primary_key(Index::create().col("producer").col("partition"))
        .to_owned()
}

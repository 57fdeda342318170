//! The scope of each project and its two allowlists. The tables of the allowlists differ in the name of one column only, so both
//! share one set of queries.

use std::collections::HashMap;

use chassis::{db, status::Refusal};
use proto::{paddock::contract::v1::Reason, timestamp::millis};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, ExprTrait as _, QueryResult,
    sea_query::{Alias, Expr, LockType, OnConflict, Query, SelectStatement},
};
use time::OffsetDateTime;

use crate::{
    allowlist::{
        policy,
        rules::{Grant, Origin, Scope},
    },
    error::{Error, Result},
};

/// The maximum number of entries of an allowlist, as in GitLab: <https://docs.gitlab.com/ci/jobs/ci_job_token/>
pub const MAX_ENTRIES: usize = 200;

/// Which allowlist of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowlistKind {
    /// The allowlist of projects.
    Projects,
    /// The allowlist of groups, for all projects below them.
    Groups,
}

/// An entry of an allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowlistEntry {
    /// The project or group whose jobs are allowed.
    pub target_id: i64,
    /// What the entry grants.
    pub grant: Grant,
    /// Whether the entry was made from the log.
    pub autopopulated: bool,
}

/// Who added an entry, and when.
#[derive(Clone, Copy, Debug)]
pub struct AddedBy {
    /// The user.
    pub user_id: i64,
    /// The time.
    pub at: OffsetDateTime,
}

impl AllowlistKind {
    fn table_name(self) -> Alias {
        Alias::new(match self {
            Self::Projects => "allowlist_projects",
            Self::Groups => "allowlist_groups",
        })
    }

    fn target_column(self) -> Alias {
        Alias::new(match self {
            Self::Projects => "target_project_id",
            Self::Groups => "target_group_id",
        })
    }

    fn is_target(self, id: i64) -> Expr {
        Expr::col(self.target_column()).eq(id)
    }
}

/// Reports whether the allowlists of a project apply.
pub async fn is_enabled(db: &impl ConnectionTrait, project_id: i64) -> Result<bool> {
    let query = Query::select()
        .column("inbound_enabled")
        .from("scopes")
        .and_where(Expr::col("project_id").eq(project_id))
        .to_owned();
    match db.query_one(&query).await? {
        Some(row) => Ok(row.try_get("", "inbound_enabled")?),
        None => Ok(Scope::closed().inbound_enabled),
    }
}

/// Sets whether the allowlists of a project apply.
pub async fn set_enabled(db: &impl ConnectionTrait, project_id: i64, enabled: bool) -> Result<()> {
    let replace = OnConflict::column("project_id").update_column("inbound_enabled").to_owned();
    insert_scope(db, project_id, enabled, replace).await
}

async fn insert_scope(db: &impl ConnectionTrait, project_id: i64, enabled: bool, conflict: OnConflict) -> Result<()> {
    let mut insert = Query::insert();
    insert.into_table("scopes").columns(["project_id", "inbound_enabled"]).on_conflict(conflict);
    insert.values([project_id.into(), enabled.into()]).map_err(Error::internal)?;
    db.execute(&insert).await?;
    Ok(())
}

/// Returns the part of the scope of a project that applies to jobs of the origin.
pub async fn scope_for(db: &impl ConnectionTrait, project_id: i64, origin: &Origin) -> Result<Scope> {
    let mut scope = Scope::closed();
    scope.inbound_enabled = is_enabled(db, project_id).await?;
    if scope.inbound_enabled {
        let project = select_entries(AllowlistKind::Projects, project_id)
            .and_where(AllowlistKind::Projects.is_target(origin.id))
            .to_owned();
        scope.projects = grants_by_target(fetch_entries(db, &project).await?);
    }
    if scope.inbound_enabled && scope.projects.is_empty() && !origin.ancestors.is_empty() {
        let above = Expr::col(AllowlistKind::Groups.target_column()).is_in(origin.ancestors.iter().copied());
        let groups = select_entries(AllowlistKind::Groups, project_id).and_where(above).to_owned();
        scope.groups = grants_by_target(fetch_entries(db, &groups).await?);
    }
    Ok(scope)
}

/// Returns the whole scope of a project.
pub async fn scope(db: &impl ConnectionTrait, project_id: i64) -> Result<Scope> {
    Ok(Scope {
        inbound_enabled: is_enabled(db, project_id).await?,
        projects: grants_by_target(list(db, AllowlistKind::Projects, project_id).await?),
        groups: grants_by_target(list(db, AllowlistKind::Groups, project_id).await?),
    })
}

fn grants_by_target(entries: Vec<AllowlistEntry>) -> HashMap<i64, Grant> {
    entries.into_iter().map(|entry| (entry.target_id, entry.grant)).collect()
}

/// Lists the entries of an allowlist, by the ids of their targets.
pub async fn list(db: &impl ConnectionTrait, kind: AllowlistKind, project_id: i64) -> Result<Vec<AllowlistEntry>> {
    fetch_entries(db, &select_entries(kind, project_id)).await
}

/// Finds one entry of an allowlist.
///
/// # Errors
/// A refusal with `ALLOWLIST_ENTRY_NOT_FOUND`.
pub async fn find(
    db: &impl ConnectionTrait,
    kind: AllowlistKind,
    project_id: i64,
    target_id: i64,
) -> Result<AllowlistEntry> {
    let query = select_entries(kind, project_id).and_where(kind.is_target(target_id)).to_owned();
    let found = fetch_entries(db, &query).await?.pop();
    found.ok_or_else(|| Refusal::new(Reason::AllowlistEntryNotFound).into())
}

fn select_entries(kind: AllowlistKind, project_id: i64) -> SelectStatement {
    Query::select()
        .expr_as(Expr::col(kind.target_column()), "target_id")
        .columns(["default_permissions", "policies", "autopopulated"])
        .from(kind.table_name())
        .and_where(Expr::col("source_project_id").eq(project_id))
        .order_by(kind.target_column(), sea_orm::Order::Asc)
        .to_owned()
}

async fn fetch_entries(db: &impl ConnectionTrait, query: &SelectStatement) -> Result<Vec<AllowlistEntry>> {
    db.query_all(query).await?.iter().map(read_entry).collect()
}

fn read_entry(row: &QueryResult) -> Result<AllowlistEntry> {
    let policies: String = row.try_get("", "policies")?;
    let grants_everything: bool = row.try_get("", "default_permissions")?;
    Ok(AllowlistEntry {
        target_id: row.try_get("", "target_id")?,
        grant: match grants_everything {
            true => Grant::Everything,
            false => Grant::Policies(policy::split(&policies).into_iter().collect()),
        },
        autopopulated: row.try_get("", "autopopulated")?,
    })
}

/// Removes the entries for deleted targets from an allowlist, and then adds an entry.
///
/// # Errors
/// A refusal with `ALLOWLIST_ENTRY_EXISTS`, or with `ALLOWLIST_FULL`.
pub async fn add(
    database: &DatabaseConnection,
    kind: AllowlistKind,
    project_id: i64,
    new: &AllowlistEntry,
    deleted_ids: &[i64],
    added: AddedBy,
) -> Result<()> {
    let tx = db::begin_write(database).await?;
    lock(&tx, project_id).await?;
    remove_all(&tx, kind, project_id, deleted_ids).await?;
    add_in(&tx, kind, project_id, std::slice::from_ref(new), added).await?;
    Ok(tx.commit().await?)
}

/// Adds entries to an allowlist that the transaction has locked: all of them, or none.
///
/// # Errors
/// As [`add`].
pub async fn add_in(
    tx: &DatabaseTransaction,
    kind: AllowlistKind,
    project_id: i64,
    new: &[AllowlistEntry],
    added: AddedBy,
) -> Result<()> {
    let present = list(tx, kind, project_id).await?;
    if new.iter().any(|new| present.iter().any(|old| old.target_id == new.target_id)) {
        return Err(Refusal::new(Reason::AllowlistEntryExists).into());
    }
    if present.len() + new.len() > MAX_ENTRIES {
        return Err(allowlist_full(kind));
    }
    for entry in new {
        insert_entry(tx, kind, project_id, entry, added).await?;
    }
    Ok(())
}

async fn insert_entry(
    tx: &DatabaseTransaction,
    kind: AllowlistKind,
    project_id: i64,
    entry: &AllowlistEntry,
    added: AddedBy,
) -> Result<()> {
    let (everything, policies) = grant_columns(&entry.grant);
    let mut insert = Query::insert();
    insert.into_table(kind.table_name()).columns([
        Alias::new("source_project_id"),
        kind.target_column(),
        Alias::new("default_permissions"),
        Alias::new("policies"),
        Alias::new("autopopulated"),
        Alias::new("added_by_id"),
        Alias::new("created_at"),
    ]);
    let values = [
        project_id.into(),
        entry.target_id.into(),
        everything.into(),
        policies.into(),
        entry.autopopulated.into(),
        added.user_id.into(),
        millis(added.at).into(),
    ];
    insert.values(values).map_err(Error::internal)?;
    tx.execute(&insert).await?;
    Ok(())
}

/// Changes the grant of an entry, and returns it. `update` makes the new grant from the present one, which is locked meanwhile.
///
/// # Errors
/// A refusal with `ALLOWLIST_ENTRY_NOT_FOUND`, or that of `update`.
pub async fn change(
    database: &DatabaseConnection,
    kind: AllowlistKind,
    project_id: i64,
    target_id: i64,
    update: impl FnOnce(&Grant) -> Result<Grant, Refusal>,
) -> Result<Grant> {
    let tx = db::begin_write(database).await?;
    lock(&tx, project_id).await?;
    let grant = update(&find(&tx, kind, project_id, target_id).await?.grant)?;
    let (everything, policies) = grant_columns(&grant);
    let statement = Query::update()
        .table(kind.table_name())
        .values([("default_permissions", everything.into()), ("policies", policies.into())])
        .and_where(is_entry(kind, project_id, target_id))
        .to_owned();
    check_found(tx.execute(&statement).await?.rows_affected())?;
    tx.commit().await?;
    Ok(grant)
}

/// Removes an entry from an allowlist.
///
/// # Errors
/// A refusal with `ALLOWLIST_ENTRY_NOT_FOUND`.
pub async fn remove(db: &impl ConnectionTrait, kind: AllowlistKind, project_id: i64, target_id: i64) -> Result<()> {
    let mut delete = Query::delete();
    delete.from_table(kind.table_name()).and_where(is_entry(kind, project_id, target_id));
    check_found(db.execute(&delete).await?.rows_affected())
}

/// Removes the entries of these targets from an allowlist. Targets without an entry are ignored.
pub async fn remove_all(
    tx: &DatabaseTransaction,
    kind: AllowlistKind,
    project_id: i64,
    target_ids: &[i64],
) -> Result<()> {
    if target_ids.is_empty() {
        return Ok(());
    }
    let of_targets = Expr::col(kind.target_column()).is_in(target_ids.iter().copied());
    let mut delete = Query::delete();
    delete.from_table(kind.table_name()).and_where(Expr::col("source_project_id").eq(project_id).and(of_targets));
    tx.execute(&delete).await?;
    Ok(())
}

fn is_entry(kind: AllowlistKind, project_id: i64, target_id: i64) -> Expr {
    Expr::col("source_project_id").eq(project_id).and(kind.is_target(target_id))
}

fn check_found(rows: u64) -> Result<()> {
    if rows == 0 { Err(Refusal::new(Reason::AllowlistEntryNotFound).into()) } else { Ok(()) }
}

/// Returns the columns `default_permissions` and `policies` of a grant.
fn grant_columns(grant: &Grant) -> (bool, String) {
    match grant {
        Grant::Everything => (true, String::new()),
        Grant::Policies(policies) => (false, policy::join(&policies.iter().copied().collect::<Vec<_>>())),
    }
}

/// Locks the entries of a project, so that only one transaction at a time counts or changes them. SQLite has one writer at a time
/// anyway.
pub async fn lock(tx: &DatabaseTransaction, project_id: i64) -> Result<()> {
    let keep = OnConflict::column("project_id").do_nothing().to_owned();
    insert_scope(tx, project_id, Scope::closed().inbound_enabled, keep).await?;
    let is_project = Expr::col("project_id").eq(project_id);
    let query =
        Query::select().column("project_id").from("scopes").and_where(is_project).lock(LockType::Update).to_owned();
    tx.query_one(&query).await?;
    Ok(())
}

fn allowlist_full(kind: AllowlistKind) -> Error {
    let links = match kind {
        AllowlistKind::Projects => "project links",
        AllowlistKind::Groups => "group links",
    };
    let text = format!("400 Bad request - Source project exceeds the allowable number of {links}");
    Refusal::new(Reason::AllowlistFull).with_message(text).into()
}

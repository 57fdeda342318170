//! Runners and the projects that they are assigned to.

use std::collections::HashSet;

use proto::{role::Role, timestamp::millis};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseConnection, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, JoinType, NotSet, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _, RelationTrait as _, Set,
    sea_query::{LockType, SelectStatement},
};
use time::OffsetDateTime;

use crate::{
    entity::{
        StringList, project,
        runner::{self, RunnerAccessLevel, RunnerType},
        runner_project,
    },
    error::{Error, Result},
    store::{removed_tokens, roles, set_if_given},
};

/// Finds a runner.
///
/// # Errors
/// [`Error::RunnerNotFound`].
pub async fn find(db: &impl ConnectionTrait, id: i64) -> Result<runner::Model> {
    runner::Entity::find_by_id(id).one(db).await?.ok_or(Error::RunnerNotFound)
}

/// Locks a runner against every other change of the runner, its tokens and its managers until the transaction ends;
/// none if it no longer exists.
pub async fn lock(tx: &DatabaseTransaction, id: i64) -> Result<Option<runner::Model>> {
    Ok(runner::Entity::find_by_id(id).lock(LockType::NoKeyUpdate).one(tx).await?)
}

/// A runner to store.
#[derive(Debug)]
pub struct NewRunner {
    /// What it serves.
    pub runner_type: RunnerType,
    /// The group of a group runner.
    pub group_id: Option<i64>,
    /// The description.
    pub description: Option<String>,
    /// A note for its maintainers.
    pub maintenance_note: Option<String>,
    /// Whether it gets no jobs.
    pub paused: bool,
    /// Whether it cannot be assigned to further projects.
    pub locked: bool,
    /// Which jobs it takes.
    pub access_level: RunnerAccessLevel,
    /// Whether it takes jobs without tags.
    pub run_untagged: bool,
    /// Seconds that it works on one job.
    pub maximum_timeout: Option<i32>,
    /// The tags by which jobs select it.
    pub tags: Vec<String>,
    /// The user that creates it.
    pub creator_id: i64,
}

/// Stores a runner.
pub async fn insert(tx: &DatabaseTransaction, new: NewRunner, now: OffsetDateTime) -> Result<runner::Model> {
    let row = runner::ActiveModel {
        id: NotSet,
        runner_type: Set(new.runner_type),
        description: Set(new.description),
        name: Set(None),
        maintenance_note: Set(new.maintenance_note),
        paused: Set(new.paused),
        locked: Set(new.locked),
        access_level: Set(new.access_level),
        run_untagged: Set(new.run_untagged),
        maximum_timeout: Set(new.maximum_timeout),
        tag_list: Set(StringList(new.tags)),
        creator_id: Set(Some(new.creator_id)),
        group_id: Set(new.group_id),
        created_at: Set(millis(now)),
        contacted_at: Set(None),
        version: Set(None),
        revision: Set(None),
        platform: Set(None),
        architecture: Set(None),
    };
    // The group, or the user, can be gone since it was looked up.
    row.insert(tx).await.map_err(|error| Error::on_gone(error, Error::Conflict))
}

/// The columns to change, each with its new value; the fields are checked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// See the column.
    pub description: Option<Option<String>>,
    /// See the column.
    pub maintenance_note: Option<Option<String>>,
    /// See the column.
    pub paused: Option<bool>,
    /// See the column.
    pub locked: Option<bool>,
    /// See the column.
    pub access_level: Option<RunnerAccessLevel>,
    /// See the column.
    pub run_untagged: Option<bool>,
    /// See the column.
    pub maximum_timeout: Option<Option<i32>>,
    /// See the column.
    pub tags: Option<Vec<String>>,
}

/// Changes a runner that is locked.
pub async fn update(tx: &DatabaseTransaction, runner: runner::Model, changes: Changes) -> Result<runner::Model> {
    let mut row = runner.into_active_model();
    set_if_given(&mut row.description, changes.description);
    set_if_given(&mut row.maintenance_note, changes.maintenance_note);
    set_if_given(&mut row.paused, changes.paused);
    set_if_given(&mut row.locked, changes.locked);
    set_if_given(&mut row.access_level, changes.access_level);
    set_if_given(&mut row.run_untagged, changes.run_untagged);
    set_if_given(&mut row.maximum_timeout, changes.maximum_timeout);
    set_if_given(&mut row.tag_list, changes.tags.map(StringList));
    Ok(row.update(tx).await?)
}

/// Deletes a runner with its tokens, managers and assignments. Succeeds if it does not exist.
pub async fn delete(database: &DatabaseConnection, id: i64, now: OffsetDateTime) -> Result<()> {
    let tx = super::begin(database).await?;
    removed_tokens::note(&tx, runner::Column::Id.eq(id).into(), now).await?;
    runner::Entity::delete_by_id(id).exec(&tx).await?;
    Ok(tx.commit().await?)
}

/// Reports whether it is a project runner without a project.
pub async fn is_unassigned(db: &impl ConnectionTrait, runner: &runner::Model) -> Result<bool> {
    Ok(runner.runner_type == RunnerType::Project && owner_project(db, runner.id).await?.is_none())
}

/// Those of the runners that are assigned to a project.
pub async fn assigned(db: &impl ConnectionTrait, runner_ids: &[i64]) -> Result<HashSet<i64>> {
    let ids: Vec<i64> = runner_project::Entity::find()
        .select_only()
        .distinct()
        .column(runner_project::Column::RunnerId)
        .filter(runner_project::Column::RunnerId.is_in(runner_ids.iter().copied()))
        .into_tuple()
        .all(db)
        .await?;
    Ok(ids.into_iter().collect())
}

/// To how many projects a runner is assigned.
pub async fn count_projects(db: &impl ConnectionTrait, runner_id: i64) -> Result<u64> {
    let assignments = runner_project::Entity::find().filter(runner_project::Column::RunnerId.eq(runner_id));
    Ok(assignments.count(db).await?)
}

/// The project that owns a project runner: that of the oldest assignment.
pub async fn owner_project(db: &impl ConnectionTrait, runner_id: i64) -> Result<Option<i64>> {
    let oldest = runner_project::Entity::find()
        .filter(runner_project::Column::RunnerId.eq(runner_id))
        .order_by_asc(runner_project::Column::Id)
        .one(db)
        .await?;
    Ok(oldest.map(|assignment| assignment.project_id))
}

/// The projects that a runner is assigned to, the one that owns it first. Keeps them until the transaction ends: the
/// deletion of one of them waits, or is over before this returns.
pub async fn lock_assignments(tx: &DatabaseTransaction, runner_id: i64) -> Result<Vec<i64>> {
    let project_ids = runner_project::Entity::find()
        .select_only()
        .column(runner_project::Column::ProjectId)
        .filter(runner_project::Column::RunnerId.eq(runner_id))
        .order_by_asc(runner_project::Column::Id)
        .lock_exclusive()
        .into_tuple()
        .all(tx)
        .await?;
    Ok(project_ids)
}

/// Assigns a runner to a project.
///
/// # Errors
/// [`Error::RunnerAlreadyAssigned`]; [`Error::Conflict`] if the runner or the project is gone by now.
pub async fn assign(db: &impl ConnectionTrait, runner_id: i64, project_id: i64, now: OffsetDateTime) -> Result<()> {
    let row = runner_project::ActiveModel {
        id: NotSet,
        runner_id: Set(runner_id),
        project_id: Set(project_id),
        created_at: Set(millis(now)),
    };
    match runner_project::Entity::insert(row).exec_without_returning(db).await {
        Ok(_) => Ok(()),
        Err(error) => match Error::on_unique(error, Error::RunnerAlreadyAssigned) {
            Error::Database(error) => Err(Error::on_gone(error, Error::Conflict)),
            error => Err(error),
        },
    }
}

/// Takes a runner from a project.
pub async fn unassign(tx: &DatabaseTransaction, runner_id: i64, project_id: i64) -> Result<()> {
    runner_project::Entity::delete_many()
        .filter(runner_project::Column::RunnerId.eq(runner_id))
        .filter(runner_project::Column::ProjectId.eq(project_id))
        .exec(tx)
        .await?;
    Ok(())
}

/// The role of a user in the group of a runner. For a project runner: maintainer, if the user maintains one of its
/// projects.
pub async fn role(db: &impl ConnectionTrait, user_id: i64, runner: &runner::Model) -> Result<Option<Role>> {
    match (runner.runner_type, runner.group_id) {
        (RunnerType::Instance, _) | (RunnerType::Group, None) => Ok(None),
        (RunnerType::Group, Some(group_id)) => roles::role_in_group(db, user_id, group_id).await,
        (RunnerType::Project, _) => {
            let maintained = project::Entity::find()
                .filter(project::Column::Id.in_subquery(projects_of(runner.id)))
                .filter(roles::projects_with_role(user_id, Role::Maintainer))
                .count(db)
                .await?;
            Ok((maintained > 0).then_some(Role::Maintainer))
        }
    }
}

/// The projects of a runner that a user sees; none as the user: an administrator, who sees all.
pub async fn visible_projects(
    db: &impl ConnectionTrait,
    user_id: Option<i64>,
    runner_id: i64,
) -> Result<Vec<project::Model>> {
    let assigned = project::Entity::find().filter(project::Column::Id.in_subquery(projects_of(runner_id)));
    let visible = match user_id {
        Some(user_id) => assigned.filter(roles::visible_projects(user_id)),
        None => assigned,
    };
    Ok(visible.order_by_asc(project::Column::Id).all(db).await?)
}

/// The ids of the projects that a runner is assigned to.
pub fn projects_of(runner_id: i64) -> SelectStatement {
    runner_project::Entity::find()
        .select_only()
        .column(runner_project::Column::ProjectId)
        .filter(runner_project::Column::RunnerId.eq(runner_id))
        .into_query()
}

/// The ids of the project runners in whose projects a user has at least the role.
pub fn with_role(user_id: i64, least: Role) -> SelectStatement {
    runner_project::Entity::find()
        .select_only()
        .column(runner_project::Column::RunnerId)
        .join(JoinType::InnerJoin, runner_project::Relation::Project.def())
        .filter(roles::projects_with_role(user_id, least))
        .into_query()
}

//! Lists of runners: which runners a list is about, and the filters that all lists share.

use chassis::db::paging::{Paged, Window};
use proto::{role::Role, timestamp::millis};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseBackend, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
    sea_query::{Expr, ExprTrait as _, IntoCondition as _, Query, SelectStatement, UnionType},
};
use time::OffsetDateTime;

use crate::{
    entity::{
        project,
        runner::{self, Column, RunnerType},
        runner_manager, runner_project,
    },
    error::Result,
    runner::status::{ONLINE, RunnerStatus, STALE},
    store::{json, roles, runners},
};

/// Which runners a list is about.
#[derive(Clone, Debug)]
pub enum RunnerScope {
    /// Every runner.
    All,
    /// The runners that this user may administer.
    AdministeredBy(i64),
    /// The runners that serve a project: its own, those of its groups, and the instance runners.
    Project(project::Model),
    /// The runners that serve a group: its own, those of its ancestors, and the instance runners.
    Group(i64),
}

/// What the listed runners have in common. Every entry must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The type.
    pub types: Vec<RunnerType>,
    /// The status.
    pub statuses: Vec<RunnerStatus>,
    /// Whether it is paused.
    pub paused: Vec<bool>,
    /// Tags that it has.
    pub tags: Vec<String>,
    /// The start of the version of one of its managers.
    pub version_prefix: Option<String>,
}

/// A page of the runners, the newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    scope: RunnerScope,
    filter: Filter,
    window: Window,
    now: OffsetDateTime,
) -> Result<Paged<runner::Model>> {
    let query = runner::Entity::find()
        .filter(in_list(scope))
        .filter(filter_condition(db.get_database_backend(), filter, now))
        .order_by_desc(Column::Id);
    Ok(window.fetch(query, db).await?)
}

fn in_list(scope: RunnerScope) -> Condition {
    match scope {
        RunnerScope::All => Condition::all(),
        RunnerScope::AdministeredBy(user_id) => administered_by(user_id),
        RunnerScope::Project(project) => {
            let own = runner_project::Entity::find()
                .select_only()
                .column(runner_project::Column::RunnerId)
                .filter(runner_project::Column::ProjectId.eq(project.id));
            let own = Condition::any().add(Column::Id.in_subquery(own.into_query()));
            let of_groups = project.group_id.map(|group_id| Column::GroupId.in_subquery(roles::ancestors(group_id)));
            own.add_option(of_groups).add(Column::RunnerType.eq(RunnerType::Instance))
        }
        RunnerScope::Group(group_id) => Condition::any()
            .add(Column::GroupId.in_subquery(roles::ancestors(group_id)))
            .add(Column::RunnerType.eq(RunnerType::Instance)),
    }
}

/// The rule of `permission` as a condition: the user owns the group of the runner, maintains one of its projects, or
/// created a project runner that has no project. It is a union of what each index finds, because alternatives in one
/// condition make the databases read every runner.
fn administered_by(user_id: i64) -> Condition {
    let assignments = Query::select()
        .expr(Expr::val(1))
        .from(runner_project::Entity)
        .and_where(
            Expr::col((runner_project::Entity, runner_project::Column::RunnerId)).equals((runner::Entity, Column::Id)),
        )
        .to_owned();
    let unassigned = Condition::all()
        .add(Column::RunnerType.eq(RunnerType::Project))
        .add(Column::CreatorId.eq(user_id))
        .add(Expr::exists(assignments).not());
    let owned = Column::GroupId.in_subquery(roles::groups_with_role(user_id, Role::Owner));
    let ids = ids_where(owned.into_condition())
        .union(UnionType::Distinct, runners::with_role(user_id, Role::Maintainer))
        .union(UnionType::Distinct, ids_where(unassigned))
        .to_owned();
    Column::Id.in_subquery(ids).into_condition()
}

fn ids_where(condition: Condition) -> SelectStatement {
    Query::select().column((runner::Entity, Column::Id)).from(runner::Entity).cond_where(condition).to_owned()
}

fn filter_condition(backend: DatabaseBackend, filter: Filter, now: OffsetDateTime) -> Condition {
    let mut all = Condition::all();
    for runner_type in filter.types {
        all = all.add(Column::RunnerType.eq(runner_type));
    }
    for status in filter.statuses {
        all = all.add(has_status(status, now));
    }
    for paused in filter.paused {
        all = all.add(Column::Paused.eq(paused));
    }
    if !filter.tags.is_empty() {
        all = all.add(json::has_all(backend, Column::TagList, &filter.tags));
    }
    if let Some(prefix) = filter.version_prefix {
        let managers = runner_manager::Entity::find()
            .select_only()
            .column(runner_manager::Column::RunnerId)
            .filter(runner_manager::Column::Version.starts_with(prefix));
        all = all.add(Column::Id.in_subquery(managers.into_query()));
    }
    all
}

/// [`RunnerStatus::at`] as a condition; a test holds the two against each other.
fn has_status(status: RunnerStatus, now: OffsetDateTime) -> Condition {
    let online_since = millis(now.saturating_sub(ONLINE));
    let stale_before = millis(now.saturating_sub(STALE));
    let never_contacted = Column::ContactedAt.is_null();
    let created_recently = Column::CreatedAt.gte(stale_before);
    let contacted_recently = Column::ContactedAt.gte(stale_before);
    match status {
        RunnerStatus::Online => Condition::all().add(Column::ContactedAt.gte(online_since)),
        RunnerStatus::Offline => Condition::all()
            .add(Column::ContactedAt.lt(online_since))
            .add(Condition::any().add(created_recently).add(contacted_recently)),
        RunnerStatus::NeverContacted => Condition::all().add(never_contacted).add(created_recently),
        RunnerStatus::Stale => Condition::all()
            .add(Column::CreatedAt.lt(stale_before))
            .add(Condition::any().add(never_contacted).add(Column::ContactedAt.lt(stale_before))),
    }
}

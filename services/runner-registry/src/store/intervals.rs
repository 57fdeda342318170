//! The settings in force for the tokens of a runner, gathered from the instance, its groups and its projects.

use std::collections::HashMap;

use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _};

use crate::{
    entity::{application_settings, group, group_ancestor, project, runner, runner_project},
    error::{Error, Result},
    expiry::{GroupIntervals, InstanceIntervals, Interval, ProjectIntervals, Scope, interval},
    runner_type::RunnerType,
};

/// What a runner belongs to, by ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The instance.
    Instance,
    /// A group.
    Group(i64),
    /// These projects; none for an unassigned runner.
    Projects(Vec<i64>),
}

impl Owner {
    /// Whether it is a project runner without a project.
    pub fn is_unassigned(&self) -> bool {
        matches!(self, Self::Projects(projects) if projects.is_empty())
    }
}

/// What a runner belongs to.
pub async fn owner(db: &impl ConnectionTrait, runner: &runner::Model) -> Result<Owner> {
    match (runner.runner_type, runner.group_id) {
        (RunnerType::Instance, _) => Ok(Owner::Instance),
        (RunnerType::Group, Some(group_id)) => Ok(Owner::Group(group_id)),
        (RunnerType::Group, None) => Err(Error::internal(format!("group runner {} has no group", runner.id))),
        (RunnerType::Project, _) => {
            let rows = runner_project::Entity::find()
                .filter(runner_project::Column::RunnerId.eq(runner.id))
                .order_by_asc(runner_project::Column::Id)
                .all(db)
                .await?;
            Ok(Owner::Projects(rows.into_iter().map(|row| row.project_id).collect()))
        }
    }
}

/// How long a new token of such a runner is valid.
pub async fn in_force(db: &impl ConnectionTrait, owner: &Owner) -> Result<Interval> {
    let scope = match owner {
        Owner::Instance => Scope::Instance,
        Owner::Group(group_id) => group_scope(db, *group_id).await?,
        Owner::Projects(projects) => Scope::Project(project_intervals(db, projects).await?),
    };
    Ok(interval(&instance(db).await?, &scope))
}

async fn instance(db: &impl ConnectionTrait) -> Result<InstanceIntervals> {
    let row = application_settings::Entity::find_by_id(application_settings::ID).one(db).await?;
    let row = row.ok_or_else(|| Error::internal("the row of settings is missing"))?;
    Ok(InstanceIntervals {
        instance_runner: row.runner_token_expiration_interval,
        group_runner: row.group_runner_token_expiration_interval,
        project_runner: row.project_runner_token_expiration_interval,
    })
}

async fn group_scope(db: &impl ConnectionTrait, group_id: i64) -> Result<Scope> {
    let mut line = lines(db, &[group_id]).await?.remove(&group_id).unwrap_or_default();
    let own = line.iter().position(|(id, _)| *id == group_id).map(|at| line.swap_remove(at).1);
    let ancestors = line.into_iter().map(|(_, intervals)| intervals).collect();
    Ok(Scope::Group { group: own.unwrap_or_default(), ancestors })
}

async fn project_intervals(db: &impl ConnectionTrait, project_ids: &[i64]) -> Result<Vec<ProjectIntervals>> {
    let ids = project_ids.iter().copied();
    let projects = project::Entity::find().filter(project::Column::Id.is_in(ids)).all(db).await?;
    let group_ids: Vec<_> = projects.iter().filter_map(|project| project.group_id).collect();
    let lines = lines(db, &group_ids).await?;
    let above = |project: &project::Model| project.group_id.and_then(|id| lines.get(&id)).cloned().unwrap_or_default();
    let intervals = projects.iter().map(|project| ProjectIntervals {
        own_runner: project.runner_token_expiration_interval,
        groups: above(project).into_iter().map(|(_, intervals)| intervals).collect(),
    });
    Ok(intervals.collect())
}

/// For each group: itself and its ancestors, with their ids.
async fn lines(db: &impl ConnectionTrait, group_ids: &[i64]) -> Result<HashMap<i64, Vec<(i64, GroupIntervals)>>> {
    let mut lines = HashMap::<i64, Vec<(i64, GroupIntervals)>>::new();
    if group_ids.is_empty() {
        return Ok(lines);
    }
    let steps = group_ancestor::Entity::find()
        .filter(group_ancestor::Column::GroupId.is_in(group_ids.iter().copied()))
        .all(db)
        .await?;
    let ids = steps.iter().map(|step| step.ancestor_id);
    let groups = group::Entity::find().filter(group::Column::Id.is_in(ids)).all(db).await?;
    let groups: HashMap<_, _> = groups.iter().map(|group| (group.id, intervals(group))).collect();
    for step in &steps {
        if let Some(intervals) = groups.get(&step.ancestor_id) {
            lines.entry(step.group_id).or_default().push((step.ancestor_id, *intervals));
        }
    }
    Ok(lines)
}

fn intervals(group: &group::Model) -> GroupIntervals {
    GroupIntervals {
        own_runner: group.runner_token_expiration_interval,
        subgroup_runner: group.subgroup_runner_token_expiration_interval,
        project_runner: group.project_runner_token_expiration_interval,
    }
}

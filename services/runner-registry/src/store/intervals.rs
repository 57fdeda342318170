//! The settings that bound the tokens of a runner: those of the instance, its groups and its projects.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, JoinType, QueryFilter as _, QuerySelect as _,
    QueryTrait as _, RelationTrait as _,
};

use crate::{
    entity::{
        group, group_ancestor, project,
        runner::{self, RunnerType},
        runner_project,
    },
    error::{Error, Result},
    runner::expiry::{GroupIntervals, InstanceIntervals, ProjectIntervals, Scope},
    store::settings,
};

/// What a runner belongs to, by ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The instance.
    Instance,
    /// A group.
    Group(i64),
    /// One project: that of a runner that is about to be created.
    Project(i64),
    /// Every project that this runner is assigned to.
    AssignedTo(i64),
}

impl Owner {
    /// What an existing runner belongs to.
    pub fn of(runner: &runner::Model) -> Result<Self> {
        match (runner.runner_type, runner.group_id) {
            (RunnerType::Instance, _) => Ok(Self::Instance),
            (RunnerType::Group, Some(group_id)) => Ok(Self::Group(group_id)),
            (RunnerType::Group, None) => Err(Error::internal(format!("group runner {} has no group", runner.id))),
            (RunnerType::Project, _) => Ok(Self::AssignedTo(runner.id)),
        }
    }
}

/// The intervals that the settings of the instance set.
pub async fn instance(db: &impl ConnectionTrait) -> Result<InstanceIntervals> {
    let settings = settings::get(db).await?;
    Ok(InstanceIntervals {
        instance_runner: settings.runner_token_expiration_interval,
        group_runner: settings.group_runner_token_expiration_interval,
        project_runner: settings.project_runner_token_expiration_interval,
    })
}

/// What a runner belongs to, with the intervals that bound its tokens.
pub async fn scope(db: &impl ConnectionTrait, owner: Owner) -> Result<Scope> {
    match owner {
        Owner::Instance => Ok(Scope::Instance),
        Owner::Group(group_id) => group_scope(db, group_id).await,
        Owner::Project(project_id) => project_scope(db, project::Column::Id.eq(project_id).into()).await,
        Owner::AssignedTo(runner_id) => {
            let assigned = runner_project::Entity::find()
                .select_only()
                .column(runner_project::Column::ProjectId)
                .filter(runner_project::Column::RunnerId.eq(runner_id));
            project_scope(db, project::Column::Id.in_subquery(assigned.into_query()).into()).await
        }
    }
}

async fn group_scope(db: &impl ConnectionTrait, group_id: i64) -> Result<Scope> {
    let lineages = group_lineages(db, group_ancestor::Column::GroupId.eq(group_id).into()).await?;
    let mut group = GroupIntervals::default();
    let mut ancestors = Vec::new();
    for member in lineages.into_values().flatten() {
        if member.distance == 0 {
            group = member.intervals;
        } else {
            ancestors.push(member.intervals);
        }
    }
    Ok(Scope::Group { group, ancestors })
}

async fn project_scope(db: &impl ConnectionTrait, wanted: Condition) -> Result<Scope> {
    let projects = project::Entity::find().filter(wanted.clone()).all(db).await?;
    let groups = project::Entity::find().select_only().column(project::Column::GroupId).filter(wanted);
    let lineages = group_lineages(db, group_ancestor::Column::GroupId.in_subquery(groups.into_query()).into()).await?;
    let intervals = projects.iter().map(|project| {
        let lineage = project.group_id.and_then(|group_id| lineages.get(&group_id));
        ProjectIntervals {
            own_runner: project.runner_token_expiration_interval,
            groups: lineage.into_iter().flatten().map(|member| member.intervals).collect(),
        }
    });
    Ok(Scope::Project(intervals.collect()))
}

/// A group in the lineage of a group: the group itself, or one above it.
struct LineageMember {
    /// 0: the group itself.
    distance: i32,
    intervals: GroupIntervals,
}

/// The lineage of each wanted group, by the id of the group.
async fn group_lineages(db: &impl ConnectionTrait, wanted: Condition) -> Result<HashMap<i64, Vec<LineageMember>>> {
    let rows = group_ancestor::Entity::find()
        .select_also(group::Entity)
        .join(JoinType::InnerJoin, group_ancestor::Relation::Ancestor.def())
        .filter(wanted)
        .all(db)
        .await?;
    let mut lineages = HashMap::<i64, Vec<LineageMember>>::new();
    for (ancestor, group) in rows {
        let intervals = group.as_ref().map(group_intervals).unwrap_or_default();
        lineages.entry(ancestor.group_id).or_default().push(LineageMember { distance: ancestor.distance, intervals });
    }
    Ok(lineages)
}

fn group_intervals(group: &group::Model) -> GroupIntervals {
    GroupIntervals {
        own_runner: group.runner_token_expiration_interval,
        subgroup_runner: group.subgroup_runner_token_expiration_interval,
        project_runner: group.project_runner_token_expiration_interval,
    }
}

//! Conversions between runners and their messages.

use std::collections::{HashMap, HashSet};

use chassis::db::paging::Paged;
use proto::{
    paddock::{page::v1::Page, runner::v1 as message},
    timestamp,
};
use sea_orm::ConnectionTrait;
use time::OffsetDateTime;

use crate::{
    entity::{
        runner::{self, RunnerAccessLevel, RunnerType},
        runner_manager, runner_token,
    },
    error::{Error, Result},
    runner::status::RunnerStatus,
    store::{projects::LocatedProject, runner_tokens, runners},
};

/// What messages show of runners in addition to their rows, read for a whole page at once.
pub struct RunnerContext {
    tokens: HashMap<i64, runner_token::Model>,
    assigned: HashSet<i64>,
    now: OffsetDateTime,
}

impl RunnerContext {
    /// Reads what belongs to the runners.
    pub async fn of(db: &impl ConnectionTrait, runners: &[runner::Model], now: OffsetDateTime) -> Result<Self> {
        let ids: Vec<_> = runners.iter().map(|runner| runner.id).collect();
        Ok(Self { tokens: runner_tokens::current(db, &ids).await?, assigned: runners::assigned(db, &ids).await?, now })
    }

    /// A runner in a list.
    pub fn runner(&self, row: runner::Model) -> message::Runner {
        let status = self.current_status(&row);
        let token = self.tokens.get(&row.id);
        message::Runner {
            id: row.id,
            ip_address: None,
            active: !row.paused,
            paused: row.paused,
            is_shared: row.runner_type == RunnerType::Instance,
            runner_type: row.runner_type.message().into(),
            online: online_if_contacted(&row, status),
            status: status.message().into(),
            created_at: Some(timestamp::from_millis(row.created_at)),
            token_expires_at: token.and_then(|token| token.expires_at).map(timestamp::from_millis),
            token_rotation_deadline: token.and_then(|token| token.rotation_deadline).map(timestamp::from_millis),
            unassigned: self.is_unassigned(&row),
            description: row.description,
            name: row.name,
        }
    }

    /// A runner with all details; `projects` and `groups` are those that the caller sees.
    pub fn details(
        &self,
        row: runner::Model,
        projects: Vec<message::RunnerProject>,
        groups: Vec<message::RunnerGroup>,
        may_administer: bool,
    ) -> message::RunnerDetails {
        let status = self.current_status(&row);
        let token = self.tokens.get(&row.id);
        message::RunnerDetails {
            id: row.id,
            ip_address: None,
            active: !row.paused,
            paused: row.paused,
            is_shared: row.runner_type == RunnerType::Instance,
            runner_type: row.runner_type.message().into(),
            online: online_if_contacted(&row, status),
            status: status.message().into(),
            created_at: Some(timestamp::from_millis(row.created_at)),
            token_expires_at: token.and_then(|token| token.expires_at).map(timestamp::from_millis),
            token_rotation_deadline: token.and_then(|token| token.rotation_deadline).map(timestamp::from_millis),
            unassigned: self.is_unassigned(&row),
            description: row.description,
            name: row.name,
            tag_list: row.tag_list.0,
            run_untagged: row.run_untagged,
            locked: row.locked,
            maximum_timeout: row.maximum_timeout,
            access_level: access_level_message(row.access_level).into(),
            version: row.version,
            revision: row.revision,
            platform: row.platform,
            architecture: row.architecture,
            contacted_at: row.contacted_at.map(timestamp::from_millis),
            maintenance_note: row.maintenance_note.filter(|_| may_administer),
            projects,
            groups,
        }
    }

    fn current_status(&self, row: &runner::Model) -> RunnerStatus {
        RunnerStatus::at(self.now, timestamp::time(row.created_at), row.contacted_at.map(timestamp::time))
    }

    fn is_unassigned(&self, row: &runner::Model) -> bool {
        row.runner_type == RunnerType::Project && !self.assigned.contains(&row.id)
    }
}

/// Reports whether the runner is online. Returns none if it has never contacted the server.
fn online_if_contacted(row: &runner::Model, status: RunnerStatus) -> Option<bool> {
    row.contacted_at.map(|_| status == RunnerStatus::Online)
}

/// A page of runners as messages.
pub async fn page(
    db: &impl ConnectionTrait,
    paged: Paged<runner::Model>,
    now: OffsetDateTime,
) -> Result<(Vec<message::Runner>, Option<Page>)> {
    let context = RunnerContext::of(db, &paged.items, now).await?;
    let paged = paged.map(|row| context.runner(row));
    Ok((paged.items, Some(paged.page)))
}

/// A project of a runner.
pub fn project(located: LocatedProject) -> message::RunnerProject {
    message::RunnerProject {
        id: located.project.id,
        name_with_namespace: located.name_with_namespace(),
        name: located.project.name,
        path: located.project.path,
        path_with_namespace: located.project.full_path,
    }
}

/// A manager. `current` is the generation of the runner's current token.
pub fn manager(row: runner_manager::Model, current: Option<i32>, now: OffsetDateTime) -> message::RunnerManager {
    let status = RunnerStatus::at(now, timestamp::time(row.created_at), Some(timestamp::time(row.contacted_at)));
    message::RunnerManager {
        id: row.id,
        system_id: row.system_id,
        version: row.version,
        revision: row.revision,
        platform: row.platform,
        architecture: row.architecture,
        created_at: Some(timestamp::from_millis(row.created_at)),
        contacted_at: Some(timestamp::from_millis(row.contacted_at)),
        ip_address: row.ip_address,
        status: status.message().into(),
        token_generation: row.generation,
        lagging: current.is_some_and(|current| row.generation < current),
    }
}

/// The runner type of a parameter; none if it is unset.
pub fn runner_type(name: &'static str, value: i32) -> Result<Option<RunnerType>> {
    let known = message::RunnerType::try_from(value).map_err(|_| not_in_list(name))?;
    Ok(RunnerType::from_message(known))
}

/// The access level of a parameter.
pub fn access_level(value: i32) -> Result<RunnerAccessLevel> {
    match message::RunnerAccessLevel::try_from(value) {
        Ok(message::RunnerAccessLevel::NotProtected) => Ok(RunnerAccessLevel::NotProtected),
        Ok(message::RunnerAccessLevel::RefProtected) => Ok(RunnerAccessLevel::RefProtected),
        Ok(message::RunnerAccessLevel::Unspecified) | Err(_) => Err(not_in_list("access_level")),
    }
}

fn access_level_message(level: RunnerAccessLevel) -> message::RunnerAccessLevel {
    match level {
        RunnerAccessLevel::NotProtected => message::RunnerAccessLevel::NotProtected,
        RunnerAccessLevel::RefProtected => message::RunnerAccessLevel::RefProtected,
    }
}

/// The refusal of a value outside the list of a parameter.
pub fn not_in_list(name: &'static str) -> Error {
    Error::ParameterInvalid(format!("{name} does not have a valid value"))
}

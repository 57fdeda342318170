//! The update of a runner: which fields change, and whether the runner stays valid.

use proto::paddock::runner::v1::UpdateRunnerRequest;

use super::message;
use crate::{
    entity::runner::{self, RunnerAccessLevel},
    error::{Error, Result},
    rpc::{State, mask::Mask},
    runner::validation::{self, Fields},
    store::{
        self,
        runners::{self, Changes},
    },
};

/// The parameters of which at least one is required.
const PARAMETERS: &[&str] = &[
    "description",
    "active",
    "paused",
    "tag_list",
    "run_untagged",
    "locked",
    "access_level",
    "maximum_timeout",
    "maintenance_note",
];

/// Reads the changes that a request asks for.
pub fn read(request: UpdateRunnerRequest) -> Result<Changes> {
    let mask = Mask::new(request.update_mask);
    let active = mask.value_or("active", request.active, true);
    let paused = mask.value("paused", request.paused);
    if active.is_some() && paused.is_some() {
        return Err(Error::ParameterInvalid("active, paused are mutually exclusive".to_owned()));
    }
    let access_level = request.access_level.map(message::access_level).transpose()?;
    // A list has no presence in a message: without a mask, an empty one counts as not sent.
    let tags = Some(validation::normalize_tags(&request.tag_list)).filter(|_| !request.tag_list.is_empty());
    let changes = Changes {
        description: mask.clearable("description", request.description),
        maintenance_note: mask.clearable("maintenance_note", request.maintenance_note),
        paused: paused.or(active.map(|active| !active)),
        locked: mask.value("locked", request.locked),
        access_level: mask.value_or("access_level", access_level, RunnerAccessLevel::NotProtected),
        run_untagged: mask.value_or("run_untagged", request.run_untagged, true),
        maximum_timeout: mask.clearable("maximum_timeout", request.maximum_timeout),
        tags: mask.value("tag_list", tags),
    };
    if changes == Changes::default() { Err(Error::NoParameter(PARAMETERS)) } else { Ok(changes) }
}

/// Changes a runner.
pub async fn update(state: &State, runner_id: i64, changes: Changes) -> Result<runner::Model> {
    let tx = store::begin(&state.database).await?;
    let runner = runners::lock(&tx, runner_id).await?.ok_or(Error::RunnerNotFound)?;
    validate_updated_runner(&runner, &changes)?;
    let runner = runners::update(&tx, runner, changes).await?;
    tx.commit().await?;
    Ok(runner)
}

/// Checks the runner as it will be after the update.
fn validate_updated_runner(runner: &runner::Model, changes: &Changes) -> Result<()> {
    let fields = Fields {
        description: changes.description.as_ref().unwrap_or(&runner.description).as_deref(),
        maintenance_note: changes.maintenance_note.as_ref().unwrap_or(&runner.maintenance_note).as_deref(),
        name: None,
        tags: changes.tags.as_ref().unwrap_or(&runner.tag_list.0),
        run_untagged: changes.run_untagged.unwrap_or(runner.run_untagged),
        maximum_timeout: changes.maximum_timeout.unwrap_or(runner.maximum_timeout),
    };
    validation::validate(&fields).check()
}

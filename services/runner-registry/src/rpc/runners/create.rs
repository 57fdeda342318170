//! The creation of a runner. The parameters are checked before the permission, as GitLab does.

use chassis::access::User;
use proto::{
    paddock::runner::v1::{CreateRunnerRequest, CreateRunnerResponse},
    timestamp,
};
use time::OffsetDateTime;

use super::message;
use crate::{
    entity::{
        runner::{RunnerAccessLevel, RunnerType},
        runner_token::TokenState,
    },
    error::{Error, Result},
    rpc::{State, objects, token_events},
    runner::{
        expiry::{self, FirstToken},
        token::RunnerToken,
        token_event::Finding,
        validation::{self, Fields},
    },
    store::{
        self,
        intervals::{self, Owner},
        runner_token_events::{EventCaller, NewEvent},
        runner_tokens::{self, NewToken},
        runners::{self, NewRunner},
    },
};

/// The text for a group or a project that does not exist. It is GitLab's.
const NO_SCOPE: &str = "Missing/invalid scope";

/// Creates a runner and its first token.
pub async fn create(
    state: &State,
    user: &User,
    caller: &EventCaller,
    request: CreateRunnerRequest,
) -> Result<CreateRunnerResponse> {
    let owner = read_owner(&request)?;
    let stated = (request.token_expires_at.clone(), request.token_rotation_deadline.clone());
    let new = read_runner(user, owner, request)?;
    let permitted = is_permitted(state, user, owner).await?;
    validate_new_runner(&new)?;
    let now = state.clock.now();
    let first = first_token(state, owner, stated, now).await?;
    if !permitted {
        return Err(Error::InsufficientPermissions);
    }
    insert_runner(state, owner, new, first, caller, now).await
}

/// Returns what the runner will belong to. Exactly the id that its type needs must be set.
fn read_owner(request: &CreateRunnerRequest) -> Result<Owner> {
    let runner_type = message::runner_type("runner_type", request.runner_type)?;
    let runner_type = runner_type.ok_or_else(|| Error::ParameterMissing(vec!["runner_type"]))?;
    match (runner_type, request.group_id, request.project_id) {
        (_, Some(_), Some(_)) => Err(Error::ParameterInvalid("group_id, project_id are mutually exclusive".to_owned())),
        (RunnerType::Instance, None, None) => Ok(Owner::Instance),
        (RunnerType::Group, Some(group_id), None) => Ok(Owner::Group(group_id)),
        (RunnerType::Project, None, Some(project_id)) => Ok(Owner::Project(project_id)),
        (RunnerType::Instance | RunnerType::Project, Some(_), None) => {
            Err(Error::ParameterInvalid("group_id is invalid".to_owned()))
        }
        (RunnerType::Instance | RunnerType::Group, None, Some(_)) => {
            Err(Error::ParameterInvalid("project_id is invalid".to_owned()))
        }
        (RunnerType::Group, None, None) => Err(Error::ParameterMissing(vec!["group_id"])),
        (RunnerType::Project, None, None) => Err(Error::ParameterMissing(vec!["project_id"])),
    }
}

fn read_runner(user: &User, owner: Owner, request: CreateRunnerRequest) -> Result<NewRunner> {
    let access_level = request.access_level.map(message::access_level).transpose()?;
    let (runner_type, group_id) = match owner {
        Owner::Instance => (RunnerType::Instance, None),
        Owner::Group(group_id) => (RunnerType::Group, Some(group_id)),
        Owner::Project(_) | Owner::AssignedTo(_) => (RunnerType::Project, None),
    };
    Ok(NewRunner {
        runner_type,
        group_id,
        description: request.description,
        maintenance_note: request.maintenance_note,
        paused: request.paused.unwrap_or(false),
        locked: request.locked.unwrap_or(false),
        access_level: access_level.unwrap_or(RunnerAccessLevel::NotProtected),
        run_untagged: request.run_untagged.unwrap_or(true),
        maximum_timeout: request.maximum_timeout,
        tags: validation::normalize_tags(&request.tag_list),
        creator_id: user.id,
    })
}

/// Reports whether the caller may create the runner there. Called early, because it finds the group or project; the
/// result is used after the other checks.
async fn is_permitted(state: &State, user: &User, owner: Owner) -> Result<bool> {
    let db = &state.database;
    let permissions = match owner {
        Owner::Instance => return Ok(user.admin),
        Owner::Group(id) => objects::group_by_number(db, user, id).await.map(|seen| seen.permissions.may_own_group()),
        Owner::Project(id) | Owner::AssignedTo(id) => {
            objects::project_by_number(db, user, id).await.map(|seen| seen.permissions.may_maintain_project())
        }
    };
    match permissions {
        Err(Error::GroupNotFound | Error::ProjectNotFound) => Err(Error::BadRequest(NO_SCOPE.to_owned())),
        found => found,
    }
}

fn validate_new_runner(new: &NewRunner) -> Result<()> {
    let errors = validation::validate(&Fields {
        description: new.description.as_deref(),
        maintenance_note: new.maintenance_note.as_deref(),
        name: None,
        tags: &new.tags,
        run_untagged: new.run_untagged,
        maximum_timeout: new.maximum_timeout,
    });
    if errors.is_empty() { Ok(()) } else { Err(Error::BadRequest(validation::sentence(&errors))) }
}

/// Returns the expiry and the deadline of the first token: as stated, within the limits of the settings.
async fn first_token(
    state: &State,
    owner: Owner,
    (expires_at, rotation_deadline): (Option<String>, Option<String>),
    now: OffsetDateTime,
) -> Result<FirstToken> {
    let scope = intervals::scope(&state.database, owner).await?;
    let interval = expiry::interval(&intervals::instance(&state.database).await?, &scope);
    // A stated expiry has the whole interval.
    let spread_percent = if expires_at.is_some() { 0 } else { state.config.rotation.spread_percent };
    let computed = expiry::expires_at(now, expiry::spread(interval, spread_percent));
    expiry::first_token(now, computed, expires_at.as_deref(), rotation_deadline.as_deref())
        .map_err(|error| Error::BadRequest(error.to_string()))
}

/// Stores the runner with its first token, and assigns a project runner to its project.
async fn insert_runner(
    state: &State,
    owner: Owner,
    new: NewRunner,
    first: FirstToken,
    caller: &EventCaller,
    now: OffsetDateTime,
) -> Result<CreateRunnerResponse> {
    let token = RunnerToken::generate(new.runner_type).map_err(Error::internal)?;
    let tx = store::begin(&state.database).await?;
    let runner = runners::insert(&tx, new, now).await?;
    if let Owner::Project(project_id) = owner {
        runners::assign(&tx, runner.id, project_id, now).await?;
    }
    let new_token = NewToken {
        runner_id: runner.id,
        generation: 1,
        digest: token.digest(),
        state: TokenState::Current,
        predecessor_id: None,
        expires_at: first.expires_at,
        rotation_deadline: first.rotation_deadline,
        sealed: None,
    };
    let row = runner_tokens::insert(&tx, new_token, now).await?;
    token_events::record(&tx, NewEvent::of(&row, Finding::CREATED, caller), now).await?;
    tx.commit().await?;
    Ok(CreateRunnerResponse {
        id: runner.id,
        token: token.expose().to_owned(),
        token_expires_at: row.expires_at.map(timestamp::from_millis),
        token_rotation_deadline: row.rotation_deadline.map(timestamp::from_millis),
    })
}

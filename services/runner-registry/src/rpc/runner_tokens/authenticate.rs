//! From a presented token to its runner. The first use of a successor promotes it here, in every kind of call.

use proto::{paddock::contract::v1::CredentialKind, timestamp};
use time::OffsetDateTime;
use token::FormError;

use super::contact::Contact;
use crate::{
    entity::{runner, runner_manager, runner_token},
    error::{Error, Result},
    rpc::State,
    runner::{
        rotation::{self, Authentication, InactiveReason},
        token::RunnerToken,
    },
    store::{self, runner_tokens, runners},
};

/// A token that authenticates, and its runner.
#[derive(Debug)]
pub struct Authenticated {
    /// The token; a successor has been promoted.
    pub token: runner_token::Model,
    /// The runner.
    pub runner: runner::Model,
    /// The calling manager, if it is known.
    pub manager: Option<runner_manager::Model>,
    /// The instant at which the whole call is decided.
    pub now: OffsetDateTime,
}

impl From<InactiveReason> for Error {
    fn from(reason: InactiveReason) -> Self {
        match reason {
            InactiveReason::Expired => Self::RunnerTokenExpired,
            InactiveReason::Superseded => Self::RunnerTokenSuperseded,
            InactiveReason::Revoked => Self::RunnerTokenRevoked,
        }
    }
}

/// Authenticates a presented token. The first use of a successor promotes it.
pub async fn authenticate(state: &State, text: &str, contact: &Contact) -> Result<Authenticated> {
    let digest = parse_token(text)?.digest();
    let now = state.clock.now();
    let presented = runner_tokens::find(&state.database, &digest, &contact.system_id).await?;
    let runner_tokens::PresentedToken { token, runner, manager } = presented.ok_or(Error::RunnerTokenUnknown)?;
    let token = match rotation::authenticate(&(&token).into(), now) {
        Authentication::Accepted => token,
        Authentication::AcceptedAsSuccessor => promote_successor(state, &token, now).await?,
        Authentication::Refused(reason) => {
            log_superseded_use(&token, reason, contact, now);
            return Err(reason.into());
        }
    };
    Ok(Authenticated { token, runner, manager, now })
}

/// Refuses registration tokens, which GitLab retired: any token that Paddock did not issue.
pub fn refuse_registration_token(text: &str) -> Result<()> {
    match parse_token(text) {
        Err(Error::RunnerTokenMalformed) if !has_prefix(text, CredentialKind::RunnerToken) => {
            Err(Error::RegistrationDisallowed)
        }
        _ => Ok(()),
    }
}

/// Parses a runner token. Fails if the text is empty, malformed, or a token of another kind.
fn parse_token(text: &str) -> Result<RunnerToken> {
    if text.is_empty() {
        return Err(Error::ParameterMissing(vec!["token"]));
    }
    RunnerToken::parse(text).map_err(|error| match error {
        FormError::Prefix if has_prefix(text, CredentialKind::UserToken) => Error::RunnerTokenWrongKind,
        FormError::Prefix | FormError::RunnerType | FormError::Length | FormError::Alphabet | FormError::Checksum => {
            Error::RunnerTokenMalformed
        }
    })
}

fn has_prefix(text: &str, kind: CredentialKind) -> bool {
    kind.spec().is_some_and(|spec| text.starts_with(spec.prefix))
}

/// Promotes a successor, unless another call has promoted it.
async fn promote_successor(
    state: &State,
    token: &runner_token::Model,
    now: OffsetDateTime,
) -> Result<runner_token::Model> {
    let tx = store::begin(&state.database).await?;
    let runner = runners::lock(&tx, token.runner_id).await?.ok_or(Error::RunnerTokenUnknown)?;
    let rows = runner_tokens::active_and(&tx, runner.id, token.id).await?;
    let token = rows.into_iter().find(|row| row.id == token.id).ok_or(Error::RunnerTokenUnknown)?;
    let promoted = match rotation::authenticate(&(&token).into(), now) {
        Authentication::Accepted => token,
        Authentication::AcceptedAsSuccessor => runner_tokens::promote(&tx, token, now).await?,
        Authentication::Refused(reason) => return Err(reason.into()),
    };
    tx.commit().await?;
    tracing::info!(runner_id = runner.id, generation = promoted.generation, "runner token promoted");
    Ok(promoted)
}

/// Logs the use of a superseded token: by a manager that missed the rotation, or by a thief.
fn log_superseded_use(token: &runner_token::Model, reason: InactiveReason, contact: &Contact, now: OffsetDateTime) {
    if reason != InactiveReason::Superseded {
        return;
    }
    let since = token.superseded_at.or(token.overlap_ends_at);
    tracing::info!(
        runner_id = token.runner_id,
        generation = token.generation,
        system_id = contact.system_id,
        address = contact.info.ip_address,
        superseded_since_seconds = since.map(|since| (now - timestamp::time(since)).whole_seconds()),
        "superseded runner token presented"
    );
}

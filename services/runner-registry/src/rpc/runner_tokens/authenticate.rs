//! From a presented token to its runner. The first use of a successor promotes it here, in every kind of call.

use chassis::client_id::ClientId;
use proto::{paddock::contract::v1::CredentialKind, timestamp};
use sea_orm::DatabaseTransaction;
use time::OffsetDateTime;
use token::FormError;

use super::contact::Contact;
use crate::{
    entity::{
        runner, runner_manager,
        runner_token::{self, TokenState},
    },
    error::{Error, Result},
    rpc::{State, token_events},
    runner::{
        rotation::{self, Authentication, InactiveReason},
        token::RunnerToken,
        token_event::{Finding, Presenter},
    },
    store::{
        self, managers, removed_tokens,
        runner_token_events::NewEvent,
        runner_tokens::{self, PresentedToken},
        runners,
    },
};

/// A token that authenticates, and its runner.
#[derive(Debug)]
pub struct Authenticated {
    /// The token; a successor has been promoted.
    pub token: runner_token::Model,
    /// The runner.
    pub runner: runner::Model,
    /// The calling manager, if it was known before this call.
    pub manager: Option<runner_manager::Model>,
    /// Whether this call was the first use of the token. If a manager sent it, the manager has been recorded.
    pub is_first_use: bool,
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

/// What a token is presented for. It decides who may still use a retiring token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A call of a manager, which names itself.
    ManagerCall,
    /// A rotation, which names no manager.
    Rotation,
    /// The deletion of the calling manager.
    ManagerUnregistration,
    /// The deletion of the runner, which names no manager.
    RunnerUnregistration,
}

/// Authenticates a presented token. The first use of a successor promotes it. From when the token is found, the response names
/// its runner, whatever the outcome is.
pub async fn authenticate(state: &State, text: &str, contact: &Contact, purpose: Purpose) -> Result<Authenticated> {
    let digest = parse_token(text)?.digest();
    let now = state.clock.now();
    let Some(presented) = runner_tokens::find(&state.database, &digest, &contact.system_id).await? else {
        let refusal = removed_tokens::refusal(&state.database, digest.as_bytes(), now).await?;
        if let Error::RunnerRemoved { runner_id, .. } = &refusal {
            contact.client.set(ClientId::new("runner", *runner_id));
        }
        return Err(refusal);
    };
    contact.client.set(ClientId::new("runner", presented.runner.id));
    let attempt =
        Attempt { state, contact, purpose, runner: &presented.runner, manager: presented.manager.as_ref(), now };
    let Admitted { token, is_first_use } = attempt.admit(presented.token).await?;
    let PresentedToken { runner, manager, .. } = presented;
    Ok(Authenticated { token, runner, manager, is_first_use, now })
}

/// A token that authenticates.
struct Admitted {
    token: runner_token::Model,
    is_first_use: bool,
}

impl Admitted {
    fn again(token: runner_token::Model) -> Self {
        Self { token, is_first_use: false }
    }
}

/// One presentation of a token.
struct Attempt<'a> {
    state: &'a State,
    contact: &'a Contact,
    purpose: Purpose,
    runner: &'a runner::Model,
    manager: Option<&'a runner_manager::Model>,
    now: OffsetDateTime,
}

impl Attempt<'_> {
    /// Returns the token if it authenticates for this purpose. A successor has been promoted.
    async fn admit(&self, token: runner_token::Model) -> Result<Admitted> {
        match self.decide(&token) {
            Authentication::Accepted => Ok(Admitted::again(token)),
            Authentication::AcceptedAsSuccessor => self.admit_successor(token).await,
            Authentication::Retiring => self.admit_retiring(token).await,
            Authentication::Refused(reason) => Err(self.refuse(&token, reason).await),
        }
    }

    fn decide(&self, token: &runner_token::Model) -> Authentication {
        rotation::authenticate(&token.into(), self.state.config.rotation.overlap(), self.now)
    }

    /// Promotes a successor. Another call can have promoted or replaced it meanwhile; then its new state decides.
    async fn admit_successor(&self, token: runner_token::Model) -> Result<Admitted> {
        let Admitted { token, is_first_use } = self.promote(token).await?;
        match self.decide(&token) {
            Authentication::Accepted => Ok(Admitted { token, is_first_use }),
            Authentication::Retiring => self.admit_retiring(token).await,
            Authentication::Refused(reason) => Err(self.refuse(&token, reason).await),
            Authentication::AcceptedAsSuccessor => Err(Error::internal("a promoted token is still a successor")),
        }
    }

    /// Promotes a token under the lock of its runner if it is still a successor, and returns it as it is then. The
    /// generation of the manager is recorded in the same transaction: from then on the manager has moved.
    async fn promote(&self, found: runner_token::Model) -> Result<Admitted> {
        let tx = store::begin(&self.state.database).await?;
        runners::lock(&tx, self.runner.id).await?;
        let Some(token) = runner_tokens::find_by_id(&tx, found.id).await? else {
            return Err(removed_tokens::refusal(&tx, &found.digest, self.now).await?);
        };
        if self.decide(&token) != Authentication::AcceptedAsSuccessor {
            return Ok(Admitted::again(token));
        }
        let overlap = self.state.config.rotation.overlap();
        let former = if overlap.is_zero() { TokenState::Superseded } else { TokenState::Retiring };
        let promoted = runner_tokens::promote(&tx, token, former, self.now).await?;
        let caller = self.contact.event_caller();
        let finding = self.first_use(&tx).await?;
        token_events::record(&tx, NewEvent::of(&promoted, finding, &caller), self.now).await?;
        if self.purpose == Purpose::ManagerCall {
            let Contact { system_id, info, .. } = self.contact;
            managers::record(&tx, self.runner.id, system_id, promoted.generation, info, self.now).await?;
        }
        tx.commit().await?;
        tracing::info!(runner_id = self.runner.id, generation = promoted.generation, "runner token promoted");
        Ok(Admitted { token: promoted, is_first_use: true })
    }

    /// Which event the first use of a successor is. The manager is not recorded with it yet.
    async fn first_use(&self, tx: &DatabaseTransaction) -> Result<Finding> {
        if self.purpose == Purpose::Rotation {
            return Ok(Finding::FIRST_USED_BY_ROTATION);
        }
        if self.manager.is_some() {
            return Ok(Finding::FIRST_USED_BY_MANAGER);
        }
        let system_id = &self.contact.system_id;
        let is_known = managers::find(tx, self.runner.id, system_id).await?.is_some();
        let others = managers::newest_generation_of_others(tx, self.runner.id, system_id).await?;
        Ok(Finding::first_use(is_known, others.is_some()))
    }

    async fn admit_retiring(&self, token: runner_token::Model) -> Result<Admitted> {
        let is_admitted = match self.purpose {
            Purpose::ManagerCall | Purpose::ManagerUnregistration => {
                self.contact.is_named() && self.may_manager_use(&token)
            }
            Purpose::Rotation => {
                let overlap = self.state.config.rotation.overlap();
                managers::is_awaited(&self.state.database, &token, overlap, self.now).await?
            }
            Purpose::RunnerUnregistration => false,
        };
        if is_admitted {
            Ok(Admitted::again(token))
        } else {
            Err(self.refuse(&token, InactiveReason::Superseded).await)
        }
    }

    fn may_manager_use(&self, token: &runner_token::Model) -> bool {
        let overlap = self.state.config.rotation.overlap();
        let manager = self.manager.map(rotation::Manager::from);
        manager.is_some_and(|manager| rotation::may_use_retiring(&token.into(), &manager, overlap, self.now))
    }

    /// Logs the use of a replaced token, by a manager that missed the rotation or by a thief, and records the event.
    async fn refuse(&self, token: &runner_token::Model, reason: InactiveReason) -> Error {
        if reason == InactiveReason::Superseded {
            let since = token.retired_at.or(token.superseded_at);
            tracing::info!(
                runner_id = token.runner_id,
                generation = token.generation,
                system_id = self.contact.system_id,
                address = self.contact.info.ip_address,
                superseded_since_seconds = since.map(|since| (self.now - timestamp::time(since)).whole_seconds()),
                "superseded runner token presented"
            );
        }
        if let Some(finding) = Finding::refused_use(reason, token.generation, &self.presenter(), self.now) {
            let caller = self.contact.event_caller();
            token_events::record_alone(self.state, NewEvent::of(token, finding, &caller), self.now).await;
        }
        reason.into()
    }

    /// Who presents the token, for an event.
    fn presenter(&self) -> Presenter {
        match self.manager {
            Some(manager) => Presenter::Manager {
                is_named: self.contact.is_named(),
                generation: manager.generation,
                moved_at: manager.moved_at.map(timestamp::time),
            },
            None if self.purpose == Purpose::Rotation => Presenter::Rotation,
            None => Presenter::Stranger,
        }
    }
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

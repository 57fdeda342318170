//! Exchanges a personal access token for the user that it belongs to.
//!
//! The registry answers; its answer, also a refusal, is kept for at most a second under the digest of the token, and
//! concurrent requests with one token share one call.

use std::sync::Arc;
use std::time::Duration;

use chassis::access::{CallContext, Caller, User};
use chassis::client::PeerChannel;
use chassis::clock::Clock;
use chassis::status::{Fault, Refusal, Rejection};
use moka::future::Cache;
use proto::paddock::contract::v1::{Process, Reason, TokenScope};
use proto::paddock::directory::v1::user_service_client::UserServiceClient;
use proto::paddock::directory::v1::{AuthenticateUserTokenRequest, AuthenticateUserTokenResponse};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::input::builder::Token;

/// The longest that an answer is kept: a revoked token is refused after this time at the latest.
pub const MAX_AGE: Duration = Duration::from_secs(1);

/// Answers kept at the same time, at most.
const CAPACITY: u64 = 10_000;

type Digest = [u8; 32];

/// What the registry said of a token.
#[derive(Clone, Debug)]
enum Answer {
    Known(Arc<Identity>),
    Refused(Refusal),
}

#[derive(Debug)]
struct Identity {
    user: User,
    expires_at: Option<OffsetDateTime>,
}

/// The exchange with its memory.
pub struct Exchange {
    registry: PeerChannel,
    clock: Clock,
    answers: Cache<Digest, Answer>,
}

impl Exchange {
    /// An exchange that keeps answers for this long, at most [`MAX_AGE`].
    pub fn new(registry: PeerChannel, clock: Clock, max_age: Duration) -> Self {
        let answers = Cache::builder().max_capacity(CAPACITY).time_to_live(max_age.min(MAX_AGE)).build();
        Self { registry, clock, answers }
    }

    /// The user that the token belongs to. `context` is the request that asks.
    ///
    /// # Errors
    /// The registry's refusal of the token, or a fault if it does not answer.
    pub async fn user(&self, token: &Token, context: &CallContext) -> Result<User, Rejection> {
        let digest = Digest::from(Sha256::digest(token.expose()));
        let answer = match self.answers.get(&digest).await {
            Some(answer) => answer,
            None => {
                let asked = self.answers.try_get_with(digest, self.ask(token, context)).await;
                asked.map_err(|fault| Rejection::Fault(Fault::clone(&fault)))?
            }
        };
        match answer {
            Answer::Refused(refusal) => Err(refusal.into()),
            Answer::Known(identity) => match identity.expires_at {
                Some(expires_at) if expires_at <= self.clock.now() => {
                    Err(Refusal::new(Reason::UserTokenExpired).into())
                }
                _ => Ok(identity.user.clone()),
            },
        }
    }

    async fn ask(&self, token: &Token, context: &CallContext) -> Result<Answer, Fault> {
        let mut request = tonic::Request::new(AuthenticateUserTokenRequest { token: token.expose().to_owned() });
        request.extensions_mut().insert(CallContext {
            caller: Caller::Process(Process::Gateway),
            request_id: context.request_id.clone(),
            peer_address: context.peer_address,
        });
        match UserServiceClient::new(self.registry.clone()).authenticate_user_token(request).await {
            Ok(answer) => identity(answer.into_inner()).map(|identity| Answer::Known(Arc::new(identity))),
            Err(status) => match Rejection::from(status) {
                Rejection::Refusal(refusal) => Ok(Answer::Refused(refusal)),
                Rejection::Fault(fault) => Err(fault),
            },
        }
    }
}

fn identity(answer: AuthenticateUserTokenResponse) -> Result<Identity, Fault> {
    let expires_at = match answer.expires_at {
        Some(at) => {
            let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
            Some(OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(Fault::internal)?)
        }
        None => None,
    };
    let scopes = answer.scopes().filter(|scope| *scope != TokenScope::Unspecified).collect();
    Ok(Identity {
        user: User { id: answer.user_id, username: answer.username, admin: answer.admin, scopes },
        expires_at,
    })
}

//! Exchanges a personal access token for its user.
//!
//! The registry answers. Its answers, refusals included, are cached for at most a second under the digest of the token.
//! Concurrent requests with one token share one call.

use std::{sync::Arc, time::Duration};

use chassis::{
    access::{CallContext, Caller, User},
    client::PeerChannel,
    client_id::{ClientId, ResolvedClient},
    clock::Clock,
    status::{Fault, Refusal, Rejection},
};
use moka::future::Cache;
use proto::paddock::{
    contract::v1::{Process, Reason, TokenScope},
    directory::v1::{
        AuthenticateUserTokenRequest, AuthenticateUserTokenResponse, user_service_client::UserServiceClient,
    },
};
use time::OffsetDateTime;

use super::token::{self, Token, TokenDigest};

/// The longest time that an answer is cached. A revoked token is refused after this time at the latest.
pub const MAX_AGE: Duration = Duration::from_secs(1);

/// The most answers that are cached at the same time.
const CAPACITY: u64 = 10_000;

/// The registry's answer for a token.
#[derive(Clone, Debug)]
struct CachedAnswer {
    /// The owner of the token, also of a refused one; none if the token is unknown.
    owner: Option<ClientId>,
    verdict: Verdict,
}

#[derive(Clone, Debug)]
enum Verdict {
    Known(Arc<Identity>),
    Refused(Refusal),
}

#[derive(Debug)]
struct Identity {
    user: User,
    expires_at: Option<OffsetDateTime>,
}

/// The exchange with its cache.
pub struct UserTokenExchange {
    registry: PeerChannel,
    clock: Clock,
    answers: Cache<TokenDigest, CachedAnswer>,
}

impl UserTokenExchange {
    /// Returns an exchange that caches answers for this long, at most [`MAX_AGE`].
    pub fn new(registry: PeerChannel, clock: Clock, max_age: Duration) -> Self {
        let answers = Cache::builder().max_capacity(CAPACITY).time_to_live(max_age.min(MAX_AGE)).build();
        Self { registry, clock, answers }
    }

    /// Returns the user of the token. `context` is the request that presents it. `client` gets the name of the user, also
    /// when the token is refused.
    ///
    /// # Errors
    /// Returns the registry's refusal of the token, or a fault if the registry does not answer.
    pub async fn user(&self, token: &Token, context: &CallContext, client: &ResolvedClient) -> Result<User, Rejection> {
        let digest = token::digest(token);
        let answer = match self.answers.get(&digest).await {
            Some(answer) => answer,
            None => {
                let asked = self.answers.try_get_with(digest, self.ask_registry(token, context)).await;
                asked.map_err(|fault| Rejection::Fault(Fault::clone(&fault)))?
            }
        };
        if let Some(owner) = answer.owner {
            client.set(owner);
        }
        match answer.verdict {
            Verdict::Refused(refusal) => Err(refusal.into()),
            Verdict::Known(identity) => match identity.expires_at {
                Some(expires_at) if expires_at <= self.clock.now() => {
                    Err(Refusal::new(Reason::UserTokenExpired).into())
                }
                _ => Ok(identity.user.clone()),
            },
        }
    }

    async fn ask_registry(&self, token: &Token, context: &CallContext) -> Result<CachedAnswer, Fault> {
        let mut request = tonic::Request::new(AuthenticateUserTokenRequest { token: token.expose().to_owned() });
        let caller = Caller::Process(Process::Gateway);
        request.extensions_mut().insert(CallContext { caller, ..context.clone() });
        let client = ResolvedClient::default();
        request.extensions_mut().insert(client.clone());
        let verdict = match UserServiceClient::new(self.registry.clone()).authenticate_user_token(request).await {
            Ok(answer) => Verdict::Known(Arc::new(read_identity(answer.into_inner())?)),
            Err(status) => match Rejection::from(status) {
                Rejection::Refusal(refusal) => Verdict::Refused(refusal),
                Rejection::Fault(fault) => return Err(fault),
            },
        };
        Ok(CachedAnswer { owner: client.get(), verdict })
    }
}

/// Reads the user, the scopes and the expiry of an accepted token.
fn read_identity(answer: AuthenticateUserTokenResponse) -> Result<Identity, Fault> {
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

//! The signed identity of a call between processes: a JWT (RFC 7519, HS256) that names the end caller, the calling and the
//! called process, the method and the request. It expires after a minute.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use proto::paddock::contract::v1::{CredentialKind, Process, Reason, Secret, TokenScope};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{
    access::{CallContext, Caller, User},
    secrets::{self, SecretBytes, SecretError, SecretStore},
    status::Fault,
};

/// Seconds from issue to expiry.
const LIFETIME: i64 = 60;

/// Seconds that the clocks of two processes may differ.
const LEEWAY: i64 = 30;

/// The maximum length of a user agent, in bytes.
pub const MAX_USER_AGENT: usize = 256;

/// The time between two reads of the key files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// The keys that sign and verify identities. Clones share them. While [`IdentityKeys::watch`] runs, they follow the files.
#[derive(Clone)]
pub struct IdentityKeys(Arc<RwLock<Arc<KeySet>>>);

struct KeySet {
    current: Key,
    previous: Option<Key>,
}

struct Key {
    /// The first 16 hexadecimal digits of a domain-separated SHA-256: it identifies the key and reveals nothing of it.
    id: String,
    header: Header,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    jti: String,
    method: String,
    caller: CallerClaim,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ua: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallerClaim {
    Anonymous,
    Bearer(i32),
    User { id: i64, username: String, admin: bool, scopes: Vec<i32> },
    Process(i32),
}

impl IdentityKeys {
    /// Reads the current key, and the previous one if there is one.
    ///
    /// # Errors
    /// If a key file is missing or not as the contract demands.
    pub fn load(store: &SecretStore) -> Result<Self, SecretError> {
        let keys = KeySet::load(store)?;
        let secret = Secret::IdentityKey.spec().map(|spec| spec.name);
        tracing::info!(key_ids = ?keys.ids(), secret, "loaded identity keys");
        Ok(Self(Arc::new(RwLock::new(Arc::new(keys)))))
    }

    /// Makes keys of these bytes, for tests and for services that share a process.
    #[must_use]
    pub fn from_bytes(current: &SecretBytes, previous: Option<&SecretBytes>) -> Self {
        let keys = KeySet { current: Key::new(current), previous: previous.map(Key::new) };
        Self(Arc::new(RwLock::new(Arc::new(keys))))
    }

    /// Generates a random key.
    ///
    /// # Errors
    /// A fault if the system gives no random numbers.
    pub fn generate() -> Result<Self, Fault> {
        let mut bytes = vec![0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Fault::internal("the system gives no random numbers"))?;
        Ok(Self::from_bytes(&bytes.into(), None))
    }

    /// Returns the ids of the keys that verify, the signing key first.
    #[must_use]
    pub fn key_ids(&self) -> Vec<String> {
        self.current_keys().ids()
    }

    /// Follows the key files until shutdown. If they cannot be read, it warns and keeps the last good keys.
    pub async fn watch(self, store: SecretStore, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(RELOAD_INTERVAL)).await.is_some() {
            match KeySet::load(&store) {
                Ok(keys) if keys.ids() != self.key_ids() => {
                    tracing::info!(key_ids = ?keys.ids(), "identity keys changed");
                    *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                }
                Ok(_) => {}
                Err(error) => {
                    secrets::count_reload_failure();
                    tracing::warn!(%error, "cannot read the identity keys again, keeping the last good ones");
                }
            }
        }
    }

    /// Signs the context of a call.
    ///
    /// # Errors
    /// A fault if the identity cannot be signed; do not make the call then.
    pub fn sign(&self, context: &CallContext, call: &Call<'_>) -> Result<String, Fault> {
        let keys = self.current_keys();
        let iat = call.now.unix_timestamp();
        let claims = Claims {
            iss: call.speaker.name().into(),
            aud: call.audience.name().into(),
            iat,
            exp: iat + LIFETIME,
            jti: context.request_id.clone(),
            method: call.method.into(),
            caller: (&context.caller).into(),
            ip: context.peer_address,
            ua: context.user_agent.as_deref().map(cut_user_agent),
        };
        jsonwebtoken::encode(&keys.current.header, &claims, &keys.current.encoding).map_err(Fault::internal)
    }

    /// Verifies an identity for a method of this process.
    ///
    /// # Errors
    /// A fault that says what is wrong: between processes, a bad identity is never the end caller's mistake.
    pub fn verify(
        &self,
        identity: &str,
        audience: Process,
        method: &str,
        now: OffsetDateTime,
    ) -> Result<CallContext, Fault> {
        let claims = self.current_keys().decode_claims(identity)?;
        let now = now.unix_timestamp();
        if claims.aud != audience.name() || claims.method != method {
            let detail = format!("issued for {} {}", claims.aud, claims.method);
            return Err(Fault::of(Reason::IdentityWrongAudience, detail));
        }
        if now - LEEWAY >= claims.exp {
            let detail = format!("expired {} s ago, issued by {}", now - claims.exp, claims.iss);
            return Err(Fault::of(Reason::IdentityExpired, detail));
        }
        if now + LEEWAY < claims.iat {
            let detail = format!("dated {} s ahead, issued by {}", claims.iat - now, claims.iss);
            return Err(Fault::of(Reason::IdentityNotYetValid, detail));
        }
        let caller = Caller::try_from(claims.caller)?;
        Ok(CallContext { caller, request_id: claims.jti, peer_address: claims.ip, user_agent: claims.ua })
    }

    fn current_keys(&self) -> Arc<KeySet> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn cut_user_agent(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_USER_AGENT)].to_owned()
}

/// The call that an identity is signed for.
#[derive(Debug)]
pub struct Call<'a> {
    /// The process that calls.
    pub speaker: Process,
    /// The process that is called.
    pub audience: Process,
    /// The gRPC path.
    pub method: &'a str,
    /// The time of the call.
    pub now: OffsetDateTime,
}

impl KeySet {
    fn load(store: &SecretStore) -> Result<Self, SecretError> {
        let current = Key::new(&store.require(Secret::IdentityKey)?);
        let previous = store.read(Secret::IdentityKeyPrevious)?.as_ref().map(Key::new);
        Ok(Self { current, previous })
    }

    fn ids(&self) -> Vec<String> {
        self.all_keys().map(|key| key.id.clone()).collect()
    }

    fn all_keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    fn decode_claims(&self, identity: &str) -> Result<Claims, Fault> {
        let header = jsonwebtoken::decode_header(identity).map_err(malformed_identity)?;
        let id = header.kid.unwrap_or_default();
        let Some(key) = self.all_keys().find(|key| key.id == id) else {
            let detail = format!("signed with key {id:.16}, this process holds {:?}", self.ids());
            return Err(Fault::of(Reason::IdentityUnknownKey, detail));
        };
        let mut validation = Validation::new(Algorithm::HS256);
        // `verify` checks the times and the audience: it has our clock, and its faults say what differs.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        match jsonwebtoken::decode(identity, &key.decoding, &validation) {
            Ok(token) => Ok(token.claims),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {
                Err(Fault::of(Reason::IdentityBadSignature, error))
            }
            Err(error) => Err(malformed_identity(error)),
        }
    }
}

fn malformed_identity(error: impl std::fmt::Display) -> Fault {
    Fault::of(Reason::IdentityMalformed, error)
}

impl Key {
    fn new(secret: &SecretBytes) -> Self {
        let digest = Sha256::new().chain_update(b"paddock key id\0").chain_update(secret.expose()).finalize();
        let id = hex::encode(&digest[..8]);
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::HS256) };
        let bytes = secret.expose();
        Self { id, header, encoding: EncodingKey::from_secret(bytes), decoding: DecodingKey::from_secret(bytes) }
    }
}

impl From<&Caller> for CallerClaim {
    fn from(caller: &Caller) -> Self {
        match caller {
            Caller::Anonymous => Self::Anonymous,
            Caller::Bearer(kind) => Self::Bearer(*kind as i32),
            Caller::User(user) => Self::User {
                id: user.id,
                username: user.username.clone(),
                admin: user.admin,
                scopes: user.scopes.iter().map(|scope| *scope as i32).collect(),
            },
            Caller::Process(process) => Self::Process(*process as i32),
        }
    }
}

impl TryFrom<CallerClaim> for Caller {
    type Error = Fault;

    fn try_from(claim: CallerClaim) -> Result<Self, Fault> {
        Ok(match claim {
            CallerClaim::Anonymous => Self::Anonymous,
            CallerClaim::Bearer(kind) => Self::Bearer(CredentialKind::try_from(kind).map_err(malformed_identity)?),
            CallerClaim::User { id, username, admin, scopes } => {
                // A scope that this process does not know gives no access here.
                let scopes = scopes.into_iter().filter_map(|scope| TokenScope::try_from(scope).ok()).collect();
                Self::User(User { id, username, admin, scopes })
            }
            CallerClaim::Process(process) => Self::Process(Process::try_from(process).map_err(malformed_identity)?),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use time::Duration;

    use super::*;

    const METHOD: &str = "/a.v1.B/C";
    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn keys(byte: u8) -> IdentityKeys {
        IdentityKeys::from_bytes(&vec![byte; 32].into(), None)
    }

    fn key_pair(current: u8, previous: u8) -> IdentityKeys {
        IdentityKeys::from_bytes(&vec![current; 32].into(), Some(&vec![previous; 32].into()))
    }

    fn context(caller: Caller) -> CallContext {
        let peer_address = Some(IpAddr::from([10, 0, 0, 1]));
        CallContext { caller, request_id: "r-1".into(), peer_address, user_agent: Some("gitlab-runner 18.4.0".into()) }
    }

    fn sign(keys: &IdentityKeys) -> String {
        let call = Call { speaker: Process::Gateway, audience: Process::RunnerRegistry, method: METHOD, now: START };
        keys.sign(&context(Caller::Anonymous), &call).unwrap()
    }

    fn reason(result: Result<CallContext, Fault>) -> Option<Reason> {
        result.err().map(|fault| fault.reason())
    }

    #[test]
    fn every_caller_arrives_as_it_was_sent() {
        let user =
            User { id: 7, username: "u".into(), admin: true, scopes: vec![TokenScope::Api, TokenScope::ReadApi] };
        let bearer = Caller::Bearer(CredentialKind::RunnerToken);
        for caller in [Caller::Anonymous, bearer, Caller::User(user), Caller::Process(Process::Gateway)] {
            let call =
                Call { speaker: Process::Gateway, audience: Process::RunnerRegistry, method: METHOD, now: START };
            let identity = keys(1).sign(&context(caller.clone()), &call).unwrap();
            let verified = keys(1).verify(&identity, Process::RunnerRegistry, METHOD, START).unwrap();
            assert_eq!(verified, context(caller));
        }
    }

    #[test]
    fn a_user_agent_is_cut_to_its_maximum_length() {
        let call = Call { speaker: Process::Gateway, audience: Process::RunnerRegistry, method: METHOD, now: START };
        let cases = [
            (None, None),
            (Some(String::new()), Some(String::new())),
            (Some("a".repeat(256)), Some("a".repeat(256))),
            (Some("a".repeat(257)), Some("a".repeat(256))),
            // A character of three bytes does not fit into the last byte.
            (Some("\u{20ac}".repeat(100)), Some("\u{20ac}".repeat(85))),
        ];
        for (sent, expected) in cases {
            let context = CallContext { user_agent: sent, ..context(Caller::Anonymous) };
            let identity = keys(1).sign(&context, &call).unwrap();
            let verified = keys(1).verify(&identity, Process::RunnerRegistry, METHOD, START).unwrap();
            assert_eq!(verified.user_agent, expected);
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let identity = sign(&keys(1));
        let (signed, _) = identity.rsplit_once('.').unwrap();
        let call = Call { speaker: Process::Gateway, audience: Process::RunnerRegistry, method: "/other", now: START };
        let other = keys(1).sign(&context(Caller::Anonymous), &call).unwrap();
        let forged = format!("{signed}.{}", other.rsplit_once('.').unwrap().1);
        let unsigned = format!("{signed}.");
        let audience = Process::RunnerRegistry;
        let cases = [
            (keys(2).verify(&identity, audience, METHOD, START), Reason::IdentityUnknownKey),
            (keys(1).verify(&forged, audience, METHOD, START), Reason::IdentityBadSignature),
            (keys(1).verify(&unsigned, audience, METHOD, START), Reason::IdentityBadSignature),
            (keys(1).verify("rubbish", audience, METHOD, START), Reason::IdentityMalformed),
            (keys(1).verify(&identity, Process::JobTokenAuth, METHOD, START), Reason::IdentityWrongAudience),
            (keys(1).verify(&identity, audience, "/a.v1.B/D", START), Reason::IdentityWrongAudience),
            (keys(1).verify(&identity, audience, METHOD, START + Duration::seconds(90)), Reason::IdentityExpired),
            (keys(1).verify(&identity, audience, METHOD, START - Duration::seconds(31)), Reason::IdentityNotYetValid),
        ];
        for (result, expected) in cases {
            assert_eq!(reason(result), Some(expected));
        }
        assert_eq!(reason(keys(1).verify(&identity, audience, METHOD, START + Duration::seconds(89))), None);
        assert_eq!(reason(keys(1).verify(&identity, audience, METHOD, START - Duration::seconds(30))), None);
    }

    #[test]
    fn an_identity_with_another_algorithm_is_refused() {
        let header = Header { kid: keys(1).key_ids().pop(), ..Header::new(Algorithm::HS512) };
        let claims = serde_json::json!({ "iss": "gateway" });
        let identity = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&[1; 32])).unwrap();
        let result = keys(1).verify(&identity, Process::RunnerRegistry, METHOD, START);
        assert_eq!(reason(result), Some(Reason::IdentityMalformed));
    }

    #[test]
    fn a_key_that_all_hold_as_the_previous_one_may_become_current_on_each_at_its_own_time() {
        let before = key_pair(1, 2);
        let after = key_pair(2, 1);
        for (speaker, audience) in [(&before, &after), (&after, &before)] {
            assert_eq!(reason(audience.verify(&sign(speaker), Process::RunnerRegistry, METHOD, START)), None);
        }
    }

    #[test]
    fn the_previous_key_verifies_and_signs_nothing() {
        let both = key_pair(2, 1);
        assert_eq!(reason(both.verify(&sign(&keys(1)), Process::RunnerRegistry, METHOD, START)), None);
        let new = sign(&both);
        assert_eq!(
            reason(keys(1).verify(&new, Process::RunnerRegistry, METHOD, START)),
            Some(Reason::IdentityUnknownKey)
        );
    }
}

//! The keys that sign job tokens and the identities for upstreams: Ed25519 (RFC 8032), published as a JSON Web Key Set.
//!
//! What is signed says in its header what it is for, and is believed for nothing else (RFC 8725, section 3.11). Nothing that
//! a presented token brings along takes part in the choice of the key or of the algorithm.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::{
    secrets::{self, SecretBytes, SecretError, SecretStore},
    status::Fault,
};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use proto::paddock::{contract::v1::Secret, job_token::v1::SigningKey};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// How many bytes a signature has: RFC 8032, section 5.1.6.
const SIGNATURE_LENGTH: usize = 64;

/// How often the key files are read again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// The issuer of everything that is signed here.
pub const ISSUER: &str = "job-token-auth";

/// What a signed text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is the token of a job.
    Job,
    /// It tells an upstream who reaches it.
    Upstream,
}

impl Purpose {
    /// The `typ` of the header.
    #[must_use]
    pub fn header_type(self) -> &'static str {
        match self {
            Self::Job => "paddock-job+jwt",
            Self::Upstream => "paddock-upstream+jwt",
        }
    }
}

/// The keys in force. Clones share them; they follow the files on disk while [`SigningKeys::watch`] runs.
#[derive(Clone)]
pub struct SigningKeys(Arc<RwLock<Arc<KeySet>>>);

struct KeySet {
    current: Key,
    /// It verifies and signs nothing.
    previous: Option<Key>,
}

struct Key {
    /// The first 16 hexadecimal digits of a domain-separated SHA-256 of the public key.
    id: String,
    /// The public key, base64url.
    public: String,
    /// It signs by itself: jsonwebtoken would read it again for every signature.
    pair: Ed25519KeyPair,
    decoding: DecodingKey,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file is missing or not what the contract demands.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It has more bytes than a seed has.
    #[error("secret file {}: an Ed25519 seed has 32 bytes, written as 64 hexadecimal digits", file(*.0))]
    NoSeed(Secret),
}

/// Why a signed text is not believed, for the log.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// It is no signed text, as everybody can see without a key: cut off, or changed on its way.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its header, its claims or its signature are not what is made here.
    #[error("{0}")]
    NotOurs(String),
    /// Its key is none of those in force.
    #[error("it is signed with key {theirs:.16}, the keys in force are {ours:?}")]
    UnknownKey {
        /// The id that it gives.
        theirs: String,
        /// The ids of the keys in force.
        ours: Vec<String>,
    },
}

impl SigningKeys {
    /// Reads the current key, and the previous one if there is one.
    ///
    /// # Errors
    /// If a key file is missing or not what the contract demands.
    pub fn load(store: &SecretStore) -> Result<Self, KeyError> {
        let keys = KeySet::load(store)?;
        tracing::info!(key_ids = ?keys.ids(), "loaded the keys that sign job tokens");
        Ok(Self(Arc::new(RwLock::new(Arc::new(keys)))))
    }

    /// The keys made of these seeds; none if a seed has not 32 bytes.
    #[must_use]
    pub fn from_seeds(current: &SecretBytes, previous: Option<&SecretBytes>) -> Option<Self> {
        let previous = match previous {
            Some(seed) => Some(Key::new(seed)?),
            None => None,
        };
        Some(Self(Arc::new(RwLock::new(Arc::new(KeySet { current: Key::new(current)?, previous })))))
    }

    /// Follows the key files until shutdown. What cannot be read leaves the last good keys in force, with a warning.
    pub async fn watch(self, store: SecretStore, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(RELOAD_INTERVAL)).await.is_some() {
            self.reload(&store);
        }
    }

    fn reload(&self, store: &SecretStore) {
        match KeySet::load(store) {
            Ok(keys) if keys.ids() != self.keys().ids() => {
                tracing::info!(key_ids = ?keys.ids(), "the keys that sign job tokens changed");
                *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Ok(_) => {}
            Err(error) => {
                secrets::count_reload_failure();
                tracing::warn!(%error, "cannot read the keys that sign job tokens again, keeping the last good ones");
            }
        }
    }

    /// Signs claims with the current key.
    ///
    /// # Errors
    /// A fault if they cannot be signed.
    pub fn sign(&self, purpose: Purpose, claims: &impl Serialize) -> Result<String, Fault> {
        let keys = self.keys();
        let key = &keys.current;
        let part = |json: serde_json::Result<Vec<u8>>| json.map(|json| URL_SAFE_NO_PAD.encode(json));
        let header = part(serde_json::to_vec(&key.header(purpose))).map_err(Fault::internal)?;
        let claims = part(serde_json::to_vec(claims)).map_err(Fault::internal)?;
        let message = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(key.pair.sign(message.as_bytes()));
        // The compact serialization of RFC 7515, section 7.1.
        Ok(format!("{message}.{signature}"))
    }

    /// The claims of a text that one of the keys signed for this purpose and this audience. Their times are not looked at.
    ///
    /// # Errors
    /// Why the text is not believed.
    pub fn verify<T: DeserializeOwned>(&self, purpose: Purpose, audience: &str, text: &str) -> Result<T, Unverified> {
        check_form(text)?;
        let not_ours = |error: jsonwebtoken::errors::Error| Unverified::NotOurs(error.to_string());
        let header = jsonwebtoken::decode_header(text).map_err(not_ours)?;
        let keys = self.keys();
        let theirs = header.kid.clone().unwrap_or_default();
        let key = keys.all().find(|key| key.id == theirs);
        let key = key.ok_or_else(|| Unverified::UnknownKey { theirs, ours: keys.ids() })?;
        if header != key.header(purpose) {
            return Err(Unverified::NotOurs("its header is not the one of this purpose".to_owned()));
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["aud", "iss"]);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[ISSUER]);
        // The times are checked by the caller, who has our clock.
        validation.validate_exp = false;
        Ok(jsonwebtoken::decode(text, &key.decoding, &validation).map_err(not_ours)?.claims)
    }

    /// The public keys, the signing one first.
    #[must_use]
    pub fn public(&self) -> Vec<SigningKey> {
        self.keys().all().map(Key::message).collect()
    }

    fn keys(&self) -> Arc<KeySet> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a text has the form of what is signed here: three parts in base64url (RFC 7515, section 7.1), the first two of them
/// JSON objects, the last one as long as a signature of Ed25519.
fn check_form(text: &str) -> Result<(), Unverified> {
    let mut parts = [const { Vec::new() }; 3];
    let mut given = text.split('.');
    for part in &mut parts {
        let given = given.next().ok_or(Unverified::Malformed("it has less than three parts"))?;
        let decoded = URL_SAFE_NO_PAD.decode(given);
        *part = decoded.map_err(|_| Unverified::Malformed("one of its parts is not base64url"))?;
    }
    if given.next().is_some() {
        return Err(Unverified::Malformed("it has more than three parts"));
    }
    let [header, claims, signature] = parts;
    let is_object = |json: &[u8]| serde_json::from_slice::<HashMap<String, IgnoredAny>>(json).is_ok();
    if !is_object(&header) || !is_object(&claims) {
        return Err(Unverified::Malformed("its header or its claims are no JSON object"));
    }
    if signature.len() != SIGNATURE_LENGTH {
        return Err(Unverified::Malformed("its signature is too short or too long"));
    }
    Ok(())
}

fn file(secret: Secret) -> &'static str {
    secret.spec().map_or("", |spec| spec.file)
}

impl KeySet {
    fn load(store: &SecretStore) -> Result<Self, KeyError> {
        let key = |secret, seed: SecretBytes| Key::new(&seed).ok_or(KeyError::NoSeed(secret));
        let current = key(Secret::JobTokenSigningKey, store.require(Secret::JobTokenSigningKey)?)?;
        let previous = match store.read(Secret::JobTokenSigningKeyPrevious)? {
            Some(seed) => Some(key(Secret::JobTokenSigningKeyPrevious, seed)?),
            None => None,
        };
        Ok(Self { current, previous })
    }

    fn ids(&self) -> Vec<String> {
        self.all().map(|key| key.id.clone()).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl Key {
    fn new(seed: &SecretBytes) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?;
        let public = pair.public_key().as_ref();
        let digest = Sha256::new().chain_update(b"paddock signing key id\0").chain_update(public).finalize();
        Some(Self {
            id: hex::encode(&digest[..8]),
            public: URL_SAFE_NO_PAD.encode(public),
            decoding: DecodingKey::from_ed_der(public),
            pair,
        })
    }

    /// The whole header of what this key signs for the purpose: a header with anything else in it is not ours.
    fn header(&self, purpose: Purpose) -> Header {
        let typ = Some(purpose.header_type().to_owned());
        Header { typ, kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) }
    }

    fn message(&self) -> SigningKey {
        SigningKey {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: self.public.clone(),
            kid: self.id.clone(),
            alg: "EdDSA".to_owned(),
            r#use: "sig".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;

//! The keys that sign job tokens and the identities for upstreams: Ed25519 (RFC 8032), published as a JSON Web Key Set.
//!
//! The header of a signed text names its purpose, and the text is valid for this purpose only (RFC 8725, section 3.11). A presented
//! token cannot bring a key along, and does not choose the algorithm.

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

/// The length of a signature, in bytes: RFC 8032, section 5.1.6.
const SIGNATURE_LENGTH: usize = 64;

/// The interval between two reads of the key files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// The issuer of all signed texts.
pub const ISSUER: &str = "job-token-auth";

/// The purpose of a signed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A job token.
    Job,
    /// An identity for an upstream.
    Upstream,
}

impl Purpose {
    /// Returns the `typ` of the header.
    #[must_use]
    pub fn header_type(self) -> &'static str {
        match self {
            Self::Job => "paddock-job+jwt",
            Self::Upstream => "paddock-upstream+jwt",
        }
    }
}

/// The current keys. Clones share them. They follow the files on disk while [`SigningKeys::watch`] runs.
#[derive(Clone)]
pub struct SigningKeys(Arc<RwLock<Arc<KeySet>>>);

struct KeySet {
    current: Key,
    /// It verifies, but does not sign.
    previous: Option<Key>,
}

struct Key {
    /// The first 16 hexadecimal digits of a domain-separated SHA-256 of the public key.
    id: String,
    /// The public key, base64url.
    public: String,
    /// It signs directly: jsonwebtoken would parse the key again for every signature.
    pair: Ed25519KeyPair,
    decoding: DecodingKey,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file is missing, or its content is not what the contract demands.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The seed has more than 32 bytes.
    #[error("secret file {}: an Ed25519 seed has 32 bytes, written as 64 hexadecimal digits", file_name(*.0))]
    SeedTooLong(Secret),
}

/// Why a signed text is invalid, for the log.
#[derive(Debug, thiserror::Error)]
pub enum VerificationError {
    /// It does not have the form of a signed text; a key is not needed to see that.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its header, its claims or its signature are not those of a text that was signed here.
    #[error("{0}")]
    NotOurs(String),
    /// It is signed with a key that is not in use.
    #[error("it is signed with key {theirs:.16}, the keys in force are {ours:?}")]
    UnknownKey {
        /// The id of its key.
        theirs: String,
        /// The ids of the keys in use.
        ours: Vec<String>,
    },
}

impl SigningKeys {
    /// Reads the current key, and the previous one if there is one.
    ///
    /// # Errors
    /// If a key file is missing, or its content is not what the contract demands.
    pub fn load(store: &SecretStore) -> Result<Self, KeyError> {
        let keys = KeySet::load(store)?;
        tracing::info!(key_ids = ?keys.ids(), "loaded the keys that sign job tokens");
        Ok(Self(Arc::new(RwLock::new(Arc::new(keys)))))
    }

    /// Makes keys of seeds; none if a seed does not have 32 bytes.
    #[must_use]
    pub fn from_seeds(current: &SecretBytes, previous: Option<&SecretBytes>) -> Option<Self> {
        let previous = match previous {
            Some(seed) => Some(Key::new(seed)?),
            None => None,
        };
        Some(Self(Arc::new(RwLock::new(Arc::new(KeySet { current: Key::new(current)?, previous })))))
    }

    /// Follows the key files until shutdown. If they cannot be read, the last good keys stay in use, with a warning.
    pub async fn watch(self, store: SecretStore, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(RELOAD_INTERVAL)).await.is_some() {
            self.reload(&store);
        }
    }

    fn reload(&self, store: &SecretStore) {
        match KeySet::load(store) {
            Ok(keys) if keys.ids() != self.current_keys().ids() => {
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
        let keys = self.current_keys();
        let key = &keys.current;
        let header = encode_json(&key.header(purpose))?;
        let claims = encode_json(claims)?;
        let message = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(key.pair.sign(message.as_bytes()));
        // The compact serialization of RFC 7515, section 7.1.
        Ok(format!("{message}.{signature}"))
    }

    /// Returns the claims of a text that one of the keys signed for this purpose and this audience. It does not check their times.
    ///
    /// # Errors
    /// Why the text is invalid.
    pub fn verify<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        audience: &str,
        text: &str,
    ) -> Result<T, VerificationError> {
        check_form(text)?;
        let header = jsonwebtoken::decode_header(text).map_err(VerificationError::not_ours)?;
        let keys = self.current_keys();
        let theirs = header.kid.clone().unwrap_or_default();
        let key = keys.all_keys().find(|key| key.id == theirs);
        let key = key.ok_or_else(|| VerificationError::UnknownKey { theirs, ours: keys.ids() })?;
        if header != key.header(purpose) {
            return Err(VerificationError::NotOurs("its header is not the one of this purpose".to_owned()));
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["aud", "iss"]);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[ISSUER]);
        // The caller checks the times, with the clock of the process.
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode(text, &key.decoding, &validation).map_err(VerificationError::not_ours)?;
        Ok(decoded.claims)
    }

    /// Returns the public keys, the signing one first.
    #[must_use]
    pub fn public(&self) -> Vec<SigningKey> {
        self.current_keys().all_keys().map(Key::public_key).collect()
    }

    fn current_keys(&self) -> Arc<KeySet> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl VerificationError {
    fn not_ours(error: jsonwebtoken::errors::Error) -> Self {
        Self::NotOurs(error.to_string())
    }
}

/// Writes a part of a signed text: JSON in base64url.
fn encode_json(value: &impl Serialize) -> Result<String, Fault> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).map_err(Fault::internal)?))
}

/// Checks that a text has the form of a signed text: three parts in base64url (RFC 7515, section 7.1), of which the first two are
/// JSON objects and the last one has the length of an Ed25519 signature.
fn check_form(text: &str) -> Result<(), VerificationError> {
    let mut parts = [const { Vec::new() }; 3];
    let mut segments = text.split('.');
    for part in &mut parts {
        let segment = segments.next().ok_or(VerificationError::Malformed("it has less than three parts"))?;
        let decoded = URL_SAFE_NO_PAD.decode(segment);
        *part = decoded.map_err(|_| VerificationError::Malformed("one of its parts is not base64url"))?;
    }
    if segments.next().is_some() {
        return Err(VerificationError::Malformed("it has more than three parts"));
    }
    let [header, claims, signature] = parts;
    if !is_json_object(&header) || !is_json_object(&claims) {
        return Err(VerificationError::Malformed("its header or its claims are no JSON object"));
    }
    if signature.len() != SIGNATURE_LENGTH {
        return Err(VerificationError::Malformed("its signature is too short or too long"));
    }
    Ok(())
}

fn is_json_object(text: &[u8]) -> bool {
    serde_json::from_slice::<HashMap<String, IgnoredAny>>(text).is_ok()
}

fn file_name(secret: Secret) -> &'static str {
    secret.spec().map_or("", |spec| spec.file)
}

impl KeySet {
    fn load(store: &SecretStore) -> Result<Self, KeyError> {
        let current = Key::from_secret(Secret::JobTokenSigningKey, &store.require(Secret::JobTokenSigningKey)?)?;
        let previous = match store.read(Secret::JobTokenSigningKeyPrevious)? {
            Some(seed) => Some(Key::from_secret(Secret::JobTokenSigningKeyPrevious, &seed)?),
            None => None,
        };
        Ok(Self { current, previous })
    }

    fn ids(&self) -> Vec<String> {
        self.all_keys().map(|key| key.id.clone()).collect()
    }

    fn all_keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl Key {
    fn from_secret(secret: Secret, seed: &SecretBytes) -> Result<Self, KeyError> {
        Self::new(seed).ok_or(KeyError::SeedTooLong(secret))
    }

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

    /// Returns the header of the texts that this key signs for the purpose. A valid text has exactly this header.
    fn header(&self, purpose: Purpose) -> Header {
        let typ = Some(purpose.header_type().to_owned());
        Header { typ, kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) }
    }

    fn public_key(&self) -> SigningKey {
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

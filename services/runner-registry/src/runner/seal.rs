//! Seals the text of a successor token: a repeated rotation can return it, and the database alone does not reveal it.
//!
//! AES-256-GCM with a random nonce. The runner and the generation are authenticated too, so that a sealed text that was
//! moved to another row does not open.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Salt},
};
use chassis::{
    secrets::{SecretBytes, SecretError, SecretStore, SecretText},
    status::Fault,
};
use proto::paddock::contract::v1::Secret;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The keys that seal and open. The current one does both, the previous one only opens.
pub struct SealKeys {
    current: Key,
    previous: Option<Key>,
}

/// A sealed text, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The nonce, the ciphertext and its tag.
    pub bytes: Vec<u8>,
    /// The id of the key that sealed it.
    pub key_id: String,
}

/// The row of a token, which a sealed text is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The runner.
    pub runner_id: i64,
    /// The generation of its token.
    pub generation: i32,
}

/// Why a text cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system returned no random nonce.
    #[error("the text cannot be sealed")]
    Seal,
    /// The key that sealed it is neither the current nor the previous one.
    #[error("the key that sealed the text is not loaded")]
    UnknownKey,
    /// The sealed text was changed, or belongs to another row.
    #[error("the sealed text does not open")]
    Open,
}

struct Key {
    /// The first 16 hexadecimal digits of a domain-separated SHA-256. It tells keys apart without revealing them.
    id: String,
    key: RandomizedNonceKey,
}

impl SealKeys {
    /// Reads the current key, and the previous one if there is one.
    ///
    /// # Errors
    /// If a key file is missing or does not meet the contract.
    pub fn load(store: &SecretStore) -> Result<Self, LoadError> {
        let previous = store.read(Secret::SuccessorSealKeyPrevious)?;
        let keys = Self::from_bytes(&store.require(Secret::SuccessorSealKey)?, previous.as_ref())?;
        let secret = Secret::SuccessorSealKey.spec().map(|spec| spec.name);
        tracing::info!(key_ids = ?keys.key_ids(), secret, "loaded successor seal keys");
        Ok(keys)
    }

    /// Derives the keys from these bytes.
    ///
    /// # Errors
    /// A fault if no key can be derived.
    pub fn from_bytes(current: &SecretBytes, previous: Option<&SecretBytes>) -> Result<Self, Fault> {
        Ok(Self { current: Key::new(current)?, previous: previous.map(Key::new).transpose()? })
    }

    /// Generates a random key, for tests.
    ///
    /// # Errors
    /// A fault if the system gives no random numbers.
    pub fn generate() -> Result<Self, Fault> {
        let mut bytes = vec![0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Fault::internal("the system gives no random numbers"))?;
        Self::from_bytes(&bytes.into(), None)
    }

    /// Returns the ids of the keys that open, the sealing one first.
    #[must_use]
    pub fn key_ids(&self) -> Vec<&str> {
        self.all_keys().map(|key| key.id.as_str()).collect()
    }

    /// Seals a text for a row.
    ///
    /// # Errors
    /// When the system gives no random nonce.
    pub fn seal(&self, text: &str, row: TokenRow) -> Result<Sealed, SealError> {
        // Room for the tag, so that the growing buffer leaves no copy of the text behind.
        let mut buffer = Vec::with_capacity(text.len() + AES_256_GCM.tag_len());
        buffer.extend_from_slice(text.as_bytes());
        let nonce = self.current.key.seal_in_place_append_tag(Aad::from(row.bytes()), &mut buffer);
        let nonce = nonce.map_err(|_| SealError::Seal)?;
        let bytes = nonce.as_ref().iter().copied().chain(buffer).collect();
        Ok(Sealed { bytes, key_id: self.current.id.clone() })
    }

    /// Opens what was sealed for a row.
    ///
    /// # Errors
    /// When the key is not loaded, or the sealed text was changed or moved.
    pub fn open(&self, bytes: &[u8], key_id: &str, row: TokenRow) -> Result<SecretText, SealError> {
        let key = self.all_keys().find(|key| key.id == key_id).ok_or(SealError::UnknownKey)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(SealError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let text = key.key.open_in_place(nonce, Aad::from(row.bytes()), &mut buffer);
        let text = std::str::from_utf8(text.map_err(|_| SealError::Open)?).map_err(|_| SealError::Open)?;
        Ok(text.to_owned().into())
    }

    fn all_keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKeys")
    }
}

/// Why the keys cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A key file is missing or does not meet the contract.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No key can be derived.
    #[error("{}", .0.detail())]
    Derive(Fault),
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        Self::Derive(fault)
    }
}

impl TokenRow {
    fn bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.runner_id.to_be_bytes());
        bytes[8..].copy_from_slice(&self.generation.to_be_bytes());
        bytes
    }
}

impl Key {
    fn new(secret: &SecretBytes) -> Result<Self, Fault> {
        let digest = Sha256::new().chain_update(b"paddock seal key id\0").chain_update(secret.expose()).finalize();
        // A secret may be longer than the key; the derivation takes all of it.
        let mut bytes = Zeroizing::new([0; 32]);
        let source = Salt::none(HKDF_SHA256).extract(secret.expose());
        source
            .expand(&[b"paddock successor seal"], HKDF_SHA256)
            .and_then(|derived| derived.fill(&mut bytes[..]))
            .map_err(|_| Fault::internal("the successor seal key cannot be derived"))?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes[..]);
        let key = key.map_err(|_| Fault::internal("the successor seal key is not usable"))?;
        Ok(Self { id: hex::encode(&digest[..8]), key })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ROW: TokenRow = TokenRow { runner_id: 7, generation: 2 };

    fn secret(byte: u8) -> SecretBytes {
        SecretBytes::from(vec![byte; 32])
    }

    fn keys(current: u8, previous: Option<u8>) -> SealKeys {
        SealKeys::from_bytes(&secret(current), previous.map(secret).as_ref()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_for_its_row_only() {
        let keys = SealKeys::generate().unwrap();
        let sealed = keys.seal("a text", ROW).unwrap();
        assert!(!sealed.bytes.windows(6).any(|window| window == b"a text"));
        assert_eq!(keys.open(&sealed.bytes, &sealed.key_id, ROW).unwrap().expose(), "a text");
        for row in [TokenRow { runner_id: 8, ..ROW }, TokenRow { generation: 3, ..ROW }] {
            assert_eq!(keys.open(&sealed.bytes, &sealed.key_id, row).err(), Some(SealError::Open));
        }
    }

    #[test]
    fn no_two_seals_are_alike() {
        let keys = keys(1, None);
        assert_ne!(keys.seal("a text", ROW).unwrap(), keys.seal("a text", ROW).unwrap());
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let keys = keys(1, None);
        let sealed = keys.seal("a text", ROW).unwrap();
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.bytes.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open(&changed, &sealed.key_id, ROW).err(), Some(SealError::Open));
            assert_eq!(keys.open(&sealed.bytes[..at], &sealed.key_id, ROW).err(), Some(SealError::Open));
        }
    }

    #[test]
    fn the_previous_key_opens_and_does_not_seal() {
        let old = keys(1, None);
        let new = keys(2, Some(1));
        let newest = keys(3, Some(2));
        let sealed = old.seal("a text", ROW).unwrap();
        assert_eq!(new.open(&sealed.bytes, &sealed.key_id, ROW).unwrap().expose(), "a text");
        assert_eq!(newest.open(&sealed.bytes, &sealed.key_id, ROW).err(), Some(SealError::UnknownKey));
        let again = new.seal("a text", ROW).unwrap();
        assert_eq!(again.key_id, new.key_ids()[0]);
        assert_eq!(old.open(&again.bytes, &again.key_id, ROW).err(), Some(SealError::UnknownKey));
        assert_eq!(new.key_ids().len(), 2);
        assert_eq!(new.key_ids()[1], old.key_ids()[0]);
    }

    #[test]
    fn keys_are_loaded_from_the_files_of_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::open(folder.path());
        assert!(matches!(SealKeys::load(&store), Err(LoadError::Secret(_))));
        store.generate_missing(proto::paddock::contract::v1::Process::Paddock).unwrap();
        let keys = SealKeys::load(&store).unwrap();
        assert_eq!(keys.key_ids().len(), 1);
        assert_eq!(format!("{keys:?}"), "SealKeys");
    }
}

//! Secrets, read from the files that the contract names. A file with a mistake is refused when it is read.
//!
//! Nothing is trimmed or guessed, so that every reader accepts or refuses the same files.

use std::{
    fmt, fs,
    io::{self, Write as _},
    ops::Deref,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use proto::{
    contract::SecretSpec,
    paddock::contract::v1::{Process, Secret, SecretEncoding},
};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

/// A secret value. It never prints itself, and it is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Opaque<T: Zeroize>(Zeroizing<T>);

/// The content of a secret file.
pub type SecretBytes = Opaque<Vec<u8>>;

/// A secret text, for example that of a token.
pub type SecretText = Opaque<String>;

impl<T: Zeroize> Opaque<T> {
    /// Makes a value secret.
    pub fn new(value: impl Into<T>) -> Self {
        Self(Zeroizing::new(value.into()))
    }
}

impl<T: Zeroize + Deref> Opaque<T> {
    /// Returns the value.
    #[must_use]
    pub fn expose(&self) -> &T::Target {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Opaque<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

/// Why a secret cannot be used. The message names object, key and file, never the content.
#[derive(Debug, thiserror::Error)]
#[error("secret {name}, key {key}, file {}: {problem}", path.display())]
pub struct SecretError {
    name: &'static str,
    key: &'static str,
    path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no file.
    #[error("the file does not exist")]
    Missing,
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// White space before or after the value. Some readers would trim it.
    #[error("the value begins or ends with white space; write it without a line break, as with printf")]
    Padded,
    /// The value is not in the declared encoding.
    #[error("the value is not {0}")]
    Encoding(&'static str),
    /// The value has fewer bytes than the contract demands.
    #[error("the value has {actual} bytes, at least {least} are needed")]
    TooShort {
        /// The number of bytes that the contract demands.
        least: usize,
        /// The number of bytes found.
        actual: usize,
    },
    /// All bytes are the same.
    #[error("the value is a placeholder: one byte, repeated")]
    Placeholder,
    /// The contract does not describe the secret.
    #[error("the contract does not describe it")]
    Undescribed,
}

/// The settings of the section `secrets`.
#[derive(Clone, Debug, Deserialize)]
pub struct SecretsConfig {
    /// The folder of the secret files.
    pub folder: PathBuf,
}

/// The folder of the secret files.
#[derive(Clone, Debug)]
pub struct SecretStore {
    folder: PathBuf,
}

impl SecretStore {
    /// Takes the folder. Reads nothing yet.
    #[must_use]
    pub fn open(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Reads a required secret.
    ///
    /// # Errors
    /// If the file is missing or its content breaks a rule of the contract.
    pub fn require(&self, secret: Secret) -> Result<SecretBytes, SecretError> {
        let spec = self.spec(secret)?;
        self.read(secret)?.ok_or_else(|| self.error(spec, Problem::Missing))
    }

    /// Reads a secret. Returns `None` if there is no file.
    ///
    /// # Errors
    /// If the content breaks a rule of the contract.
    pub fn read(&self, secret: Secret) -> Result<Option<SecretBytes>, SecretError> {
        let spec = self.spec(secret)?;
        match fs::read(self.folder.join(spec.file)) {
            Ok(content) => {
                decode_secret(spec, Zeroizing::new(content)).map(Some).map_err(|problem| self.error(spec, problem))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(spec, error.into())),
        }
    }

    /// Generates every missing secret that the contract lets the process produce. Only the owner may read the files.
    ///
    /// # Errors
    /// If the folder or a file cannot be written.
    pub fn generate_missing(&self, process: Process) -> Result<(), SecretError> {
        for secret in Secret::ALL {
            let spec = self.spec(secret)?;
            if spec.produced_by.contains(&process) {
                self.generate(spec).map_err(|problem| self.error(spec, problem))?;
            }
        }
        Ok(())
    }

    fn generate(&self, spec: &SecretSpec) -> Result<(), Problem> {
        let path = self.folder.join(spec.file);
        if path.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let mut bytes = Zeroizing::new(vec![0; spec.min_bytes]);
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random numbers"))?;
        write_private(&path, Zeroizing::new(hex::encode(&*bytes)).as_bytes())?;
        Ok(())
    }

    fn spec(&self, secret: Secret) -> Result<&'static SecretSpec, SecretError> {
        secret.spec().ok_or_else(|| SecretError {
            name: "unspecified",
            key: "unspecified",
            path: self.folder.clone(),
            problem: Problem::Undescribed,
        })
    }

    fn error(&self, spec: &'static SecretSpec, problem: Problem) -> SecretError {
        SecretError { name: spec.name, key: spec.key, path: self.folder.join(spec.file), problem }
    }
}

/// Writes a file that only its owner may read, and replaces an existing one atomically.
///
/// # Errors
/// If the file cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Decodes the content of a file. Fails if it is not what the contract says about the secret.
fn decode_secret(spec: &SecretSpec, content: Zeroizing<Vec<u8>>) -> Result<SecretBytes, Problem> {
    let text = std::str::from_utf8(&content).map_err(|_| Problem::Encoding("text in UTF-8"))?;
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if text.trim() != text || text.starts_with('\u{feff}') || text.contains('\0') {
        return Err(Problem::Padded);
    }
    let bytes = match spec.encoding {
        SecretEncoding::Hex if text.bytes().any(|byte| byte.is_ascii_uppercase()) => None,
        SecretEncoding::Hex => hex::decode(text).ok(),
        SecretEncoding::Text => Some(text.as_bytes().to_vec()),
        SecretEncoding::Unspecified => None,
    };
    let bytes = SecretBytes::from(bytes.ok_or(Problem::Encoding("hexadecimal digits in lower case"))?);
    let actual = bytes.expose().len();
    if actual < spec.min_bytes {
        return Err(Problem::TooShort { least: spec.min_bytes, actual });
    }
    if bytes.expose().windows(2).all(|pair| pair[0] == pair[1]) {
        return Err(Problem::Placeholder);
    }
    Ok(bytes)
}

const RELOAD_FAILURES: &str = "paddock_secret_reload_failures_total";

/// Counts a failed reload of a key file. The last good content stays in force.
pub fn count_reload_failure() {
    metrics::describe_counter!(RELOAD_FAILURES, "times that a file with a key could not be read again");
    metrics::counter!(RELOAD_FAILURES).increment(1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn with_content(content: &[u8]) -> (tempfile::TempDir, SecretStore) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(Secret::IdentityKey.spec().unwrap().file), content).unwrap();
        let store = SecretStore::open(folder.path());
        (folder, store)
    }

    #[test]
    fn a_value_that_readers_could_disagree_on_is_refused() {
        let good = hex::encode((0..32).collect::<Vec<u8>>());
        let long = "ab".repeat(40_000);
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (b"".into(), "empty"),
            (b"   ".into(), "white space"),
            (format!("{good}\n").into(), "white space"),
            (format!("{good}\r\n").into(), "white space"),
            (format!(" {good}").into(), "white space"),
            (format!("\u{feff}{good}").into(), "white space"),
            (format!("{good}\0").into(), "white space"),
            (format!("\"{good}\"").into(), "hexadecimal"),
            (good.to_uppercase().into(), "hexadecimal"),
            (format!("{good}\u{e9}").into(), "hexadecimal"),
            (vec![0xff; 64], "UTF-8"),
            (good[..62].into(), "31 bytes, at least 32"),
            ("00".repeat(32).into(), "placeholder"),
            (long.into(), "placeholder"),
        ];
        for (content, expected) in cases {
            let (_folder, store) = with_content(&content);
            let error = store.require(Secret::IdentityKey).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}: {expected}");
            assert!(error.contains(Secret::IdentityKey.spec().unwrap().name), "{error}: names the object");
            assert!(!error.contains(&good[..16]), "{error}: shows the value");
        }
        let (_folder, store) = with_content(good.as_bytes());
        assert_eq!(store.require(Secret::IdentityKey).unwrap().expose().len(), 32);
    }

    #[test]
    fn a_missing_secret_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::open(folder.path());
        assert!(store.read(Secret::IdentityKeyPrevious).unwrap().is_none());
        let error = store.require(Secret::IdentityKey).unwrap_err();
        assert!(matches!(error.problem, Problem::Missing), "{error}");
    }

    #[test]
    fn missing_secrets_are_generated_once_and_privately() {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::open(folder.path().join("secrets"));
        store.generate_missing(Process::Paddock).unwrap();
        let first = store.require(Secret::IdentityKey).unwrap();
        store.generate_missing(Process::Paddock).unwrap();
        assert_eq!(store.require(Secret::IdentityKey).unwrap(), first, "an existing secret is kept");
        assert!(store.read(Secret::IdentityKeyPrevious).unwrap().is_none(), "no process produces it");
        for entry in fs::read_dir(folder.path().join("secrets")).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(format!("{first:?}"), "SecretBytes");
    }
}

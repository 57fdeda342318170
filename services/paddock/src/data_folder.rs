//! The folder that `paddock serve` keeps everything in. One process owns it at a time.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use chassis::secrets::{SecretStore, write_private};
use proto::paddock::contract::v1::Process;
use runner_registry::token::UserToken;

/// The folder, locked for this process.
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder when it is missing, and locks it.
    ///
    /// # Errors
    /// If it cannot be made, or another process serves from it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let open = || -> io::Result<File> {
            fs::create_dir_all(path)?;
            File::create(path.join("lock"))
        };
        let lock = open().with_context(|| format!("cannot use the data folder {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another process serves from {}; stop it, or set PADDOCK_DATA to another folder", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
        }
    }

    /// The secrets, generated on first start.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn secrets(&self) -> anyhow::Result<SecretStore> {
        let store = SecretStore::open(secrets(&self.path));
        store.generate_missing(Process::Paddock)?;
        Ok(store)
    }

    /// The file of the database.
    pub fn database(&self) -> PathBuf {
        self.path.join("runner-registry.sqlite")
    }

    /// Keeps the token of the first administrator where only the owner of the folder can read it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_root_token(&self, token: &UserToken) -> io::Result<()> {
        write_private(&self.root_token(), token.expose().as_bytes())
    }

    /// The file of the token of the first administrator.
    pub fn root_token(&self) -> PathBuf {
        root_token(&self.path)
    }
}

/// The folder of the secrets.
pub fn secrets(folder: &Path) -> PathBuf {
    folder.join("secrets")
}

/// The file of the token of the first administrator.
pub fn root_token(folder: &Path) -> PathBuf {
    folder.join("root.token")
}

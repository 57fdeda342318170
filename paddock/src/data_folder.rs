//! The folder that `paddock serve` keeps everything in. One process owns it at a time.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use chassis::secrets::{SecretStore, write_private};
use proto::paddock::contract::v1::Process;
use runner_registry::UserToken;

/// The folder, locked for this process.
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder when it is missing, for its owner alone, and locks it.
    ///
    /// # Errors
    /// If it cannot be made, or another process serves from it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let open = || -> io::Result<File> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
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
        database(&self.path)
    }

    /// The file of the database of job-token-auth.
    pub fn job_database(&self) -> PathBuf {
        self.path.join("job-token-auth.sqlite")
    }

    /// The folder of captures that wait to be shipped.
    pub fn spool(&self) -> PathBuf {
        spool(&self.path)
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

/// The file of the database.
pub fn database(folder: &Path) -> PathBuf {
    folder.join("runner-registry.sqlite")
}

/// The folder of captures that wait to be shipped.
pub fn spool(folder: &Path) -> PathBuf {
    folder.join("spool")
}

/// The folder of the secrets.
pub fn secrets(folder: &Path) -> PathBuf {
    folder.join("secrets")
}

/// The file of the token of the first administrator.
pub fn root_token(folder: &Path) -> PathBuf {
    folder.join("root.token")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_folder_is_for_its_owner_alone_and_for_one_process() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let folder = DataFolder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(DataFolder::open(&path).is_err());
        drop(folder);
        assert!(DataFolder::open(&path).is_ok());
    }
}

//! The folder with all data of `paddock serve`. Only one process uses it at a time.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use chassis::{
    db::{self, DatabaseConnection, DatabaseLocation},
    secrets::{SecretStore, write_private},
};
use proto::paddock::contract::v1::Process;
use runner_registry::UserToken;

/// The folder, locked for this process.
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if it is missing, readable by its owner alone, and locks it.
    ///
    /// # Errors
    /// If it cannot be created, or another process has locked it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let lock = create_lock_file(path).with_context(|| format!("cannot use the data folder {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another process serves from {}; stop it, or set PADDOCK_DATA to another folder", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
        }
    }

    /// Opens the secrets. Generates those that are missing.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn open_secrets(&self) -> anyhow::Result<SecretStore> {
        let store = SecretStore::open(secrets_folder(&self.path));
        store.generate_missing(Process::Paddock)?;
        Ok(store)
    }

    /// Connects to the database of runner-registry.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn connect_registry(&self, max_connections: u32) -> anyhow::Result<DatabaseConnection> {
        open_database(registry_database(&self.path), max_connections).await
    }

    /// Connects to the database of job-token-auth.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn connect_job_token_auth(&self, max_connections: u32) -> anyhow::Result<DatabaseConnection> {
        open_database(job_token_auth_database(&self.path), max_connections).await
    }

    /// Returns the folder of the spool: captures that are written here before they are shipped.
    pub fn spool(&self) -> PathBuf {
        spool(&self.path)
    }

    /// Writes the token of the first administrator to a file that only its owner can read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_root_token(&self, token: &UserToken) -> io::Result<()> {
        write_private(&self.root_token(), token.expose().as_bytes())
    }

    /// Returns the file with the token of the first administrator.
    pub fn root_token(&self) -> PathBuf {
        root_token(&self.path)
    }
}

fn create_lock_file(folder: &Path) -> io::Result<File> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    File::create(folder.join("lock"))
}

async fn open_database(file: PathBuf, max_connections: u32) -> anyhow::Result<DatabaseConnection> {
    let location = DatabaseLocation::Sqlite(file);
    db::connect(&location, max_connections).await.context("cannot open the database")
}

/// Returns the file of the database of runner-registry.
pub fn registry_database(folder: &Path) -> PathBuf {
    folder.join("runner-registry.sqlite")
}

/// Returns the file of the database of job-token-auth.
fn job_token_auth_database(folder: &Path) -> PathBuf {
    folder.join("job-token-auth.sqlite")
}

/// Returns the folder of the spool: captures that are written here before they are shipped.
pub fn spool(folder: &Path) -> PathBuf {
    folder.join("spool")
}

/// Returns the folder of the secrets.
pub fn secrets_folder(folder: &Path) -> PathBuf {
    folder.join("secrets")
}

/// Returns the file with the token of the first administrator.
pub fn root_token(folder: &Path) -> PathBuf {
    folder.join("root.token")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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

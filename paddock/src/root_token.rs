//! `paddock root-token`: replaces a lost token of the first administrator.

use std::io::{self, Write as _};

use anyhow::ensure;
use chassis::{clock::Clock, db};

use crate::{
    config::Config,
    data_folder::{self, DataFolder},
};

/// Revokes the lost token, writes a new one to its file, and prints the path of the file.
pub async fn replace(config: &Config) -> anyhow::Result<()> {
    let file = data_folder::registry_database(&config.data);
    ensure!(file.exists(), "{} does not exist; start `paddock serve` once, it writes the token", file.display());
    let folder = DataFolder::open(&config.data)?;
    let database = folder.connect_registry(1).await?;
    let token = runner_registry::replace_root_token(&database, &Clock::system()).await;
    db::close(&database).await;
    folder.write_root_token(&token?)?;
    let written = folder.root_token();
    writeln!(io::stdout(), "wrote a new token to {}; the one before is revoked", written.display())?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_without_a_database_is_left_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let config = Config { data: data.clone(), ..crate::config::load(None).unwrap() };
        let error = replace(&config).await.unwrap_err().to_string();
        assert!(error.contains("paddock serve"), "{error}");
        assert!(!data.exists());
    }
}

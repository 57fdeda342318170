//! `paddock root-token`: for an operator who has lost the token of the first administrator.

use std::io::Write as _;

use anyhow::ensure;
use chassis::{clock::Clock, db};

use crate::{
    config::Config,
    data_folder::{self, DataFolder},
    serve::open_database,
};

/// Revokes the lost token, writes a new one to its place, and prints the name of the file.
pub async fn replace(config: &Config) -> anyhow::Result<()> {
    let database = data_folder::database(&config.data);
    ensure!(
        database.exists(),
        "{} does not exist; start `paddock serve` once, it writes the token",
        database.display()
    );
    let folder = DataFolder::open(&config.data)?;
    let database = open_database(&folder, 1).await?;
    let token = runner_registry::replace_root_token(&database, &Clock::system()).await;
    db::close(&database).await;
    folder.write_root_token(&token?)?;
    let file = folder.root_token();
    writeln!(std::io::stdout(), "wrote a new token to {}; the one before is revoked", file.display())?;
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

//! `paddock root-token`: for an operator who has lost the token of the first administrator.

use std::io::Write as _;

use chassis::clock::Clock;

use crate::{config::Config, data_folder::DataFolder, serve::open_database};

/// Revokes the lost token, writes a new one to its place, and prints the name of the file.
pub async fn replace(config: &Config) -> anyhow::Result<()> {
    let folder = DataFolder::open(&config.data)?;
    let database = open_database(&folder, 1).await?;
    let token = runner_registry::replace_root_token(&database, &Clock::system()).await?;
    folder.write_root_token(&token)?;
    writeln!(std::io::stdout(), "{}", folder.root_token().display())?;
    Ok(())
}

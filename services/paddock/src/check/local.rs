//! What can be seen on this machine without a running server.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use chassis::secrets::SecretStore;
use proto::contract::SecretSpec;
use proto::paddock::contract::v1::{Process, Secret};

use super::report::{Finding, Report};
use crate::{config::Config, data_folder};

pub fn check(config: &Config, report: &mut Report) {
    let folder = &config.data;
    if !folder.is_dir() {
        let finding = format!("{} does not exist", folder.display());
        report.add(Finding::bad(
            "data-folder",
            finding,
            "Start `paddock serve` once, or set PADDOCK_DATA to its folder.",
        ));
        return;
    }
    report.add(Finding::good("data-folder", format!("everything is kept in {}", folder.display())));
    check_secrets(folder, report);
    report.add(root_token(&data_folder::root_token(folder), data_folder::database(folder).exists()));
}

fn check_secrets(folder: &Path, report: &mut Report) {
    let store = SecretStore::open(data_folder::secrets(folder));
    let produced = |spec: &SecretSpec| spec.produced_by.contains(&Process::Paddock);
    for secret in Secret::ALL.into_iter().filter(|secret| secret.spec().is_some_and(produced)) {
        report.add(match store.require(secret) {
            Ok(_) => Finding::good("secrets", format!("{} is sound", secret.spec().map_or("", |spec| spec.file))),
            Err(error) => {
                let remedy = "Restore the file from a backup; `paddock serve` makes a new one only when there is none.";
                Finding::bad("secrets", error.to_string(), remedy)
            }
        });
    }
}

fn root_token(path: &Path, has_database: bool) -> Finding {
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let finding = format!("others than its owner may read {}", path.display());
            Finding::bad("root-token", finding, format!("Run: chmod 600 {}", path.display()))
        }
        Ok(_) => Finding::good("root-token", format!("only its owner may read {}", path.display())),
        Err(error) => {
            let remedy = if has_database {
                "Stop the server and run `paddock root-token`, which makes a new token."
            } else {
                "Start `paddock serve` once; it writes the token on first start."
            };
            Finding::warning("root-token", format!("{}: {error}", path.display()), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_token_is_not_written_by_another_start() {
        let lost = Path::new("/nowhere/root.token");
        assert!(root_token(lost, false).remedy.contains("first start"));
        assert!(root_token(lost, true).remedy.contains("paddock root-token"));
    }
}

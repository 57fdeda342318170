//! What can be seen on this machine without a running server.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use chassis::secrets::{Problem, SecretStore};
use proto::contract::SecretSpec;
use proto::paddock::contract::v1::{Process, Secret};

use super::report::{Finding, Report};
use crate::{config::Config, data_folder};

pub fn check(config: &Config, report: &mut Report) {
    let folder = &config.data;
    if let Some(finding) = absent(folder) {
        let remedy = "Start `paddock serve` once, or set PADDOCK_DATA to the folder that it uses.";
        report.add(Finding::bad("data-folder", finding, remedy));
        return;
    }
    report.add(Finding::good("data-folder", format!("everything is kept in {}", folder.display())));
    check_secrets(folder, report);
    report.add(root_token(&data_folder::root_token(folder)));
    report.add(spool(&data_folder::spool(folder)));
}

/// Why the folder is not that of an installation.
fn absent(folder: &Path) -> Option<String> {
    let what = match fs::metadata(folder) {
        Err(error) => error.to_string(),
        Ok(metadata) if !metadata.is_dir() => "is not a folder".to_owned(),
        Ok(_) => match fs::metadata(data_folder::database(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "nothing was installed here yet".to_owned(),
            Err(error) => error.to_string(),
            Ok(_) => return None,
        },
    };
    Some(format!("{}: {what}", folder.display()))
}

/// What to do about a secret that cannot be used.
fn remedy(problem: &Problem) -> &'static str {
    match problem {
        Problem::Io(_) => "Give the user that runs `paddock serve` the right to read it.",
        Problem::Padded => "Write the value again without white space around it, as with printf.",
        Problem::Missing => {
            "Restore the file from a backup; without it, `paddock serve` makes a new one at the next start."
        }
        Problem::Empty
        | Problem::Encoding(_)
        | Problem::TooShort { .. }
        | Problem::Placeholder
        | Problem::Undescribed => "Restore the file from a backup, or remove it: `paddock serve` then makes a new one.",
    }
}

fn check_secrets(folder: &Path, report: &mut Report) {
    let store = SecretStore::open(data_folder::secrets(folder));
    let produced = |spec: &SecretSpec| spec.produced_by.contains(&Process::Paddock);
    for secret in Secret::ALL.into_iter().filter(|secret| secret.spec().is_some_and(produced)) {
        report.add(match store.require(secret) {
            Ok(_) => Finding::good("secrets", format!("{} is sound", secret.spec().map_or("", |spec| spec.file))),
            Err(error) => Finding::bad("secrets", error.to_string(), remedy(&error.problem)),
        });
    }
}

fn root_token(path: &Path) -> Finding {
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let finding = format!("others than its owner may read {}", path.display());
            Finding::bad("root-token", finding, format!("Run: chmod 600 {}", path.display()))
        }
        Ok(_) => Finding::good("root-token", format!("only its owner may read {}", path.display())),
        Err(error) => {
            let remedy = "Stop the server and run `paddock root-token`, which makes a new token.";
            Finding::warning("root-token", format!("{}: {error}", path.display()), remedy)
        }
    }
}

/// Whether captures can be spooled, and how many bytes of them wait. A missing folder is made at the next start.
fn spool(folder: &Path) -> Finding {
    let written = || -> io::Result<u64> {
        let probe = folder.join("check.tmp");
        fs::write(&probe, b"x")?;
        fs::remove_file(&probe)?;
        let sizes = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
        sizes.sum()
    };
    match written() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::good("spool", format!("{} is made at the next start", folder.display()))
        }
        Ok(bytes) => Finding::good("spool", format!("{} can be written and holds {bytes} bytes", folder.display())),
        Err(error) => {
            let remedy = "Make room on its disk, or give the user that runs `paddock serve` the right to write there.";
            Finding::bad("spool", format!("{}: {error}", folder.display()), remedy)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::check::report::Severity;

    #[test]
    fn a_spool_that_cannot_be_written_is_bad_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(spool(&folder.path().join("missing")).severity, Severity::Good);
        fs::write(folder.path().join("1.spool"), "12345").unwrap();
        let found = spool(folder.path());
        assert!(found.severity == Severity::Good && found.finding.ends_with("holds 5 bytes"), "{}", found.finding);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        let file = folder.path().join("1.spool");
        assert_eq!(spool(&file).severity, Severity::Bad);
    }

    #[test]
    fn a_lost_token_is_not_written_by_another_start() {
        assert!(root_token(Path::new("/nowhere/root.token")).remedy.contains("paddock root-token"));
    }

    #[test]
    fn a_folder_that_is_none_or_holds_nothing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(absent(folder.path()).unwrap().ends_with("nothing was installed here yet"));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(absent(&file).unwrap().ends_with("is not a folder"));
        fs::write(data_folder::database(folder.path()), "").unwrap();
        assert_eq!(absent(folder.path()), None);
    }
}

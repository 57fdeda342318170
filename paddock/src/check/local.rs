//! What can be seen on this machine without a running server.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    report::{Finding, Report},
    secrets,
};
use crate::{config::Config, data_folder};

/// What to do when the folder belongs to somebody else.
const REMEDY_PERMISSION: &str = "Run `paddock check` as the user that runs `paddock serve`.";

/// Whether there is an installation, beside what is wrong with it.
pub fn check(config: &Config, report: &mut Report) -> bool {
    let folder = &config.data;
    report.add(protected_routes(config));
    if let Some(finding) = absent(folder) {
        report.add(finding);
        return false;
    }
    report.add(Finding::good("data-folder", format!("everything is kept in {}", folder.display())));
    secrets::check(config, report);
    report.add(root_token(&data_folder::root_token(folder)));
    report.add(spool(&data_folder::spool(folder)));
    true
}

fn protected_routes(config: &Config) -> Finding {
    match gateway::protected_routes(&config.gateway()) {
        Ok((served, 0)) => Finding::good("protected-routes", format!("{served} protected routes are served")),
        Ok((served, left_out)) => {
            let finding = format!(
                "{served} protected routes are served; {left_out} are not, because no upstream is set (PADDOCK_UPSTREAM)"
            );
            Finding::good("protected-routes", finding)
        }
        Err(error) => {
            let remedy = "Correct the table, or gateway.protected_routes_file, which names it.";
            Finding::bad("protected-routes", error.to_string(), remedy)
        }
    }
}

/// What to do about a file that cannot be looked at.
fn remedy_of(error: &io::Error, other: &'static str) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { REMEDY_PERMISSION } else { other }
}

/// Why the folder is not that of an installation.
fn absent(folder: &Path) -> Option<Finding> {
    let start = "Start `paddock serve` once, or set PADDOCK_DATA to the folder that it uses.";
    let failed = |error: io::Error| (error.to_string(), remedy_of(&error, start));
    let (what, remedy) = match fs::metadata(folder) {
        Err(error) => failed(error),
        Ok(metadata) if !metadata.is_dir() => ("is not a folder".to_owned(), start),
        Ok(_) => match fs::metadata(data_folder::database(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                ("nothing was installed here yet".to_owned(), start)
            }
            Err(error) => failed(error),
            Ok(_) => return None,
        },
    };
    Some(Finding::bad("data-folder", format!("{}: {what}", folder.display()), remedy))
}

fn root_token(path: &Path) -> Finding {
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let finding = format!("others than its owner may read {}", path.display());
            Finding::bad("root-token", finding, format!("Run: chmod 600 {}", path.display()))
        }
        Ok(_) => Finding::good("root-token", format!("only its owner may read {}", path.display())),
        Err(error) => {
            let lost = "Stop the server and run `paddock root-token`, which makes a new token.";
            let remedy = remedy_of(&error, lost);
            Finding::warning("root-token", format!("{}: {error}", path.display()), remedy)
        }
    }
}

/// Whether captures can be spooled, and how many bytes of them wait. A missing folder is made
/// when the first one comes.
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
            Finding::good("spool", format!("{} is made when it is first needed", folder.display()))
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
        let finding = |folder: &Path| absent(folder).map(|finding| finding.finding).unwrap_or_default();
        assert!(finding(folder.path()).ends_with("nothing was installed here yet"));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(finding(&file).ends_with("is not a folder"));
        fs::write(data_folder::database(folder.path()), "").unwrap();
        assert!(absent(folder.path()).is_none());
    }

    #[test]
    fn a_folder_of_another_user_is_told_as_that() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(remedy_of(&denied(), "start"), REMEDY_PERMISSION);
        assert_eq!(remedy_of(&io::ErrorKind::NotFound.into(), "start"), "start");
    }
}

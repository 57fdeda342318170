//! Checks what is on this machine, without a running server: the protected routes, the data folder, and the files in it.

use std::{fs, io, path::Path};

use super::{
    private_file::readable_by_others,
    report::{Finding, Report},
    secrets,
};
use crate::{config::Config, data_folder};

const REMEDY_NOT_PERMITTED: &str = "Run `paddock check` as the user that runs `paddock serve`.";

const REMEDY_NOT_INSTALLED: &str = "Start `paddock serve` once, or set PADDOCK_DATA to the folder that it uses.";

/// Adds the findings to the report. Returns whether the data folder holds an installation.
pub fn check(config: &Config, report: &mut Report) -> bool {
    let folder = &config.data;
    report.add(protected_routes(config));
    if let Some(finding) = not_installed(folder) {
        report.add(finding);
        return false;
    }
    report.add(Finding::good("data-folder", format!("everything is kept in {}", folder.display())));
    secrets::check(config, report);
    report.add(root_token(&data_folder::root_token(folder)));
    report.add(check_spool(&data_folder::spool(folder)));
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

/// Returns the remedy for a file that cannot be read: `otherwise`, unless the permission is missing.
fn remedy_of(error: &io::Error, otherwise: &'static str) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => REMEDY_NOT_PERMITTED,
        _ => otherwise,
    }
}

/// Returns a finding if the folder does not hold an installation.
fn not_installed(folder: &Path) -> Option<Finding> {
    let (problem, remedy) = installation_problem(folder)?;
    Some(Finding::bad("data-folder", format!("{}: {problem}", folder.display()), remedy))
}

fn installation_problem(folder: &Path) -> Option<(String, &'static str)> {
    match fs::metadata(folder) {
        Ok(metadata) if !metadata.is_dir() => return Some(("is not a folder".to_owned(), REMEDY_NOT_INSTALLED)),
        Ok(_) => {}
        Err(error) => return Some((error.to_string(), remedy_of(&error, REMEDY_NOT_INSTALLED))),
    }
    match fs::metadata(data_folder::registry_database(folder)) {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(("nothing was installed here yet".to_owned(), REMEDY_NOT_INSTALLED))
        }
        Err(error) => Some((error.to_string(), remedy_of(&error, REMEDY_NOT_INSTALLED))),
    }
}

fn root_token(path: &Path) -> Finding {
    match fs::metadata(path) {
        Ok(metadata) => readable_by_others("root-token", path, &metadata)
            .unwrap_or_else(|| Finding::good("root-token", format!("only its owner may read {}", path.display()))),
        Err(error) => {
            let lost = "Stop the server and run `paddock root-token`, which makes a new token.";
            let remedy = remedy_of(&error, lost);
            Finding::warning("root-token", format!("{}: {error}", path.display()), remedy)
        }
    }
}

/// Checks that the spool can be written, and reports its size. A missing spool is created for the first capture.
fn check_spool(folder: &Path) -> Finding {
    let shown = folder.display();
    match write_probe(folder).and_then(|()| size_of_files(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::good("spool", format!("{shown} is made when it is first needed"))
        }
        Ok(bytes) => Finding::good("spool", format!("{shown} can be written and holds {bytes} bytes")),
        Err(error) => {
            let remedy = "Make room on its disk, or give the user that runs `paddock serve` the right to write there.";
            Finding::bad("spool", format!("{shown}: {error}"), remedy)
        }
    }
}

/// Writes a small file to the folder and removes it again.
fn write_probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join("check.tmp");
    fs::write(&probe, b"x")?;
    fs::remove_file(&probe)
}

fn size_of_files(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::check::report::Severity;

    #[test]
    fn a_spool_that_cannot_be_written_is_bad_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_spool(&folder.path().join("missing")).severity, Severity::Good);
        fs::write(folder.path().join("1.spool"), "12345").unwrap();
        let found = check_spool(folder.path());
        assert!(found.severity == Severity::Good && found.finding.ends_with("holds 5 bytes"), "{}", found.finding);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        let file = folder.path().join("1.spool");
        assert_eq!(check_spool(&file).severity, Severity::Bad);
    }

    #[test]
    fn a_lost_token_needs_the_command_root_token() {
        assert!(root_token(Path::new("/nowhere/root.token")).remedy.contains("paddock root-token"));
    }

    #[test]
    fn a_folder_without_an_installation_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        assert!(not_installed(folder.path()).unwrap().finding.ends_with("nothing was installed here yet"));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(not_installed(&file).unwrap().finding.ends_with("is not a folder"));
        fs::write(data_folder::registry_database(folder.path()), "").unwrap();
        assert!(not_installed(folder.path()).is_none());
    }

    #[test]
    fn a_missing_permission_has_its_own_remedy() {
        assert_eq!(remedy_of(&io::ErrorKind::PermissionDenied.into(), "start"), REMEDY_NOT_PERMITTED);
        assert_eq!(remedy_of(&io::ErrorKind::NotFound.into(), "start"), "start");
    }
}

//! Whether every secret that the settings need can be used, and only its owner reads it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use chassis::secrets::{Problem, SecretError, SecretStore};
use job_token_auth::{
    config::CaptureStoreKind,
    job_token::keys::{KeyError, SigningKeys},
};
use proto::contract::SecretSpec;
use proto::paddock::contract::v1::{Process, Secret};

use super::report::{Finding, Report};
use crate::{config::Config, data_folder};

/// Whether `paddock serve` reads a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It makes it at its start when it is missing.
    Produced,
    /// An operator must have written it.
    Required,
    /// It counts when it is there.
    Optional,
    /// It is not read with these settings.
    None,
}

pub fn check(config: &Config, report: &mut Report) {
    let folder = data_folder::secrets(&config.data);
    let store = SecretStore::open(&folder);
    let mut are_sound = true;
    for secret in Secret::ALL {
        let Some(spec) = secret.spec() else { continue };
        let need = need(secret, spec, config);
        let read = match need {
            Need::None => continue,
            Need::Optional => store.read(secret),
            Need::Produced | Need::Required => store.require(secret).map(Some),
        };
        let finding = match read {
            Ok(None) => continue,
            Ok(Some(_)) => private(&folder.join(spec.file), spec),
            Err(error) => Finding::bad("secrets", error.to_string(), remedy(&error, need)),
        };
        are_sound &= finding.remedy.is_empty();
        report.add(finding);
    }
    // What only the reader of a secret knows of it.
    if are_sound && let Err(error @ KeyError::SeedTooLong(_)) = SigningKeys::load(&store) {
        report.add(Finding::bad("secrets", error.to_string(), "Write a key with as many digits."));
    }
}

fn need(secret: Secret, spec: &SecretSpec, config: &Config) -> Need {
    match secret {
        // `paddock serve` refuses another database than SQLite.
        Secret::RegistryDatabaseUrl | Secret::JobTokenAuthDatabaseUrl => Need::None,
        Secret::CapturesRedisUrl => match config.job_token_auth.captures.store {
            CaptureStoreKind::Database => Need::None,
            CaptureStoreKind::Redis => Need::Required,
        },
        _ if spec.produced_by.contains(&Process::Paddock) => Need::Produced,
        _ => Need::Optional,
    }
}

fn private(path: &Path, spec: &SecretSpec) -> Finding {
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let finding = format!("others than its owner may read {}", path.display());
            Finding::bad("secrets", finding, format!("Run: chmod 600 {}", path.display()))
        }
        _ => Finding::good("secrets", format!("{} is sound", spec.file)),
    }
}

/// What to do about a secret that cannot be used.
fn remedy(error: &SecretError, need: Need) -> &'static str {
    match (&error.problem, need) {
        (Problem::Io(_), _) => "Give the user that runs `paddock serve` the right to read it.",
        (Problem::Padded, _) => "Write the value again without white space around it, as with printf.",
        (Problem::Missing, Need::Produced) => {
            "Restore the file from a backup; without it, `paddock serve` makes a new one at the next start."
        }
        (Problem::Missing, _) => "Write the value to this file, which only its owner may read, without a line break.",
        (_, Need::Produced) => "Restore the file from a backup, or remove it: `paddock serve` then makes a new one.",
        (_, Need::Optional) => "Write the key from before the last rotation, or remove the file when nothing needs it.",
        (_, _) => "Write the value again; docs/reference/secrets.md says what it must be.",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::check::report::Severity;

    fn file(secret: Secret) -> &'static str {
        secret.spec().unwrap().file
    }

    /// What is not good, with a data folder whose files `change` has changed.
    fn found(config: &Config, change: impl FnOnce(&Path)) -> Vec<Finding> {
        let data = tempfile::tempdir().unwrap();
        let config = Config { data: data.path().to_owned(), ..config.clone() };
        let folder = data_folder::secrets(data.path());
        SecretStore::open(&folder).generate_missing(Process::Paddock).unwrap();
        change(&folder);
        let mut report = Report::default();
        check(&config, &mut report);
        report.into_findings().into_iter().filter(|finding| finding.severity != Severity::Good).collect()
    }

    fn write(path: &Path, content: &str) {
        chassis::secrets::write_private(path, content.as_bytes()).unwrap();
    }

    #[test]
    fn every_secret_that_is_read_is_looked_at_and_no_other() {
        let config = crate::config::load(None).unwrap();
        let bad = |change: &dyn Fn(&Path)| found(&config, change);
        assert!(bad(&|_| {}).is_empty());
        assert!(bad(&|folder| write(&folder.join(file(Secret::RegistryDatabaseUrl)), "x")).is_empty());
        for secret in
            [Secret::IdentityKeyPrevious, Secret::SuccessorSealKeyPrevious, Secret::JobTokenSigningKeyPrevious]
        {
            let found = bad(&|folder| write(&folder.join(file(secret)), "short"));
            assert!(found.len() == 1 && found[0].finding.contains(file(secret)), "{found:?}");
        }
        let found = bad(&|folder| write(&folder.join(file(Secret::JobTokenSigningKeyPrevious)), &"ab01".repeat(20)));
        assert!(found.len() == 1 && found[0].finding.contains("32 bytes"), "{found:?}");
    }

    #[test]
    fn the_url_of_redis_is_required_when_captures_are_there() {
        let mut config = crate::config::load(None).unwrap();
        config.job_token_auth.captures.store = CaptureStoreKind::Redis;
        let name = file(Secret::CapturesRedisUrl);
        let missing = found(&config, |_| {});
        assert!(missing.len() == 1 && missing[0].finding.contains(name), "{missing:?}");
        assert!(found(&config, |folder| write(&folder.join(name), "redis://127.0.0.1:1")).is_empty());
    }

    #[test]
    fn a_secret_that_others_may_read_is_bad() {
        let config = crate::config::load(None).unwrap();
        let found = found(&config, |folder| {
            let open = fs::Permissions::from_mode(0o644);
            fs::set_permissions(folder.join(file(Secret::IdentityKey)), open).unwrap();
        });
        assert!(found.len() == 1 && found[0].remedy.contains("chmod 600"), "{found:?}");
    }
}

//! Checks that every secret that the settings need is usable, and that only its owner can read it.

use std::{fs, path::Path};

use chassis::secrets::{Problem, SecretError, SecretStore};
use job_token_auth::{
    config::CaptureStoreKind,
    job_token::keys::{KeyError, SigningKeys},
};
use proto::{
    contract::SecretSpec,
    paddock::contract::v1::{Process, Secret},
};

use super::{
    private_file::readable_by_others,
    report::{Finding, Report},
};
use crate::{config::Config, data_folder};

/// Whether `paddock serve` needs a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It generates a missing one when it starts.
    Produced,
    /// An operator must write it.
    Required,
    /// It reads the file if it exists.
    Optional,
    /// It does not read it with these settings.
    None,
}

pub fn check(config: &Config, report: &mut Report) {
    let folder = data_folder::secrets_folder(&config.data);
    let store = SecretStore::open(&folder);
    let mut all_sound = true;
    for secret in Secret::ALL {
        let Some(spec) = secret.spec() else { continue };
        let need = need_for_secret(secret, spec, config);
        let read = match need {
            Need::None => continue,
            Need::Optional => store.read(secret),
            Need::Produced | Need::Required => store.require(secret).map(Some),
        };
        let finding = match read {
            Ok(None) => continue,
            Ok(Some(_)) => check_permissions(&folder.join(spec.file), spec),
            Err(error) => Finding::bad("secrets", error.to_string(), remedy_for_error(&error, need)),
        };
        all_sound &= finding.remedy.is_empty();
        report.add(finding);
    }
    // The form of this key is known only to its reader.
    if all_sound && let Err(error @ KeyError::SeedTooLong(_)) = SigningKeys::load(&store) {
        report.add(Finding::bad("secrets", error.to_string(), "Write a key with as many digits."));
    }
}

/// Returns whether the configured process needs the secret, or makes it itself.
fn need_for_secret(secret: Secret, spec: &SecretSpec, config: &Config) -> Need {
    match secret {
        // `paddock serve` accepts no database but SQLite.
        Secret::RegistryDatabaseUrl | Secret::JobTokenAuthDatabaseUrl => Need::None,
        Secret::CapturesRedisUrl => match config.job_token_auth.captures.store {
            CaptureStoreKind::Database => Need::None,
            CaptureStoreKind::Redis => Need::Required,
        },
        _ if spec.produced_by.contains(&Process::Paddock) => Need::Produced,
        _ => Need::Optional,
    }
}

fn check_permissions(path: &Path, spec: &SecretSpec) -> Finding {
    let metadata = fs::metadata(path).ok();
    let problem = metadata.and_then(|metadata| readable_by_others("secrets", path, &metadata));
    problem.unwrap_or_else(|| Finding::good("secrets", format!("{} is sound", spec.file)))
}

/// Returns what to do about a secret that cannot be used.
fn remedy_for_error(error: &SecretError, need: Need) -> &'static str {
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::check::report::Severity;

    fn file_name(secret: Secret) -> &'static str {
        secret.spec().unwrap().file
    }

    /// Runs the check on a data folder that `change` has changed. Returns the findings that are not good.
    fn problems_after(config: &Config, change: impl FnOnce(&Path)) -> Vec<Finding> {
        let data = tempfile::tempdir().unwrap();
        let config = Config { data: data.path().to_owned(), ..config.clone() };
        let folder = data_folder::secrets_folder(data.path());
        SecretStore::open(&folder).generate_missing(Process::Paddock).unwrap();
        change(&folder);
        let mut report = Report::default();
        check(&config, &mut report);
        report.into_findings().into_iter().filter(|finding| finding.severity != Severity::Good).collect()
    }

    fn problems_with_secret(config: &Config, secret: Secret, content: &str) -> Vec<Finding> {
        problems_after(config, |folder| {
            chassis::secrets::write_private(&folder.join(file_name(secret)), content.as_bytes()).unwrap();
        })
    }

    #[test]
    fn every_secret_that_is_read_is_checked_and_no_other() {
        let config = crate::config::load(None).unwrap();
        assert!(problems_after(&config, |_| {}).is_empty());
        assert!(problems_with_secret(&config, Secret::RegistryDatabaseUrl, "x").is_empty());
        for secret in
            [Secret::IdentityKeyPrevious, Secret::SuccessorSealKeyPrevious, Secret::JobTokenSigningKeyPrevious]
        {
            let found = problems_with_secret(&config, secret, "short");
            assert!(found.len() == 1 && found[0].finding.contains(file_name(secret)), "{found:?}");
        }
        let found = problems_with_secret(&config, Secret::JobTokenSigningKeyPrevious, &"ab01".repeat(20));
        assert!(found.len() == 1 && found[0].finding.contains("32 bytes"), "{found:?}");
    }

    #[test]
    fn the_url_of_redis_is_required_when_captures_are_there() {
        let mut config = crate::config::load(None).unwrap();
        config.job_token_auth.captures.store = CaptureStoreKind::Redis;
        let missing = problems_after(&config, |_| {});
        let name = file_name(Secret::CapturesRedisUrl);
        assert!(missing.len() == 1 && missing[0].finding.contains(name), "{missing:?}");
        assert!(problems_with_secret(&config, Secret::CapturesRedisUrl, "redis://127.0.0.1:1").is_empty());
    }

    #[test]
    fn a_secret_that_others_may_read_is_bad() {
        let config = crate::config::load(None).unwrap();
        let found = problems_after(&config, |folder| {
            let open = fs::Permissions::from_mode(0o644);
            fs::set_permissions(folder.join(file_name(Secret::IdentityKey)), open).unwrap();
        });
        assert!(found.len() == 1 && found[0].remedy.contains("chmod 600"), "{found:?}");
    }
}

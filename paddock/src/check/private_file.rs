//! Checks that users other than the owner of a file cannot read it.

use std::{fs::Metadata, os::unix::fs::PermissionsExt as _, path::Path};

use super::report::Finding;

/// Returns a finding if the group of the file, or everyone, has a permission on it.
pub fn readable_by_others(check: &'static str, path: &Path, metadata: &Metadata) -> Option<Finding> {
    if metadata.permissions().mode() & 0o077 == 0 {
        return None;
    }
    let path = path.display();
    Some(Finding::bad(check, format!("others than its owner may read {path}"), format!("Run: chmod 600 {path}")))
}

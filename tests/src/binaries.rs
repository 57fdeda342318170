//! The binaries under test, built once by the profile that the tests themselves were built by.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use crate::root;

/// The path of a binary of the workspace.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

/// Builds all binaries; when nothing changed that takes cargo a moment. Of another profile than that of tests, whoever started
/// them has built what they need.
fn build() -> PathBuf {
    let me = std::env::current_exe().expect("a running program has a path");
    let folder = me.parent().expect("it stands in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("the profile's folder") } else { folder };
    if folder.ends_with("debug") {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--locked", "--workspace", "--bins"]).current_dir(root());
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "the binaries do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    folder.to_owned()
}

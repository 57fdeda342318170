//! The binaries under test, built with the profile of the tests.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use crate::root;

/// The path of a binary of the workspace.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

/// Scripts that have built the binaries set this variable. Without it a test builds them.
const BUILT: &str = "PADDOCK_TEST_BINARIES_BUILT";

/// Builds all binaries, unless a script has built them. A script always builds those of profiles other than that of tests.
fn build() -> PathBuf {
    let test_program = std::env::current_exe().expect("a running program has a path");
    let folder = test_program.parent().expect("a file is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("the profile's folder") } else { folder };
    if folder.ends_with("debug") && std::env::var_os(BUILT).is_none() {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--locked", "--workspace", "--bins"]).current_dir(root());
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "the binaries do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    folder.to_owned()
}

//! The binaries under test, built by the profile that the tests themselves were built by.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use crate::root;

/// The path of a binary of the workspace.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

/// Set by the scripts that have built the binaries already. Without it a test builds them, which takes cargo a moment if
/// nothing has changed.
const BUILT: &str = "PADDOCK_TEST_BINARIES_BUILT";

/// Builds all binaries, unless a script has done so. For profiles other than that of tests, one always has.
fn build() -> PathBuf {
    let me = std::env::current_exe().expect("a running program has a path");
    let folder = me.parent().expect("a file is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("the profile's folder") } else { folder };
    if folder.ends_with("debug") && std::env::var_os(BUILT).is_none() {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--locked", "--workspace", "--bins"]).current_dir(root());
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "the binaries do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    folder.to_owned()
}

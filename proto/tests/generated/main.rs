//! Checks that the files below `src/gen` are what the `.proto` files generate, and that the names in them are valid.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod names;

use std::{fs, path::Path};

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir().expect("a temporary folder");
    codegen::generate(root, fresh.path());
    assert_eq!(file_names(&committed), file_names(fresh.path()), "run `make proto`");
    for name in file_names(fresh.path()) {
        let committed = fs::read(committed.join(&name)).expect("a committed file");
        let fresh = fs::read(fresh.path().join(&name)).expect("a fresh file");
        assert!(committed == fresh, "{name} is not what the .proto files generate; run `make proto`");
    }
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

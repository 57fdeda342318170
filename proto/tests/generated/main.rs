//! Proves that everything under `src/gen` is what the `.proto` files generate. With `UPDATE_GENERATED=1` (`make proto`) it
//! writes the files instead.

mod compile;
mod names;
mod tables;

use std::{fs, path::Path};

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir().expect("a temporary folder");
    let compiled = compile::compile(root, fresh.path());
    fs::write(fresh.path().join("contract.rs"), tables::render(&compiled)).expect("contract.rs is written");

    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(&committed).expect("src/gen exists");
        for entry in fs::read_dir(&committed).expect("src/gen is readable") {
            fs::remove_file(entry.expect("an entry").path()).expect("an old file is removed");
        }
        for name in file_names(fresh.path()) {
            fs::copy(fresh.path().join(&name), committed.join(&name)).expect("a file is copied");
        }
        return;
    }
    assert_eq!(file_names(&committed), file_names(fresh.path()), "run `make proto`");
    for name in file_names(fresh.path()) {
        let same =
            fs::read(committed.join(&name)).expect("committed") == fs::read(fresh.path().join(&name)).expect("fresh");
        assert!(same, "{name} is not what the .proto files generate; run `make proto`");
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

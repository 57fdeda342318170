//! `make proto`: writes `proto/src/gen`.

#![allow(clippy::expect_used)]

use std::{fs, path::Path};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands inside proto");
    let out = root.join("src/gen");
    fs::create_dir_all(&out).expect("src/gen exists");
    for entry in fs::read_dir(&out).expect("src/gen is readable") {
        fs::remove_file(entry.expect("an entry").path()).expect("an old file is removed");
    }
    codegen::generate(root, &out);
}

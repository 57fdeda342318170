//! Generates the code of the crate `proto` from the `.proto` files. It is a crate of its own, so that it still builds when
//! what was generated before no longer does.

// A generator stops at the first thing that is wrong, and says what.
#![allow(clippy::expect_used)]

mod compile;
mod tables;

use std::{fs, path::Path};

/// Writes everything that is generated from the `.proto` files below the root into the folder.
///
/// # Panics
/// If a file is not valid, or the folder cannot be written.
pub fn generate(root: &Path, out: &Path) {
    let compiled = compile::compile(root, out);
    fs::write(out.join("contract.rs"), tables::render(&compiled)).expect("contract.rs is written");
}

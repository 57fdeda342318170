//! Generates the code of the crate `proto` from the `.proto` files. It is a separate crate, so that it builds even when the
//! generated code does not.

// A generator stops with a message at the first mistake.
#![allow(clippy::expect_used)]

mod compile;
mod tables;

use std::{fs, path::Path};

/// Generates all files from the `.proto` files below `root`, and writes them to the folder `out`.
///
/// # Panics
/// If a file is not valid, or the folder cannot be written.
pub fn generate(root: &Path, out: &Path) {
    let compiled = compile::compile(root, out);
    fs::write(out.join("contract.rs"), tables::render(&compiled)).expect("contract.rs is written");
}

//! The modules of each crate have no circle, neither of files nor of rooms, and the arrows between rooms point down in the
//! order of `docs/explanation/architecture.md`.
//!
//! A room is a child of `src/`. A file points at another one if it names an item that the other one defines. A re-export does
//! not define an item. A file may use the module that contains it; this is not a circle. The page lists the floors of each crate
//! in a block that begins with ` ```rooms CRATE `: one floor per line, the top floor first, the rooms of a floor separated by
//! spaces. An arrow must end on a lower floor.

mod picture;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use cargo_metadata::{MetadataCommand, TargetKind};
use picture::{Circle, Floors};
use source::Source;

const PAGE: &str = "docs/explanation/architecture.md";

/// The source of every crate of the workspace, by its name.
fn crates() -> BTreeMap<String, Source> {
    let metadata = MetadataCommand::new().manifest_path(system::root().join("Cargo.toml")).no_deps().exec();
    let metadata = metadata.expect("cargo metadata");
    let mut crates = BTreeMap::new();
    for package in metadata.workspace_packages() {
        let mut source = Source::default();
        for target in package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Lib)) {
            source.add_library(&target.name, target.src_path.as_std_path());
        }
        for target in package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Bin)) {
            source.add_program("main", target.src_path.as_std_path());
        }
        crates.insert(package.name.to_string(), source);
    }
    crates
}

/// Reads the floors of each crate from the page.
fn floors_in(page: &str) -> BTreeMap<String, Floors> {
    let mut found: BTreeMap<String, Floors> = BTreeMap::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        if line.trim_end() == "```" {
            open = None;
        } else if let Some(name) = line.strip_prefix("```rooms ") {
            open = Some(name.trim().to_owned());
            found.insert(name.trim().to_owned(), Vec::new());
        } else if let Some(floors) = open.as_ref().and_then(|name| found.get_mut(name)) {
            floors.push(line.split_whitespace().map(ToOwned::to_owned).collect());
        }
    }
    found
}

fn block_of(name: &str, floors: &Floors) -> String {
    let lines: Vec<String> = floors.iter().map(|rooms| rooms.join(" ")).collect();
    format!("```rooms {name}\n{}\n```", lines.join("\n"))
}

fn described(name: &str, circle: &Circle) -> String {
    let names: Vec<&str> = circle.names.iter().map(String::as_str).collect();
    format!("{name}: {}\n    {}", names.join(", "), circle.arrows.join("\n    "))
}

#[test]
fn no_files_form_a_circle() {
    let mut wrong = Vec::new();
    for (name, source) in crates() {
        wrong.extend(picture::circles_of_files(&source).iter().map(|circle| described(&name, circle)));
    }
    assert!(wrong.is_empty(), "{} circles of files:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_rooms_form_a_circle() {
    let mut wrong = Vec::new();
    for (name, source) in crates() {
        wrong.extend(picture::circles_of_rooms(&source).iter().map(|circle| described(&name, circle)));
    }
    assert!(wrong.is_empty(), "{} circles of rooms:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn arrows_between_rooms_point_down() {
    let page = std::fs::read_to_string(system::root().join(PAGE)).expect("the page");
    let floors = floors_in(&page);
    let crates = crates();
    let mut wrong = Vec::new();
    for (name, source) in &crates {
        match (floors.get(name), picture::floors_of(source)) {
            (Some(floors), _) => {
                let upwards = picture::arrows_upwards(source, floors);
                wrong.extend(upwards.iter().map(|arrow| format!("{name}: {arrow}")));
            }
            (None, Some(floors)) => {
                wrong.push(format!("{name}: the page has no block; the source asks for\n{}", block_of(name, &floors)));
            }
            (None, None) => wrong.push(format!("{name}: the page has no block, and the rooms form a circle")),
        }
    }
    let unknown: BTreeSet<&String> = floors.keys().filter(|name| !crates.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "{PAGE} has blocks of crates that do not exist: {unknown:?}");
    assert!(wrong.is_empty(), "{PAGE} and the source differ:\n{}", wrong.join("\n"));
}

/// Every file of `src/` belongs to a module, so that no file escapes the tests above.
#[test]
fn every_file_is_a_module() {
    for (name, source) in crates() {
        let read: BTreeSet<&Path> = source.modules.iter().map(|module| module.file.as_path()).collect();
        let folder = source.modules[0].file.parent().expect("a file is in a folder");
        for file in system::files_below(folder) {
            let shown = file.strip_prefix(system::root()).unwrap_or(&file).display();
            let is_test = source.test_code.iter().any(|path| file.starts_with(path)) || file.ends_with("tests.rs");
            let is_left_out = is_test || shown.to_string().starts_with("proto/src/gen/");
            let is_rust = file.extension().is_some_and(|extension| extension == "rs");
            assert!(!is_rust || is_left_out || read.contains(file.as_path()), "{name}: {shown} belongs to no module");
        }
    }
}

/// A small crate: its files by name, and the expected findings of the tests above.
struct Case {
    files: &'static [(&'static str, &'static str)],
    page: &'static str,
    circles_of_files: usize,
    circles_of_rooms: usize,
    upwards: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case {
        files: &[
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
        ],
        page: "```rooms small\nlib\na\nb\n```",
        circles_of_files: 0,
        circles_of_rooms: 0,
        upwards: &[],
    },
    // A circle by an inline path.
    Case {
        files: &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use super::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B; fn f() -> u8 { crate::a::A::new().len() }"),
        ],
        page: "```rooms small\nlib\na\nb\n```",
        circles_of_files: 1,
        circles_of_rooms: 1,
        upwards: &["b → a"],
    },
    // A circle of rooms without a circle of files, with one arrow in a macro.
    Case {
        files: &[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "pub mod high; pub mod low;"),
            ("a/high.rs", "pub fn f() { println!(\"{}\", crate::b::N); }"),
            ("a/low.rs", "pub const N: u8 = 1;"),
            ("b.rs", "use crate::a; pub const N: u8 = a::low::N;"),
        ],
        page: "```rooms small\nlib a\nb\n```",
        circles_of_files: 0,
        circles_of_rooms: 1,
        upwards: &["b → a"],
    },
    // A file that uses a re-export points at the file that defines the item, not at the module that re-exports it.
    Case {
        files: &[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod high; mod low; pub use low::*; pub use high::f;"),
            ("a/high.rs", "use super::{N, self as all}; pub fn f() -> u8 { all::N + N }"),
            ("a/low.rs", "pub const N: u8 = 1;"),
        ],
        page: "```rooms small\nlib\na\n```",
        circles_of_files: 0,
        circles_of_rooms: 0,
        upwards: &[],
    },
    // A module and its child are not a circle. Its children may be one.
    Case {
        files: &[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; mod c; pub struct A; pub fn f() { b::g(&A) }"),
            ("a/b.rs", "use super::A; pub fn g(_: &A) { super::c::h() }"),
            ("a/c.rs", "pub fn h() { super::b::g(&super::A) }"),
        ],
        page: "```rooms small\nlib\na\n```",
        circles_of_files: 1,
        circles_of_rooms: 0,
        upwards: &[],
    },
    // Rooms on one floor must not use each other, and the page must list the rooms of the source.
    Case {
        files: &[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B;"),
            ("c.rs", ""),
        ],
        page: "```rooms small\nlib\na b\nd\n```",
        circles_of_files: 0,
        circles_of_rooms: 0,
        upwards: &["c: the page gives it no floor", "d: the page has this room", "a → b"],
    },
];

#[test]
fn the_rules_can_fail() {
    for (number, case) in CASES.iter().enumerate() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in case.files {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().expect("a file is in a folder")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        }
        let mut source = Source::default();
        source.add_library("small", &folder.path().join("lib.rs"));
        assert_eq!(picture::circles_of_files(&source).len(), case.circles_of_files, "{number}: {:?}", source.arrows());
        assert_eq!(picture::circles_of_rooms(&source).len(), case.circles_of_rooms, "{number}: {:?}", source.arrows());
        let found = picture::arrows_upwards(&source, &floors_in(case.page)["small"]);
        assert_eq!(found.len(), case.upwards.len(), "{number}: {found:?}");
        for (found, expected) in found.iter().zip(case.upwards) {
            assert!(found.starts_with(expected), "{number}: {found} does not begin with {expected}");
        }
    }
}

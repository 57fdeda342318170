//! Compares the dependency table of `docs/explanation/architecture.md` with the resolution of cargo and with the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// The crates of the workspace that each crate may use.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("proto", &[]),
    ("codegen", &[]),
    ("token", &["proto"]),
    ("chassis", &["proto"]),
    ("runner-registry", &["proto", "token", "chassis"]),
    ("job-token-auth", &["proto", "token", "chassis"]),
    ("gateway", &["proto", "token", "chassis"]),
    ("paddock", &["proto", "token", "chassis", "runner-registry", "job-token-auth", "gateway"]),
    ("system", &["proto"]),
    ("bench", &["proto", "token", "chassis"]),
];

/// The crates that a crate may never link, not even indirectly.
const NEVER_LINKS: [(&str, &[&str]); 2] =
    [("gateway", &["sea-orm", "sqlx", "sqlx-core", "libsqlite3-sys"]), ("proto", &["sea-orm", "prost-build"])];

/// External crates that only these crates of the workspace may name.
const ONLY_IN: [(&str, &[&str]); 5] = [
    ("sea-orm", &["chassis", "runner-registry", "job-token-auth"]),
    ("sea-orm-migration", &["chassis", "runner-registry", "job-token-auth"]),
    ("redis", &["job-token-auth"]),
    ("matchit", &["gateway"]),
    ("config", &["chassis"]),
];

/// The words of the domain. chassis serves any process and uses none of them.
const DOMAIN_WORDS: [&str; 7] = ["runner", "project", "group", "job", "rotation", "namespace", "assignment"];

fn members() -> Vec<Package> {
    let metadata = MetadataCommand::new().manifest_path(system::root().join("Cargo.toml")).no_deps().exec();
    metadata.expect("cargo metadata").workspace_packages().into_iter().cloned().collect()
}

fn names(package: &Package, kinds: &[DependencyKind]) -> BTreeSet<String> {
    package.dependencies.iter().filter(|used| kinds.contains(&used.kind)).map(|used| used.name.clone()).collect()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let table: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    let members = members();
    let ours: BTreeSet<String> = members.iter().map(|package| package.name.to_string()).collect();
    assert_eq!(
        ours,
        table.keys().map(ToString::to_string).collect(),
        "the table and the workspace list different crates"
    );
    for package in &members {
        let allowed: BTreeSet<String> = table[package.name.as_str()].iter().map(ToString::to_string).collect();
        let used = names(package, &[DependencyKind::Normal, DependencyKind::Build]);
        let wrong: Vec<_> = used.intersection(&ours).filter(|name| !allowed.contains(*name)).collect();
        assert!(wrong.is_empty(), "{} uses {wrong:?}, the table allows {allowed:?}", package.name);
    }
}

#[test]
fn outside_crates_stay_where_they_belong() {
    for package in members() {
        let used = names(&package, &[DependencyKind::Normal, DependencyKind::Build]);
        for (name, users) in ONLY_IN {
            let allowed = users.contains(&package.name.as_str());
            assert!(allowed || !used.contains(name), "{} uses {name}, only {users:?} may", package.name);
        }
    }
}

/// Uses `cargo tree` and not the resolve graph of the workspace, which enables the features of one crate in all crates.
#[test]
fn no_forbidden_crate_is_linked_indirectly() {
    for (package, forbidden) in NEVER_LINKS {
        let output = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--locked",
                "--edges",
                "normal",
                "--prefix",
                "none",
                "--format",
                "{p}",
                "--package",
                package,
            ])
            .current_dir(system::root())
            .output()
            .expect("cargo tree");
        let text = String::from_utf8_lossy(&output.stdout);
        let linked: BTreeSet<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(
            linked.contains(package),
            "{package} is not in its own tree: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let wrong: Vec<_> = forbidden.iter().filter(|name| linked.contains(*name)).collect();
        assert!(wrong.is_empty(), "{package} links {wrong:?}");
    }
}

#[test]
fn chassis_knows_no_domain_word() {
    let source = system::root().join("services/chassis/src");
    let mut wrong = Vec::new();
    for file in system::files_below(&source) {
        let text = fs::read_to_string(&file).expect("a source file");
        let shown = file.strip_prefix(system::root()).unwrap_or(&file).display().to_string();
        wrong.extend(domain_identifiers(&text).into_iter().map(|(line, word)| format!("{shown}:{line}: {word}")));
    }
    assert!(
        wrong.is_empty(),
        "chassis serves any process; move this to the service that it belongs to:\n{}",
        wrong.join("\n")
    );
}

/// The identifiers of chassis that contain a word of the domain. Names of the contract, which follow `::`, are left out:
/// `Process::RunnerRegistry` is a value that chassis passes on.
fn domain_identifiers(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let code = without_texts(line);
        let words =
            code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').map(|word| word.trim_matches(':'));
        let own = words.filter(|word| !word.contains("::"));
        let named = own.filter(|word| parts(word).iter().any(|part| DOMAIN_WORDS.contains(&part.as_str())));
        found.extend(named.map(|word| (number + 1, word.to_owned())));
    }
    found
}

/// The line without comments and texts. Texts of several lines are not recognized; chassis has none.
fn without_texts(line: &str) -> String {
    let code = line.split("//").next().unwrap_or_default().replace("\\\"", "");
    code.split('"').step_by(2).collect::<Vec<_>>().join(" ")
}

/// The words of an identifier, in snake case or camel case, in lower case and without a plural s.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in identifier.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    parts.into_iter().map(|part| part.strip_suffix('s').map(ToOwned::to_owned).unwrap_or(part)).collect()
}

#[test]
fn the_domain_check_can_fail() {
    let cases = [
        ("struct RunnerCache;", 1),
        ("let project_id = 3; fn jobs() {}", 2),
        ("Caller::Runner => Caller::Runner,", 0),
        ("// the runner", 0),
        ("Process::RunnerRegistry", 0),
        (r#"let a = "[runner]\"job"; let project: u8;"#, 1),
        ("let grouped = jobless;", 0),
    ];
    for (source, expected) in cases {
        assert_eq!(domain_identifiers(source).len(), expected, "{source}");
    }
}

/// The rooms of a service: `main.rs` is wiring.
#[test]
fn every_main_is_short() {
    let services = ["runner-registry", "job-token-auth"].map(|name| format!("services/{name}"));
    for main in services
        .into_iter()
        .chain(["gateway", "paddock"].map(ToOwned::to_owned))
        .map(|folder| format!("{folder}/src/main.rs"))
    {
        let path = system::root().join(&main);
        let lines = fs::read_to_string(&path).map(|text| text.lines().count());
        assert!(lines.as_ref().is_ok_and(|lines| *lines < 60), "{main} has {lines:?} lines, 59 are allowed");
    }
    assert!(!Path::new(&system::root().join("services/chassis/src/main.rs")).exists(), "chassis is no process");
}

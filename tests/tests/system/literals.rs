//! A name that the contract declares is written only there, and not in source, scripts, charts or test code. Code reads it from
//! `proto::contract`, so that a rename reaches every use.

use std::{collections::BTreeMap, process::Command};

use proto::{
    contract::Place,
    paddock::contract::v1::{CredentialKind, InternalHeader, Secret},
};

/// The files that may contain the names: the contract, the files generated from it, and prose.
const EXCEPT: [&str; 5] = ["proto/paddock/", "proto/src/gen/", "docs/", "Cargo.lock", "LICENSE"];

/// The names, each in lower case, with the constant to read it from.
fn literals() -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for header in InternalHeader::ALL {
        let spec = header.spec().expect("ALL lists only values with a specification");
        names.insert(spec.key.to_lowercase(), format!("InternalHeader::{header:?}"));
    }
    for secret in Secret::ALL {
        let spec = secret.spec().expect("ALL lists only values with a specification");
        for name in [spec.name, spec.file] {
            names.insert(name.to_lowercase(), format!("Secret::{secret:?}"));
        }
    }
    for kind in CredentialKind::ALL {
        let spec = kind.spec().expect("ALL lists only values with a specification");
        names.insert(spec.prefix.to_lowercase(), format!("CredentialKind::{kind:?}"));
        for carrier in spec.carriers {
            // Parameters and the scheme are ordinary words (`token`), so only the names of headers count.
            if let Place::Header(name) = carrier.place {
                names.insert(name.to_lowercase(), format!("a carrier of CredentialKind::{kind:?}"));
            }
        }
    }
    names
}

/// Finds the names in a text as whole words: line number, name, and where to read it from.
fn find(text: &str, names: &BTreeMap<String, String>) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.to_lowercase();
        for (name, source) in names {
            let hit = line.match_indices(name.as_str()).any(|(at, _)| stands_alone(&line, at, name));
            if hit {
                found.push((number + 1, name.clone(), source.clone()));
            }
        }
    }
    found
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}

/// Reports whether the name is a whole word. A name that ends in a dash is a prefix, so any text may follow it.
fn stands_alone(line: &str, at: usize, name: &str) -> bool {
    let before = line[..at].chars().next_back().is_some_and(is_part_of_word);
    let after = !name.ends_with('-') && line[at + name.len()..].chars().next().is_some_and(is_part_of_word);
    !before && !after
}

/// The files that git tracks or would track.
fn tracked_files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(system::root())
        .output()
        .expect("git");
    let names = String::from_utf8(output.stdout).expect("file names in UTF-8");
    names.split('\0').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

#[test]
fn names_of_the_contract_are_written_only_in_the_contract() {
    let names = literals();
    assert!(names.len() > 10, "the contract declares more than {} names", names.len());
    let mut wrong = Vec::new();
    let mut read = 0;
    for file in tracked_files() {
        let exempt = EXCEPT.iter().any(|prefix| file.starts_with(prefix)) || file.ends_with(".md");
        let Ok(text) = std::fs::read_to_string(system::root().join(&file)) else { continue };
        if exempt {
            continue;
        }
        read += 1;
        wrong.extend(
            find(&text, &names)
                .into_iter()
                .map(|(line, name, from)| format!("{file}:{line}: {name}: read it from {from}")),
        );
    }
    assert!(read > 40, "only {read} files were read");
    assert!(wrong.is_empty(), "{} names of the contract are written out:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_search_can_fail() {
    let names = literals();
    let header = InternalHeader::CallerIdentity.spec().expect("a specification").key;
    let file = Secret::IdentityKey.spec().expect("a specification").file;
    let prefix = CredentialKind::RunnerToken.spec().expect("a specification").prefix;
    let carrier =
        CredentialKind::UserToken.spec().expect("a specification").carriers.iter().find_map(|c| match c.place {
            Place::Header(name) => Some(name),
            Place::Parameter(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
        });
    let carrier = carrier.expect("a header");
    let cases = [
        (format!("headers.insert(\"{header}\", value)"), 1),
        (format!("headers.insert(\"{}\", value)", header.to_uppercase()), 1),
        (format!("secrets/{file}:/run"), 1),
        (format!("let token = \"{prefix}t1_abc\";"), 1),
        (format!("curl -H '{}: x'", carrier.to_uppercase()), 1),
        (format!("x-{header}"), 0),
        (format!("{carrier}s"), 0),
        ("let token = request.token;".to_owned(), 0),
    ];
    for (text, expected) in cases {
        assert_eq!(find(&text, &names).len(), expected, "{text}");
    }
}

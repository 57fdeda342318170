//! The decided path is the forwarded path: thousands of paths that servers read differently.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use proto::paddock::job_token::v1::AuthorizeRequest;
use tracing::Level;

use crate::{
    attack_count,
    connection::KeptAlive,
    generate::generate,
    support::{
        log,
        protected::{Setup, job_header},
    },
};

/// The number of paths in the long form.
const ALL_PATHS: usize = 5_000;

/// Paths of protected routes. The segment after `projects` is the project.
const BASES: [&str; 6] = [
    "/api/v4/projects/42/jobs",
    "/api/v4/projects/group%2Fproject/jobs/artifacts/main/download",
    "/api/v4/projects/a%2Fb%2fc/jobs/7/artifacts/dir/file.txt",
    "/api/v4/projects/42/packages/npm/@scope%2Fname/-/name-1.0.0.tgz",
    "/api/v4/projects/42/packages/pypi/simple/name/",
    "/api/v4/projects/42/releases/v1.0?include_html_description=true",
];

/// Texts to insert into a path.
const TRICKS: [&str; 56] = [
    "%5c..%5c..%5c..%5c..%5c7%5c",
    "/..;/..;/..;/..;/7/",
    "/..%3b/..%3B/..%3b/7/",
    "%252f..%252f..%252f..%252f..%252f7",
    ".",
    "..",
    "...",
    "/",
    "//",
    "/./",
    "/../",
    "/../../7/",
    "%2e",
    "%2E%2e",
    ".%2e",
    "%2e%2e/",
    "%2e%2e%2f",
    "%2f",
    "%2F",
    "%2f%2f",
    "%5c",
    "%5C..%5c",
    "\\",
    "\\..\\",
    ";",
    ";x=1",
    "..;/",
    "%3b",
    "%00",
    "%0a",
    "%0d%0a",
    "%09",
    "%7f",
    "%c0%ae",
    "%c0%af",
    "%e0%80%af",
    "%f0%80%80%ae",
    "%ff",
    "%C3%A9",
    "\u{e9}",
    "%25",
    "%252e%252e",
    "%252f",
    "%255c",
    "%u002e",
    "%",
    "%g1",
    "#fragment",
    "%23",
    "?",
    "%3f",
    "+",
    "*",
    "/projects/7/",
    "7",
    "-",
];

/// How a path is changed.
#[derive(Clone, Debug)]
enum Change {
    Insert(usize, &'static str),
    Replace(usize, &'static str),
    Encode(usize),
    EncodeTwice(usize),
    Cut(usize),
    Repeat(usize, usize),
    Absolute(&'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let trick = proptest::sample::select(TRICKS.to_vec());
    let position = 0..200_usize;
    prop_oneof![
        6 => (position.clone(), trick.clone()).prop_map(|(position, trick)| Change::Insert(position, trick)),
        3 => (position.clone(), trick).prop_map(|(position, trick)| Change::Replace(position, trick)),
        2 => position.clone().prop_map(Change::Encode),
        1 => position.clone().prop_map(Change::EncodeTwice),
        1 => position.clone().prop_map(Change::Cut),
        1 => (position, 100..2000_usize).prop_map(|(position, times)| Change::Repeat(position, times)),
        1 => proptest::sample::select(vec!["http://evil.example", "https://evil.example:1", "http://u:p@x", "//evil", "x:"])
            .prop_map(Change::Absolute),
    ]
}

fn apply(path: &str, change: &Change) -> String {
    match change {
        Change::Insert(position, trick) => {
            let (before, after) = path.split_at(boundary(path, *position));
            format!("{before}{trick}{after}")
        }
        Change::Replace(position, trick) => replace_character(path, *position, |_| (*trick).to_owned()),
        Change::Encode(position) => replace_character(path, *position, percent_encode),
        Change::EncodeTwice(position) => {
            replace_character(path, *position, |character| percent_encode(character).replace('%', "%25"))
        }
        Change::Cut(position) => path[..boundary(path, *position)].to_owned(),
        Change::Repeat(position, times) => {
            replace_character(path, *position, |character| character.to_string().repeat(*times))
        }
        Change::Absolute(start) => format!("{start}{path}"),
    }
}

/// Returns a boundary of characters in the path.
fn boundary(path: &str, position: usize) -> usize {
    path.floor_char_boundary(position % (path.len() + 1))
}

/// Replaces the character at a position.
fn replace_character(path: &str, position: usize, replacement: impl Fn(char) -> String) -> String {
    let (before, rest) = path.split_at(boundary(path, position));
    let mut characters = rest.chars();
    let replaced = characters.next().map_or(String::new(), replacement);
    format!("{before}{replaced}{}", characters.as_str())
}

fn percent_encode(character: char) -> String {
    format!("%{:02x}", u32::from(character) & 0xff)
}

/// Generates a request target.
fn target() -> impl Strategy<Value = String> {
    let changes = proptest::collection::vec(change(), 0..3);
    (proptest::sample::select(BASES.to_vec()), changes)
        .prop_map(|(base, changes)| changes.iter().fold(base.to_owned(), |path, change| apply(&path, change)))
}

/// Returns the path and query of a target, without the scheme and host of an absolute one, and without a fragment.
fn path_and_query(target: &str) -> &str {
    let target = target.split('#').next().unwrap_or_default();
    match target.split_once("://") {
        // RFC 3986, 3.1.
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    }
}

/// How servers are known to change a path before they remove dot segments.
const READERS: [fn(&str) -> String; 6] = [
    |path| path.to_owned(),
    // Merges slashes.
    |path| {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        format!("/{}", parts.join("/"))
    },
    // Reads a backslash as a slash, also an encoded one.
    |path| path.replace("%5c", "/").replace("%5C", "/").replace('\\', "/"),
    // Removes parameters of segments.
    |path| {
        let cut = path.replace("%3b", ";").replace("%3B", ";");
        let parts: Vec<_> = cut.split('/').map(|part| part.split(';').next().unwrap_or_default()).collect();
        parts.join("/")
    },
    // Ends at a NUL or a line break.
    |path| {
        let lower = path.to_lowercase();
        let ends = ["%00", "%0a", "%0d"].iter().filter_map(|end| lower.find(end)).min();
        path[..ends.unwrap_or(path.len())].to_owned()
    },
    // Decodes twice.
    |path| {
        let twice = [("%252e", "."), ("%252f", "/"), ("%255c", "/")];
        twice.iter().fold(path.to_lowercase(), |path, (encoded, plain)| path.replace(encoded, plain))
    },
];

/// Removes dot segments, also encoded ones.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match percent_decode_str(segment).decode_utf8_lossy().as_ref() {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    kept.join("/")
}

/// Returns the project in a path, decoded this many times.
fn project(path: &str, decodings: usize) -> String {
    let mut segment = path.split('/').nth(4).unwrap_or_default().to_owned();
    for _ in 0..decodings {
        segment = percent_decode_str(&segment).decode_utf8_lossy().into_owned();
    }
    segment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_is_decided_as_one_and_forwarded_as_another() {
    log::install_at(Level::ERROR);
    let setup = Setup::start().await;
    setup.allow_without_captures();
    let path_count = attack_count(ALL_PATHS);
    let targets = generate(&target(), path_count, 3);
    let (credential, token) = job_header();
    let mut connection = KeptAlive::connect(setup.world.address).await;
    for (number, target) in targets.iter().enumerate() {
        let text =
            format!("GET {target} HTTP/1.1\r\nhost: x\r\n{credential}: {token}\r\nx-request-id: {number}\r\n\r\n");
        let answer = connection.exchange(text.as_bytes()).await;
        let status = answer.map_or(0, |(status, _)| status);
        // 401: the path of a route of the contract, which takes no job token.
        assert!(matches!(status, 200 | 400 | 401 | 404 | 405), "{status}: {target}");
        if answer.is_none_or(|(_, is_open)| !is_open) {
            connection = KeptAlive::connect(setup.world.address).await;
        }
    }
    let asked = setup.world.fake.calls::<AuthorizeRequest>("authorize");
    let asked: HashMap<_, _> = asked.into_iter().map(|(asked, context)| (context.request_id, asked.projects)).collect();
    let all = setup.upstream.requests();
    assert_eq!(all.len(), asked.len(), "every decided request was forwarded once");
    for received in &all {
        let id = received.headers["x-request-id"].to_str().unwrap();
        let sent = &targets[id.parse::<usize>().unwrap()];
        assert_eq!(received.target, path_and_query(sent), "{sent}");
        assert_eq!(received.headers["host"], setup.upstream.address.to_string(), "{sent}");
        for reader in READERS {
            let read = reader(received.target.split('?').next().unwrap_or_default());
            for path in [without_dots(&read), read] {
                let decided = asked[id][0].to_lowercase();
                assert_eq!(project(&path, 1).to_lowercase(), decided, "{sent}: {path}");
                assert_eq!(project(&path, 2).to_lowercase(), decided, "{sent}: {path}");
            }
        }
    }
    assert!(all.len() > path_count / 4 && all.len() < path_count, "{} of {path_count} were forwarded", all.len());
    for project in ["42", "group/project", "a/b/c"] {
        let count = asked.values().filter(|projects| projects[0] == project).count();
        assert!(count > path_count / 50, "{count} requests reached {project}");
    }
}

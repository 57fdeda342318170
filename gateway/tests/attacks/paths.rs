//! What was decided and what was forwarded are the same path: thousands of paths try to be two.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use proto::paddock::job_token::v1::{AuthorizeRequest, AuthorizeResponse};
use tracing::Level;

use crate::connection::KeptAlive;
use crate::generated;
use crate::support::log;
use crate::support::protected::{Setup, allowed, job_header};

/// How many paths are sent in the long form.
const ALL_PATHS: usize = 5_000;

/// Paths of shipped routes; the first segment after `projects` names the project.
const BASES: [&str; 6] = [
    "/api/v4/projects/42/jobs",
    "/api/v4/projects/group%2Fproject/jobs/artifacts/main/download",
    "/api/v4/projects/a%2Fb%2fc/jobs/7/artifacts/dir/file.txt",
    "/api/v4/projects/42/packages/npm/@scope%2Fname/-/name-1.0.0.tgz",
    "/api/v4/projects/42/packages/pypi/simple/name/",
    "/api/v4/projects/42/releases/v1.0?include_html_description=true",
];

/// What is put somewhere into a path.
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
    let trick = || proptest::sample::select(TRICKS.to_vec());
    let place = 0..200_usize;
    prop_oneof![
        6 => (place.clone(), trick()).prop_map(|(at, trick)| Change::Insert(at, trick)),
        3 => (place.clone(), trick()).prop_map(|(at, trick)| Change::Replace(at, trick)),
        2 => place.clone().prop_map(Change::Encode),
        1 => place.clone().prop_map(Change::EncodeTwice),
        1 => place.clone().prop_map(Change::Cut),
        1 => (place, 100..2000_usize).prop_map(|(at, times)| Change::Repeat(at, times)),
        1 => proptest::sample::select(vec!["http://evil.example", "https://evil.example:1", "http://u:p@x", "//evil", "x:"])
            .prop_map(Change::Absolute),
    ]
}

fn apply(path: &str, change: &Change) -> String {
    let at = |place: &usize| path.floor_char_boundary(place % (path.len() + 1));
    let around = |place: &usize| {
        let start = at(place);
        let next = path[start..].chars().next();
        (&path[..start], next, &path[start + next.map_or(0, char::len_utf8)..])
    };
    let encoded = |next: Option<char>| next.map_or(String::new(), |next| format!("%{:02x}", u32::from(next) & 0xff));
    match change {
        Change::Insert(place, trick) => format!("{}{trick}{}", &path[..at(place)], &path[at(place)..]),
        Change::Replace(place, trick) => {
            let (before, _, after) = around(place);
            format!("{before}{trick}{after}")
        }
        Change::Encode(place) => {
            let (before, next, after) = around(place);
            format!("{before}{}{after}", encoded(next))
        }
        Change::EncodeTwice(place) => {
            let (before, next, after) = around(place);
            format!("{before}{}{after}", encoded(next).replace('%', "%25"))
        }
        Change::Cut(place) => path[..at(place)].to_owned(),
        Change::Repeat(place, times) => {
            let (before, next, after) = around(place);
            format!("{before}{}{after}", next.map_or(String::new(), |next| next.to_string().repeat(*times)))
        }
        Change::Absolute(start) => format!("{start}{path}"),
    }
}

/// A target, and the path with query that it says: less the scheme and host of an absolute one, less a fragment.
fn target() -> impl Strategy<Value = String> {
    let changes = proptest::collection::vec(change(), 0..3);
    (proptest::sample::select(BASES.to_vec()), changes)
        .prop_map(|(base, changes)| changes.iter().fold(base.to_owned(), |path, change| apply(&path, change)))
}

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

/// What servers are known to make of a path before they look for dot segments.
const READERS: [fn(&str) -> String; 6] = [
    |path| path.to_owned(),
    // Merges slashes.
    |path| {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        format!("/{}", parts.join("/"))
    },
    // Takes a backslash for a slash, also an encoded one.
    |path| path.replace("%5c", "/").replace("%5C", "/").replace('\\', "/"),
    // Cuts parameters of segments off.
    |path| {
        let cut = path.replace("%3b", ";").replace("%3B", ";");
        let parts: Vec<_> = cut.split('/').map(|part| part.split(';').next().unwrap_or_default()).collect();
        parts.join("/")
    },
    // Ends at a character that ends lines or texts.
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

/// The path without dot segments, also encoded ones.
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

/// The project that a reader finds, decoding as often as it does.
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
    let own = |asked| async { Ok(AuthorizeResponse { capture: None, ..allowed(asked) }) };
    setup.world.fake.on("authorize", own);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let count = generated(ALL_PATHS);
    let targets: Vec<_> = (0..count).map(|_| target().new_tree(&mut runner).unwrap().current()).collect();
    let (credential, token) = job_header();
    let mut connection = KeptAlive::connect(setup.world.address).await;
    for (number, target) in targets.iter().enumerate() {
        let text =
            format!("GET {target} HTTP/1.1\r\nhost: x\r\n{credential}: {token}\r\nx-request-id: {number}\r\n\r\n");
        let answered = connection.exchange(text.as_bytes()).await;
        let status = answered.map_or(0, |(status, _)| status);
        // 401: the path of a route of the contract, which takes no job token.
        assert!(matches!(status, 200 | 400 | 401 | 404 | 405), "{status}: {target}");
        if answered.is_none_or(|(_, is_open)| !is_open) {
            connection = KeptAlive::connect(setup.world.address).await;
        }
    }
    let asked = setup.world.fake.calls::<AuthorizeRequest>("authorize");
    let asked: HashMap<_, _> = asked.into_iter().map(|(asked, context)| (context.request_id, asked.projects)).collect();
    let all = setup.upstream.seen();
    assert_eq!(all.len(), asked.len(), "what was decided was forwarded, once");
    for seen in &all {
        let id = seen.headers["x-request-id"].to_str().unwrap();
        let sent = &targets[id.parse::<usize>().unwrap()];
        assert_eq!(seen.target, path_and_query(sent), "{sent}");
        assert_eq!(seen.headers["host"], setup.upstream.address.to_string(), "{sent}");
        for reader in READERS {
            let read = reader(seen.target.split('?').next().unwrap_or_default());
            for path in [without_dots(&read), read] {
                let (once, twice, decided) = (project(&path, 1), project(&path, 2), asked[id][0].to_lowercase());
                assert_eq!((once.to_lowercase(), twice.to_lowercase()), (decided.clone(), decided), "{sent}: {path}");
            }
        }
    }
    let plain = |project: &str| asked.values().filter(|asked| asked[0] == project).count();
    assert!(all.len() > count / 4 && all.len() < count, "{} of {count} were forwarded", all.len());
    assert!(["42", "group/project", "a/b/c"].iter().all(|project| plain(project) > count / 50), "also encoded slashes");
}

//! The shipped table, and tables with mistakes.

use std::sync::LazyLock;

use proto::paddock::job_token::v1::{CaptureMode, JobTokenPolicy};

use super::*;
use crate::proxy::upstream::Protocol;

static CONTRACT: LazyLock<Routes> = LazyLock::new(|| Routes::load().unwrap());

const URL: &str = "http://127.0.0.1:1";

fn settings() -> UpstreamSettings {
    let second = std::time::Duration::from_secs(1);
    UpstreamSettings {
        protocol: Protocol::Http1,
        max_connections: 8,
        idle_timeout: second,
        keep_alive_interval: second,
        keep_alive_timeout: second,
        ca_file: String::new(),
        strip_headers: Vec::new(),
    }
}

fn shipped() -> Table {
    Table::load("", URL, &settings(), &CONTRACT).unwrap()
}

/// Returns the route and the projects, or the other result of the look-up.
fn find(table: &Table, verb: &str, path: &str) -> String {
    match table.find(&verb.parse().unwrap(), path) {
        Lookup::Found((route, projects)) => format!("{} {projects:?}", route.label.caller_id),
        Lookup::Options(allow) => format!("options {}", allow.to_str().unwrap()),
        Lookup::NotAllowed(allow) => format!("allow {}", allow.to_str().unwrap()),
        Lookup::NotFound => "not found".to_owned(),
        Lookup::Malformed => "malformed".to_owned(),
    }
}

const ROUTE: &str =
    "[[routes]]\nmethod = \"GET\"\npath = \"/p/{id}/x\"\nprojects = [\"id\"]\npolicies = [\"read_jobs\"]\n";

#[test]
fn the_shipped_table_is_whole_or_away() {
    let all = SHIPPED.matches("\n[[routes]]").count();
    assert_eq!((shipped().len(), shipped().left_out()), (all, 0));
    let without = Table::load("", "", &settings(), &CONTRACT).unwrap();
    assert_eq!((without.len(), without.left_out()), (0, all), "without an upstream");
}

#[test]
fn the_shipped_table_knows_the_endpoints_of_clients() {
    let table = shipped();
    let cases = [
        ("GET", "/jobs/artifacts/main/download", "/jobs/artifacts/{ref_name}/download"),
        ("HEAD", "/jobs/artifacts/feature%2Fx/download", "/jobs/artifacts/{ref_name}/download"),
        ("GET", "/jobs/artifacts/main/raw/a/b.txt", "/jobs/artifacts/{ref_name}/raw/{*artifact_path}"),
        ("GET", "/jobs/7/artifacts/a/b.txt", "/jobs/{job_id}/artifacts/{*artifact_path}"),
        ("GET", "/packages/npm/@scope%2fname", "/packages/npm/{*package}"),
        ("GET", "/packages/npm/@scope/name/-/name-1.0.0.tgz", "/packages/npm/{*package}"),
        ("GET", "/packages/pypi/simple/name/", "/packages/pypi/simple/{*package_name}"),
        ("GET", "/packages/pypi/simple/", "/packages/pypi/simple"),
        ("PUT", "/packages/nuget/", "/packages/nuget"),
        ("GET", "/releases/permalink/latest/", "/releases/permalink/latest"),
        ("PUT", "/packages/generic/name/1.0/file.zip", "/packages/generic/{package_name}/{*file}"),
        ("GET", "/packages/go/example.com/m/@v/list", "/packages/go/{*module}"),
        ("GET", "/packages/7", "/packages/{package_id}"),
        ("DELETE", "/terraform/state/prod/lock", "/terraform/state/{name}/lock"),
        ("GET", "/repository/archive.tar.gz", "/repository/archive.tar.gz"),
    ];
    for (verb, path, expected) in cases {
        let verb_of_route = if verb == "HEAD" { "GET" } else { verb };
        let expected = format!("{verb_of_route} /api/v4/projects/{{id}}{expected} [\"g/p\"]");
        assert_eq!(find(&table, verb, &format!("/api/v4/projects/g%2Fp{path}")), expected, "{verb} {path}");
    }
    assert_eq!(find(&table, "PATCH", "/api/v4/projects/1/jobs"), "allow GET, HEAD, OPTIONS");
    assert_eq!(find(&table, "OPTIONS", "/api/v4/projects/1/releases"), "options GET, POST, HEAD, OPTIONS");
    assert_eq!(find(&table, "GET", "/api/v4/projects/1/nothing"), "not found");
}

#[test]
fn a_path_that_could_be_read_in_two_ways_leads_nowhere() {
    let table = shipped();
    for path in ["1/jobs//", "1;x/jobs", "01/jobs", "-1/jobs", "1%2F/jobs", "%2e%2e/jobs", "a%252fb/jobs", "1%00/jobs"]
    {
        assert_eq!(find(&table, "GET", &format!("/api/v4/projects/{path}")), "malformed", "{path}");
    }
}

#[test]
fn a_table_of_ones_own_says_more() {
    let text = format!(
        "[upstreams.store]\nurl = \"http://store:9000\"\nprotocol = \"h2\"\n\
         {ROUTE}upstream = \"store\"\ncapture = \"best_effort\"\ncredential = \"forward\"\nbasic = true\nupgrade = \"websocket\"\ncookies = true\n"
    );
    let table = Table::parse(&text, "", &settings(), &CONTRACT).unwrap();
    let Lookup::Found((route, projects)) = table.find(&Method::GET, "/p/7/x") else { panic!("a route") };
    assert_eq!((projects, &*route.upstream.name), (vec!["7".to_owned()], "store"));
    assert_eq!((route.mode, route.forwards_credential), (CaptureMode::BestEffort, true));
    assert_eq!((route.upgrade.as_deref(), route.forwards_cookies), (Some("websocket"), true));
    assert_eq!((route.policies.as_slice(), route.only_reads()), ([JobTokenPolicy::ReadJobs].as_slice(), true));
}

#[test]
fn upstreams_share_the_open_files_that_there_are() {
    let text = "[upstreams.a]\nurl = \"http://a\"\nmax_connections = 300\n[upstreams.b]\nurl = \"http://b\"\n";
    let table = Table::parse(text, "", &settings(), &CONTRACT).unwrap();
    assert_eq!(table.limit_files(1000), 300 + 8 + 2 * 32, "no more than they need");
    let fewer = table.limit_files(200);
    assert!((100..=200).contains(&fewer), "{fewer}");
    assert_eq!(table.limit_files(fewer), fewer);
    assert_eq!(table.limit_files(1), 2 * 33, "never none");
}

/// The route with another line.
fn with(line: &str) -> String {
    format!("{ROUTE}{line}\n")
}

/// The route with another text.
fn changed(from: &str, to: &str) -> String {
    ROUTE.replace(from, to)
}

#[test]
fn what_makes_no_sense_is_named_with_its_place() {
    let cases = [
        ("routes = 1".to_owned(), "line 1"),
        (with("colour = \"red\""), "colour"),
        (with("capture = \"never\""), "never"),
        (with("upstream = \"other\""), "line 1: GET /p/{id}/x: no upstream is called other"),
        (format!("\n\n{ROUTE}{ROUTE}"), "line 8: GET /p/{id}/x: the route stands in the table twice"),
        (format!("{ROUTE}{}", changed("{id}", "{other}").replace("[\"id\"]", "[\"other\"]")), "twice"),
        (format!("{ROUTE}{}", changed("{id}/x", "{*id}")), "a project is one segment"),
        (changed("GET", "get"), "method must be"),
        (changed("GET", "CONNECT"), "method must be"),
        (changed("read_jobs", "read_job"), "no policy is called read_job"),
        (changed("read_jobs", "READ_JOBS"), "no policy is called READ_JOBS"),
        (changed("[\"id\"]", "[]"), "projects must name"),
        (changed("[\"id\"]", "[\"other\"]"), "the path has no {other}"),
        (changed("/p/", "p/"), "must start with a slash"),
        (changed("/p/", "/../"), "is neither"),
        (changed("/p/", "/p//"), "is neither"),
        (changed("/p/{id}/x", "/p/{id}/{*a}/x"), "must be the last"),
        (changed("/p/{id}/x", "/p/{id}/a{b}"), "is neither"),
        (changed("/p/{id}/x", "/p/{id}/{id}"), "is neither"),
        (changed("/p/{id}/x", "/api/v4/projects/{id}/runners"), "serves this route itself"),
        ("[upstreams.a]\nurl = \"\"\n".to_owned(), "upstreams.a"),
        ("[upstreams.a]\nurl = \"http://h/path\"\n".to_owned(), "upstreams.a"),
        ("[upstreams.a]\nurl = \"http://h\"\nprotocol = \"h3\"\n".to_owned(), "h3"),
        ("[upstreams.a]\nurl = \"http://h\"\nmax_connections = 0\n".to_owned(), "upstreams.a: max_connections"),
        ("[upstreams.a]\nurl = \"https://h\"\nca_file = \"/nowhere\"\n".to_owned(), "upstreams.a: ca_file /nowhere"),
        ("[upstreams.a]\nurl = \"http://h\"\nstrip_headers = [\"a b\"]\n".to_owned(), "upstreams.a: strip_headers"),
        (with("upgrade = true"), "upgrade"),
        (with("forms = true"), "forms: only"),
        (with("forms = true").replace("GET", "POST"), "forms: only"),
        (with("upgrade = \"a, b\""), "upgrade must be"),
        (format!("{ROUTE}{}", changed("/x", "/{*rest}") + &changed("/x", "/{one}")), "conflict"),
    ];
    for (text, expected) in cases {
        let problem = Table::parse(&text, URL, &settings(), &CONTRACT).map(|table| table.len()).unwrap_err();
        assert!(problem.contains(expected), "{expected:?} in {problem:?}");
    }
    let missing = Table::load("/nowhere/table.toml", URL, &settings(), &CONTRACT).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/table.toml: cannot be read"), "{missing}");
}

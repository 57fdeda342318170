//! The route table of the real contract, asked with paths as clients send them.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static ROUTES: LazyLock<Routes> = LazyLock::new(|| Routes::load().unwrap());

/// Returns the name of the method and the values, or the other result of the look-up.
fn find(verb: &str, path: &str) -> (String, Vec<String>) {
    match ROUTES.find(&verb.parse().unwrap(), path) {
        Lookup::Found((Endpoint::Call(route), values)) => (route.method.name.to_owned(), values),
        Lookup::Found((Endpoint::OwnPage(page, _), values)) => (format!("{page:?}"), values),
        Lookup::Options(allow) => (format!("options {}", allow.to_str().unwrap()), Vec::new()),
        Lookup::NotAllowed(allow) => (format!("allow {}", allow.to_str().unwrap()), Vec::new()),
        Lookup::NotFound => ("not found".to_owned(), Vec::new()),
        Lookup::Malformed => ("malformed".to_owned(), Vec::new()),
    }
}

#[test]
fn every_row_of_the_contract_has_its_route() {
    for method in proto::contract::METHODS {
        let Some((verb, template)) = method.rest else { continue };
        let variables = template.matches('{').count();
        let path = template.replace(['{', '}'], "");
        let (name, values) = find(verb, &path);
        assert_eq!((name.as_str(), values.len()), (method.name, variables), "{verb} {path}");
        assert_eq!(find(verb, &format!("{path}/")).0, method.name, "with a trailing slash");
    }
}

#[test]
fn paths_lead_where_clients_expect() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("GET", "/api/v4/runners/all", "ListAllRunners", &[]),
        ("GET", "/api/v4/runners/7", "GetRunner", &["7"]),
        ("HEAD", "/api/v4/runners/7", "GetRunner", &["7"]),
        ("GET", "/api/v4/runners/al", "GetRunner", &["al"]),
        ("DELETE", "/api/v4/runners/managers", "UnregisterRunnerManager", &[]),
        ("GET", "/api/v4/projects/group%2Fproject/runners", "ListProjectRunners", &["group/project"]),
        ("DELETE", "/api/v4/projects/a%2fb/runners/3", "UnassignRunner", &["a/b", "3"]),
        ("POST", "/api/v4/users/5/personal_access_tokens", "CreatePersonalAccessToken", &["5"]),
        ("GET", "/api/v4/projects/group/project/runners", "not found", &[]),
        ("GET", "/api/v4/r%75nners", "not found", &[]),
        ("GET", "/", "not found", &[]),
        ("GET", "/api/v4", "not found", &[]),
        ("GET", "/api/v4//runners", "malformed", &[]),
        ("GET", "/api/v4/runners/../projects", "malformed", &[]),
        ("GET", "/api/v4/runners/%2e%2e", "malformed", &[]),
        ("GET", "*", "malformed", &[]),
        ("PUT", "/api/v4/runners/verify", "allow POST, OPTIONS", &[]),
        ("PATCH", "/api/v4/runners", "allow DELETE, GET, POST, HEAD, OPTIONS", &[]),
        ("POST", "/-/liveness", "allow GET, HEAD, OPTIONS", &[]),
        ("OPTIONS", "/api/v4/jobs/request", "options POST, OPTIONS", &[]),
        ("GET", "/-/readiness", "Readiness", &[]),
        ("GET", "/-/openapi.json", "OpenApi", &[]),
    ];
    for (verb, path, name, values) in cases {
        let expected = ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
        assert_eq!(find(verb, path), expected, "{verb} {path}");
    }
}

proptest! {
    #[test]
    fn any_value_arrives_in_its_variable_whole(value in "\\PC{1,30}") {
        let dots = value.split('/').any(|part| part == "." || part == "..");
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let expected = if dots { ("malformed".to_owned(), vec![]) } else { ("GetProject".to_owned(), vec![value]) };
        prop_assert_eq!(find("GET", &format!("/api/v4/projects/{encoded}")), expected);
    }

    #[test]
    fn no_path_breaks_the_table(
        verb in "(GET|PUT|POST|DELETE|HEAD|OPTIONS|PATCH|X)",
        path in "(/|api/v4/|runners/|%2F|%|\\.|\\{|\\}|\\*|[a-z\u{e9}0-9]){0,12}",
    ) {
        find(&verb, &path);
    }
}

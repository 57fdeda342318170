//! The carriers of job tokens, conflicts with other credentials, and what the upstream receives of them.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proto::{
    contract::Place,
    paddock::{contract::v1::CredentialKind, job_token::v1::AuthorizeRequest},
};
use reqwest::RequestBuilder;

use crate::support::{
    protected::{JOBS, Setup, job_header},
    raw, send, token,
};

/// A path of a protected route that takes basic authentication.
const STATE: &str = "/api/v4/projects/42/terraform/state/prod";

fn job() -> String {
    token::of(CredentialKind::JobToken, 1)
}

/// Returns a value of basic authentication. Without `user` it has the user name of the contract.
fn basic(user: Option<&str>, password: &str) -> String {
    let mut carriers = CredentialKind::JobToken.spec().unwrap().carriers.iter();
    let contract_name = carriers.find_map(|carrier| match carrier.place {
        Place::BasicUsername(name) => Some(name),
        _ => None,
    });
    let user = user.or(contract_name).unwrap();
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

/// Builds a request with this text in the header of job tokens.
fn with_header(setup: &Setup, text: &str) -> RequestBuilder {
    setup.world.get(JOBS).header(job_header().0, text)
}

fn with_query(setup: &Setup, query: &str) -> RequestBuilder {
    setup.world.get(&format!("{JOBS}?{query}"))
}

#[tokio::test]
async fn a_job_token_is_taken_from_every_carrier_and_kept_from_the_upstream() {
    let setup = Setup::start().await;
    let mut requests = Vec::new();
    for (header, value) in token::headers(CredentialKind::JobToken, &job()) {
        requests.push(setup.world.get(JOBS).header(header, &value));
        requests.push(setup.world.get(JOBS).header(header.to_uppercase(), value));
    }
    for name in token::parameters(CredentialKind::JobToken) {
        requests.push(setup.world.get(&format!("{JOBS}?{name}={}", job())));
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        requests.push(setup.world.get(&format!("{JOBS}?{encoded}={}", job())));
    }
    requests.push(setup.world.get(STATE).header("authorization", basic(None, &job())));
    requests.push(setup.request("GET", STATE).header("authorization", basic(None, &job())));
    let count = requests.len();
    for request in requests {
        assert_eq!(send(request).await.status, 200);
    }
    let asked = setup.world.fake.calls::<AuthorizeRequest>("authorize");
    assert_eq!(asked.len(), count);
    assert!(asked.iter().all(|(asked, _)| asked.token == job()));
    let bytes = String::from_utf8_lossy(&setup.upstream.bytes().concat()).into_owned();
    assert!(!bytes.contains(&job()) && !bytes.to_lowercase().contains("authorization"), "{bytes}");
    assert!(setup.upstream.requests().iter().all(|received| !received.target.contains('?')));
}

#[tokio::test]
async fn a_missing_or_wrong_job_token_is_refused_without_a_call() {
    let setup = Setup::start().await;
    let (header, _) = job_header();
    let parameter = token::parameters(CredentialKind::JobToken)[0];
    let other = token::of(CredentialKind::JobToken, 2);
    let (user_header, user) = token::user_header();
    let cases = [
        (setup.world.get(JOBS), 401, "job_token_missing"),
        (with_header(&setup, ""), 401, "job_token_missing"),
        (with_query(&setup, "a=b"), 401, "job_token_missing"),
        (with_query(&setup, "token=something-else"), 401, "job_token_wrong_kind"),
        (with_header(&setup, "nonsense"), 401, "job_token_malformed"),
        (with_header(&setup, &format!("{}x", job()).replace('.', "")), 401, "job_token_malformed"),
        (with_header(&setup, &format!("{}{}", job(), "x".repeat(2048))), 401, "job_token_malformed"),
        (with_header(&setup, &token::user()), 401, "job_token_wrong_kind"),
        (with_header(&setup, &token::runner()), 401, "job_token_wrong_kind"),
        (setup.world.get(JOBS).header(user_header, &user), 401, "job_token_wrong_kind"),
        (setup.world.get(JOBS).header("authorization", format!("Bearer {user}")), 401, "job_token_wrong_kind"),
        (setup.world.get(JOBS).header("authorization", "Bearer of-another-world"), 401, "job_token_missing"),
        (setup.world.get(JOBS).header("authorization", basic(None, &job())), 401, "job_token_missing"),
        (setup.world.get(STATE).header("authorization", basic(Some("root"), &job())), 401, "job_token_missing"),
        (setup.world.get(STATE).header("authorization", "Basic %%%"), 401, "job_token_missing"),
        (with_header(&setup, &job()).header(header, &other), 400, "conflicting_credentials"),
        (
            with_header(&setup, &job()).header("authorization", format!("Bearer {other}")),
            400,
            "conflicting_credentials",
        ),
        (with_header(&setup, &job()).query(&[(parameter, &other)]), 400, "conflicting_credentials"),
        (with_query(&setup, &format!("{parameter}={}&{parameter}={other}", job())), 400, "conflicting_credentials"),
        (setup.request("GET", STATE).header("authorization", basic(None, &other)), 400, "conflicting_credentials"),
    ];
    for (request, status, reason) in cases {
        let shown = format!("{request:?}");
        assert_eq!(send(request).await.refusal(), (status, reason.to_owned()), "{shown}");
    }
    let challenge = send(setup.world.get(JOBS)).await;
    assert!(challenge.header("www-authenticate").contains("realm"));
    assert!(setup.world.fake.calls::<AuthorizeRequest>("authorize").is_empty() && setup.upstream.requests().is_empty());
}

/// A route that forwards the token and cookies to the upstream.
const FORWARDED: &str = "[[routes]]\nmethod = \"GET\"\npath = \"/p/{id}\"\nprojects = [\"id\"]\npolicies = []\n\
    credential = \"forward\"\ncookies = true\n";

#[tokio::test]
async fn a_credential_of_another_kind_with_the_job_token_is_refused() {
    let stripped = Setup::start().await;
    let forwarded = Setup::with_table(FORWARDED).await;
    for (setup, path) in [(&stripped, JOBS), (&forwarded, "/p/42")] {
        let mut requests = Vec::new();
        for kind in CredentialKind::ALL {
            if kind == CredentialKind::JobToken {
                continue;
            }
            for text in [token::of(kind, 9), "of-another-world".to_owned()] {
                for name in token::parameters(kind) {
                    requests.push(setup.get(&format!("{path}?{name}={text}")));
                    requests.push(setup.get(&format!("{path}?a=1;{name}={text}")));
                    requests.push(setup.get(&format!("{path}?a=1&{}[]={text}", name.to_uppercase())));
                    requests.push(setup.get(&format!("{path}?%5B{name}%5D={text}")));
                    requests.push(setup.get(&format!("{path}?a=1&+{}={text}", name.replace('_', "."))));
                }
                for (header, value) in token::headers(kind, &text) {
                    requests.push(setup.get(path).header(header, value));
                }
            }
        }
        for name in ["deploy_token", "feed_token"] {
            requests.push(setup.get(&format!("{path}?{name}=x")));
        }
        requests.push(setup.get(path).header("deploy-token", "x"));
        requests.push(setup.get(path).header("authorization", "Digest x"));
        requests.push(setup.get(path).header("authorization", basic(None, &job())));
        for name in token::parameters(CredentialKind::JobToken) {
            requests.push(setup.get(&format!("{path}?{name}[]={}", token::of(CredentialKind::JobToken, 2))));
        }
        for request in requests {
            let shown = format!("{request:?}");
            assert_eq!(send(request).await.refusal(), (400, "conflicting_credentials".to_owned()), "{shown}");
        }
        assert!(
            setup.world.fake.calls::<AuthorizeRequest>("authorize").is_empty() && setup.upstream.requests().is_empty()
        );
    }
}

#[tokio::test]
async fn no_credential_reaches_the_upstream_under_another_name_and_the_rest_of_the_query_does() {
    let setup = Setup::start().await;
    for kind in CredentialKind::ALL {
        let text = token::of(kind, 9);
        for (query, rest) in [
            (format!("a=%2F&x={text}&b[]=1&&c"), "?a=%2F&b[]=1&&c"),
            (format!("a=%2F;x={text};b"), "?a=%2F;b"),
            (format!("x={text}"), ""),
            (token::parameters(kind).iter().map(|name| format!("{name}=&")).collect::<String>() + "a", "?a"),
        ] {
            let request = setup.get(&format!("{JOBS}?{query}")).header("accept", "text/plain");
            let request = ["referer", "x-nuget-apikey", "x-api-key", "x-anything", "cookie"]
                .into_iter()
                .fold(request, |request, name| request.header(name, format!("https://x/?t={text}")));
            assert_eq!(send(request).await.status, 200, "{query}");
            let received = setup.upstream.take_requests().remove(0);
            assert_eq!(received.target, format!("{JOBS}{rest}"), "{query}");
            assert_eq!(received.headers["accept"], "text/plain");
        }
        let bytes = String::from_utf8_lossy(&setup.upstream.bytes().concat()).into_owned();
        assert!(!bytes.contains(&text), "{bytes}");
    }
}

#[tokio::test]
async fn a_route_may_forward_the_credential_that_was_decided_on_and_no_other() {
    let setup = Setup::with_table(FORWARDED).await;
    let (header, text) = job_header();
    let parameter = token::parameters(CredentialKind::JobToken)[0];
    let other = token::user();
    let path = format!("/p/42?{parameter}={text}&a=b");
    let request = setup.get(&format!("{path}&x={other}")).header("authorization", format!("Bearer {text}"));
    let request = request.header("x-anything", &other).header("cookie", "a=1");
    assert_eq!(send(request).await.status, 200);
    let received = setup.upstream.requests().remove(0);
    assert_eq!((received.target.as_str(), received.headers[header].to_str().unwrap()), (path.as_str(), text.as_str()));
    assert_eq!(received.headers["authorization"], format!("Bearer {text}"));
    assert_eq!((received.headers.get("x-anything"), received.headers["cookie"].to_str().unwrap()), (None, "a=1"));
}

#[tokio::test]
async fn headers_that_an_upstream_trusts_are_removed() {
    let table = format!("[upstreams.default]\nstrip_headers = [\"X-Acme-User\"]\n{FORWARDED}");
    let setup = Setup::with_table(&table).await;
    let request = setup.get("/p/42").header("x-acme-user", "root").header("X-ACME-USER", "admin").header("x-acme", "1");
    assert_eq!(send(request).await.status, 200);
    let received = setup.upstream.requests().remove(0);
    assert_eq!((received.headers.get("x-acme-user"), received.headers["x-acme"].to_str().unwrap()), (None, "1"));
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_refused() {
    let setup = Setup::start().await;
    for query in ["%zz=1", "a=1&%ff=2", "a&%"] {
        let path = format!("{JOBS}?{query}");
        let (header, text) = job_header();
        let answer = raw::request(setup.world.address, "GET", &path, &format!("{header}: {text}\r\n")).await;
        assert_eq!(answer.refusal(), (400, "path_malformed".into()), "{query}");
    }
    assert!(setup.upstream.requests().is_empty());
}

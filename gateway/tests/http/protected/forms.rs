//! Job tokens in bodies that are forms.

use proto::paddock::{contract::v1::CredentialKind, job_token::v1::AuthorizeRequest};
use reqwest::RequestBuilder;

use crate::support::{
    protected::{Setup, job_header},
    send, token,
    upstream::ReceivedRequest,
};

/// A path of a protected route that takes forms.
const TRIGGER: &str = "/api/v4/projects/42/trigger/pipeline";
/// A path of a protected route that takes no forms.
const METADATA: &str = "/api/v4/projects/42/pipelines/7/metadata";

const URL_ENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=b";

fn job() -> String {
    token::of(CredentialKind::JobToken, 1)
}

/// Builds a request without a job token, with this body.
fn post(setup: &Setup, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    setup.world.request("POST", path).header("content-type", media_type).body(body)
}

fn part(head: &str, value: &str) -> String {
    format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{value}\r\n")
}

/// Returns the body that the upstream received, with its media type and its length.
fn body_of(request: &ReceivedRequest) -> (&str, &str, String) {
    let media_type = request.headers["content-type"].to_str().unwrap();
    let length = request.headers["content-length"].to_str().unwrap();
    (std::str::from_utf8(&request.body).unwrap(), media_type, length.to_owned())
}

/// Returns a form in parts that has the token under this name.
fn multipart_form(name: &str, token: &str) -> String {
    let parts = [
        part("name=\"ref\"", "main"),
        part(&format!("name=\"{name}\""), token),
        part("name=\"variables[A B]\"", "a&b=ü"),
    ];
    parts.concat() + "--b--\r\n"
}

/// Builds a form with a job token and further text.
fn with(setup: &Setup, rest: &str) -> RequestBuilder {
    post(setup, TRIGGER, URL_ENCODED, format!("token={}{rest}", job()))
}

#[tokio::test]
async fn a_job_token_is_taken_from_a_form_and_kept_from_the_upstream() {
    let setup = Setup::start().await;
    let ours = job();
    let rewritten = "ref=main&variables%5BA+B%5D=a%26b%3D%C3%BC";
    for name in token::parameters(CredentialKind::JobToken) {
        for (media_type, body, expected) in [
            (
                URL_ENCODED,
                format!("{name}={ours}&ref=main&&variables[A]=%2f;+b&c"),
                "ref=main&variables%5BA%5D=%2F%3B+b&c=",
            ),
            (URL_ENCODED, format!("ref=main&{}={ours}", name.replace('o', "%6f")), "ref=main"),
            ("Application/X-WWW-Form-URLencoded; charset=UTF-8", format!("{name}={ours}"), ""),
            (MULTIPART, multipart_form(name, &ours), rewritten),
        ] {
            assert_eq!(send(post(&setup, TRIGGER, media_type, body.clone())).await.status, 200, "{body}");
            let received = setup.upstream.take_requests().remove(0);
            assert_eq!(body_of(&received), (expected, URL_ENCODED, expected.len().to_string()), "{body}");
        }
    }
    let path = "/api/v4/projects/42/ref/main/trigger/pipeline";
    assert_eq!(send(post(&setup, path, URL_ENCODED, format!("token={ours}"))).await.status, 200);
    let (header, _) = job_header();
    let without_type = setup.world.request("POST", TRIGGER).body(format!("token={ours}&ref=main"));
    assert_eq!(send(without_type).await.status, 200);
    let with_header = post(&setup, TRIGGER, URL_ENCODED, "ref=main").header(header, &ours).header("digest", "x");
    assert_eq!(send(with_header).await.status, 200);
    let expects = post(&setup, TRIGGER, URL_ENCODED, format!("token={ours}")).header("expect", "100-continue");
    assert_eq!(send(expects).await.status, 200);
    let asked = setup.world.fake.calls::<AuthorizeRequest>("authorize");
    assert!(asked.iter().all(|(asked, _)| asked.token == ours));
    let bytes = String::from_utf8_lossy(&setup.upstream.bytes().concat()).into_owned();
    assert!(!bytes.contains(&ours) && !bytes.contains("digest"), "{bytes}");
}

#[tokio::test]
async fn an_ambiguous_form_is_refused_without_a_call() {
    let setup = Setup::start_with(|config| config.max_body_bytes = 32768).await;
    let ours = job();
    let other = token::of(CredentialKind::JobToken, 2);
    let (header, _) = job_header();
    let file =
        [part("name=\"token\"", &ours), part("name=\"ref\"; filename=\"f\"", "main"), "--b--\r\n".into()].concat();
    let cases = [
        (post(&setup, TRIGGER, URL_ENCODED, "ref=main"), 401, "job_token_missing"),
        (post(&setup, TRIGGER, URL_ENCODED, "token=of-another-world"), 401, "job_token_wrong_kind"),
        (post(&setup, TRIGGER, URL_ENCODED, format!("token={}", token::user())), 401, "job_token_wrong_kind"),
        (with(&setup, &format!("&job_token={other}")), 400, "conflicting_credentials"),
        (with(&setup, &format!(";token={other}")), 401, "job_token_malformed"),
        (with(&setup, "& private_token=x"), 400, "conflicting_credentials"),
        (with(&setup, "&[private_token]=x"), 400, "conflicting_credentials"),
        (with(&setup, "&private_token%5D=x"), 400, "conflicting_credentials"),
        (with(&setup, "&private.token=x"), 400, "conflicting_credentials"),
        (with(&setup, "&private_token%00=x"), 400, "conflicting_credentials"),
        (with(&setup, &format!("&variables[A]={ours}")), 400, "conflicting_credentials"),
        (with(&setup, &format!("&variables[A]=a;b={}", token::user())), 400, "conflicting_credentials"),
        (with(&setup, "&[_method]=x"), 400, "bad_request"),
        (with(&setup, &"&a=b".repeat(4096)), 413, "body_too_large"),
        (with(&setup, "&private_token=x"), 400, "conflicting_credentials"),
        (with(&setup, "&TOKEN[]=x"), 400, "conflicting_credentials"),
        (with(&setup, "").header(header, &other), 400, "conflicting_credentials"),
        (with(&setup, "&_method=DELETE"), 400, "bad_request"),
        (with(&setup, "&%5Fmethod=x"), 400, "bad_request"),
        (with(&setup, "&a%zz=1"), 400, "body_malformed"),
        (
            post(&setup, TRIGGER, URL_ENCODED, [b"token=".as_slice(), ours.as_bytes(), b"&a=\xff"].concat()),
            400,
            "body_malformed",
        ),
        (post(&setup, TRIGGER, MULTIPART, format!("token={ours}")), 400, "body_malformed"),
        (post(&setup, TRIGGER, "multipart/form-data", file.clone()), 400, "body_malformed"),
        (post(&setup, TRIGGER, MULTIPART, file), 415, "unsupported_media_type"),
        (with(&setup, "").header("content-encoding", "gzip"), 415, "unsupported_media_type"),
        (
            with(&setup, "").header("content-encoding", "identity").header("content-encoding", "gzip"),
            415,
            "unsupported_media_type",
        ),
        (with(&setup, "").header("content-type", "application/json"), 415, "unsupported_media_type"),
        (post(&setup, TRIGGER, "multipart/mixed; boundary=b", "x"), 415, "unsupported_media_type"),
        (setup.request("POST", TRIGGER).body("{\"ref\": 1}"), 415, "unsupported_media_type"),
        (with(&setup, &format!("&ref={}", "x".repeat(32768))), 413, "body_too_large"),
        (post(&setup, METADATA, URL_ENCODED, format!("token={ours}")), 405, "method_not_allowed"),
        (
            setup.world.request("PUT", METADATA).header("content-type", URL_ENCODED).body(format!("token={ours}")),
            401,
            "job_token_missing",
        ),
    ];
    for (request, status, reason) in cases {
        let shown = format!("{request:?}");
        assert_eq!(send(request).await.refusal(), (status, reason.to_owned()), "{shown}");
    }
    assert!(setup.world.fake.calls::<AuthorizeRequest>("authorize").is_empty() && setup.upstream.requests().is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_a_form_is_streamed_unchanged() {
    let setup = Setup::start().await;
    let (header, ours) = job_header();
    for (path, verb, media_type) in [(TRIGGER, "POST", "application/json"), (METADATA, "PUT", URL_ENCODED)] {
        let body = "{\"ref\": \"main\", \"_method\": 1} &a%zz";
        let request = setup.world.request(verb, path).header("content-type", media_type).body(body);
        assert_eq!(send(request.header(header, &ours)).await.status, 200);
        assert_eq!(body_of(&setup.upstream.take_requests().remove(0)), (body, media_type, body.len().to_string()));
    }
}

#[tokio::test]
async fn a_route_may_forward_the_token_of_a_form_and_no_other_credential() {
    let table = "[[routes]]\nmethod = \"POST\"\npath = \"/p/{id}\"\nprojects = [\"id\"]\npolicies = []\nforms = true\n\
                 credential = \"forward\"\n";
    let setup = Setup::with_table(table).await;
    let body = format!("a=1&token={}", job());
    let hidden = format!("{body}&x={}", token::user());
    assert_eq!(send(post(&setup, "/p/42", URL_ENCODED, hidden)).await.refusal().0, 400);
    let more = format!("{body}&feed_token=");
    assert_eq!(send(post(&setup, "/p/42", URL_ENCODED, more)).await.status, 200);
    assert_eq!(body_of(&setup.upstream.take_requests().remove(0)).0, body);
}

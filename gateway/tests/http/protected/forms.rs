//! Job tokens in the forms that clients send as bodies.

use proto::paddock::{contract::v1::CredentialKind, job_token::v1::AuthorizeRequest};
use reqwest::RequestBuilder;

use crate::support::{
    protected::{Setup, job_header},
    send, token,
    upstream::Seen,
};

/// A shipped route whose clients send forms.
const TRIGGER: &str = "/api/v4/projects/42/trigger/pipeline";
/// One whose clients do not.
const METADATA: &str = "/api/v4/projects/42/pipelines/7/metadata";

const URL_ENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=b";

fn job() -> String {
    token::of(CredentialKind::JobToken, 1)
}

/// A request without a job token, with this body.
fn post(setup: &Setup, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    setup.world.request("POST", path).header("content-type", media_type).body(body)
}

fn part(head: &str, value: &str) -> String {
    format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{value}\r\n")
}

/// The body that the upstream got, with its media type and its length.
fn got(seen: &Seen) -> (&str, &str, String) {
    let header = |name: &str| seen.headers[name].to_str().unwrap();
    (std::str::from_utf8(&seen.body).unwrap(), header("content-type"), header("content-length").to_owned())
}

#[tokio::test]
async fn a_job_token_is_taken_from_a_form_and_kept_from_the_upstream() {
    let setup = Setup::start().await;
    let ours = job();
    let in_parts = |name: &str| {
        [
            part("name=\"ref\"", "main"),
            part(&format!("name=\"{name}\""), &ours),
            part("name=\"variables[A B]\"", "a&b=ü"),
            "--b--\r\n".into(),
        ]
        .concat()
    };
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
            (MULTIPART, in_parts(name), rewritten),
        ] {
            assert_eq!(send(post(&setup, TRIGGER, media_type, body.clone())).await.status, 200, "{body}");
            let seen = setup.upstream.take().remove(0);
            assert_eq!(got(&seen), (expected, URL_ENCODED, expected.len().to_string()), "{body}");
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
async fn a_form_that_could_be_read_in_two_ways_is_refused_before_anybody_is_asked() {
    let setup = Setup::start_with(|config| config.max_body_bytes = 32768).await;
    let (ours, other) = (job(), token::of(CredentialKind::JobToken, 2));
    let with = |rest: &str| post(&setup, TRIGGER, URL_ENCODED, format!("token={ours}{rest}"));
    let (header, _) = job_header();
    let file =
        [part("name=\"token\"", &ours), part("name=\"ref\"; filename=\"f\"", "main"), "--b--\r\n".into()].concat();
    let cases = [
        (post(&setup, TRIGGER, URL_ENCODED, "ref=main"), 401, "job_token_missing"),
        (post(&setup, TRIGGER, URL_ENCODED, "token=of-another-world"), 401, "job_token_wrong_kind"),
        (post(&setup, TRIGGER, URL_ENCODED, format!("token={}", token::user())), 401, "job_token_wrong_kind"),
        (with(&format!("&job_token={other}")), 400, "conflicting_credentials"),
        (with(&format!(";token={other}")), 401, "job_token_malformed"),
        (with("& private_token=x"), 400, "conflicting_credentials"),
        (with("&[private_token]=x"), 400, "conflicting_credentials"),
        (with("&private_token%5D=x"), 400, "conflicting_credentials"),
        (with("&private.token=x"), 400, "conflicting_credentials"),
        (with("&private_token%00=x"), 400, "conflicting_credentials"),
        (with(&format!("&variables[A]={ours}")), 400, "conflicting_credentials"),
        (with(&format!("&variables[A]=a;b={}", token::user())), 400, "conflicting_credentials"),
        (with("&[_method]=x"), 400, "bad_request"),
        (with(&"&a=b".repeat(4096)), 413, "body_too_large"),
        (with("&private_token=x"), 400, "conflicting_credentials"),
        (with("&TOKEN[]=x"), 400, "conflicting_credentials"),
        (with("").header(header, &other), 400, "conflicting_credentials"),
        (with("&_method=DELETE"), 400, "bad_request"),
        (with("&%5Fmethod=x"), 400, "bad_request"),
        (with("&a%zz=1"), 400, "body_malformed"),
        (
            post(&setup, TRIGGER, URL_ENCODED, [b"token=".as_slice(), ours.as_bytes(), b"&a=\xff"].concat()),
            400,
            "body_malformed",
        ),
        (post(&setup, TRIGGER, MULTIPART, format!("token={ours}")), 400, "body_malformed"),
        (post(&setup, TRIGGER, "multipart/form-data", file.clone()), 400, "body_malformed"),
        (post(&setup, TRIGGER, MULTIPART, file), 415, "unsupported_media_type"),
        (with("").header("content-encoding", "gzip"), 415, "unsupported_media_type"),
        (
            with("").header("content-encoding", "identity").header("content-encoding", "gzip"),
            415,
            "unsupported_media_type",
        ),
        (with("").header("content-type", "application/json"), 415, "unsupported_media_type"),
        (post(&setup, TRIGGER, "multipart/mixed; boundary=b", "x"), 415, "unsupported_media_type"),
        (setup.request("POST", TRIGGER).body("{\"ref\": 1}"), 415, "unsupported_media_type"),
        (with(&format!("&ref={}", "x".repeat(32768))), 413, "body_too_large"),
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
    assert!(setup.world.fake.calls::<AuthorizeRequest>("authorize").is_empty() && setup.upstream.seen().is_empty());
}

#[tokio::test]
async fn what_is_no_form_streams_past_untouched() {
    let setup = Setup::start().await;
    let (header, ours) = job_header();
    for (path, verb, media_type) in [(TRIGGER, "POST", "application/json"), (METADATA, "PUT", URL_ENCODED)] {
        let body = "{\"ref\": \"main\", \"_method\": 1} &a%zz";
        let request = setup.world.request(verb, path).header("content-type", media_type).body(body);
        assert_eq!(send(request.header(header, &ours)).await.status, 200);
        assert_eq!(got(&setup.upstream.take().remove(0)), (body, media_type, body.len().to_string()));
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
    assert_eq!(got(&setup.upstream.take().remove(0)).0, body);
}

//! Ambiguous requests and answers: two programs could read them differently.

use proto::paddock::job_token::v1::AuthorizeRequest;
use reqwest::RequestBuilder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    http2_client,
    protected::{JOBS, Setup, job_header, raw_request},
    raw, send,
    upstream::scripted,
};

/// A path of a protected route that takes a body and needs only a policy to read.
const AUDIT: &str = "/api/v4/projects/42/packages/npm/-/npm/v1/security/audits/quick";

/// Builds a POST with a header for each media type.
fn post_with_types(setup: &Setup, types: &[&str]) -> RequestBuilder {
    let mut request = setup.request("POST", AUDIT).body("{}");
    for media_type in types {
        request = request.header("content-type", *media_type);
    }
    request
}

#[tokio::test]
async fn a_request_that_may_read_cannot_pass_as_one_that_writes() {
    let setup = Setup::start().await;
    for query in [
        "_method=DELETE",
        "a=1&_METHOD=x",
        "a=1;_method=x",
        "%5fmethod=x",
        "_method[]=x",
        "_method",
        "[_method]=x",
        "_method]=x",
        "+_method=x",
    ] {
        let refused = send(setup.get(&format!("{JOBS}?{query}"))).await;
        assert_eq!(refused.refusal(), (400, "bad_request".into()), "{query}");
    }
    for types in [
        &["application/x-www-form-urlencoded"][..],
        &["Application/X-WWW-Form-URLencoded; charset=utf-8"],
        &["multipart/form-data; boundary=x"],
        &["multipart/mixed; boundary=x"],
        &["application/json", "multipart/form-data; boundary=x"],
        &[""],
        &[],
    ] {
        assert_eq!(
            send(post_with_types(&setup, types)).await.refusal(),
            (415, "unsupported_media_type".into()),
            "{types:?}"
        );
    }
    assert!(setup.world.fake.calls::<AuthorizeRequest>("authorize").is_empty() && setup.upstream.requests().is_empty());
    assert_eq!(send(post_with_types(&setup, &["application/json"])).await.status, 200);
    assert_eq!(send(setup.request("POST", AUDIT)).await.status, 200, "without a body");
    let writes =
        setup.request("POST", "/api/v4/projects/42/packages/pypi").header("content-type", "multipart/form-data");
    assert_eq!(send(writes.body("x")).await.status, 200, "a route that writes");
    assert_eq!(send(setup.get(&format!("{JOBS}?my_method=x"))).await.status, 200);
}

#[tokio::test]
async fn a_slash_at_the_end_is_forwarded_unchanged() {
    let setup = Setup::start().await;
    for (verb, path) in [
        ("PUT", "/api/v4/projects/42/packages/nuget/"),
        ("GET", "/api/v4/projects/42/packages/pypi/simple/"),
        ("GET", "/api/v4/projects/42/releases/permalink/latest/"),
    ] {
        assert_eq!(send(setup.request(verb, path)).await.status, 200, "{path}");
        assert_eq!(setup.upstream.take_requests().remove(0).target, path);
    }
}

#[tokio::test]
async fn transfer_codings_that_would_be_lost_are_refused() {
    let setup = Setup::start().await;
    let chunks = "4\r\nbody\r\n0\r\n\r\n";
    for (verb, framing) in [
        ("PUT", "transfer-encoding: gzip, chunked"),
        ("PUT", "transfer-encoding: gzip\r\ntransfer-encoding: chunked"),
        ("GET", "transfer-encoding: chunked"),
        ("HEAD", "transfer-encoding: chunked"),
    ] {
        let path = "/api/v4/projects/42/packages/generic/name/1.0/file";
        let head = raw_request(verb, path, &format!("connection: close\r\n{framing}\r\n"));
        let answer = raw::exchange(setup.world.address, format!("{head}{chunks}").as_bytes()).await.unwrap();
        assert_eq!(answer.status, 400, "{verb} {framing}");
    }
    assert!(setup.upstream.requests().is_empty());
    assert_eq!(send(setup.get(JOBS).body("body")).await.status, 200);
    assert_eq!(setup.upstream.take_requests().remove(0).body, "body");
}

#[tokio::test]
async fn the_gateway_frames_answers_itself_in_its_own_version() {
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let old = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    for answer in [both, old] {
        let (url, _) = scripted(vec![vec![answer]]).await;
        let setup = Setup::start_with(|config| config.upstream = url).await;
        let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
        let request = raw_request("GET", JOBS, "connection: close\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("hello"), "{text}");
        assert!(!text.contains("content-length: 2"), "{text}");
    }
}

#[tokio::test]
async fn cookies_of_http2_are_joined_where_a_route_asks_for_them() {
    let table = "[[routes]]\nmethod = \"GET\"\npath = \"/with/{id}\"\nprojects = [\"id\"]\npolicies = []\ncookies = true\n\
        [[routes]]\nmethod = \"GET\"\npath = \"/without/{id}\"\nprojects = [\"id\"]\npolicies = []\ncookies = false\n";
    let setup = Setup::with_table(table).await;
    let client = http2_client();
    for (path, expected) in [("with", Some("a=1; b=2")), ("without", None)] {
        let (header, token) = job_header();
        let request = client.get(setup.world.url(&format!("/{path}/42"))).header(header, token);
        assert_eq!(send(request.header("cookie", "a=1").header("cookie", "b=2")).await.status, 200);
        let received = setup.upstream.take_requests().remove(0);
        let cookies: Vec<_> = received.headers.get_all("cookie").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(cookies, expected.into_iter().collect::<Vec<_>>());
    }
}

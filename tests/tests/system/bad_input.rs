//! Every bad request gets a typed refusal with reason, remedy and request id. None of them causes a fault of the server.

use proto::paddock::contract::v1::Reason;
use serde_json::{Value, json};
use system::{
    Api, Paddock,
    raw::{exchange, request},
};

use crate::fixtures;

/// A request, and the expected reason.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    reason: Reason,
}

/// The values that the cases use.
struct Setting {
    token: String,
    other_token: String,
    runner: String,
    runner_id: i64,
    other_runner: String,
    project: i64,
}

impl Setting {
    async fn make(paddock: &Paddock) -> Self {
        let root = paddock.root();
        let me = fixtures::id(&root.get("/user").await.ok(200));
        let project = fixtures::project(&root).await;
        let (runner_id, runner) = fixtures::runner(&root, project).await;
        Self {
            token: paddock.root_token(),
            other_token: fixtures::user_token(&root, me, "other", &["api"]).await,
            runner,
            runner_id,
            other_runner: fixtures::runner(&root, project).await.1,
            project,
        }
    }

    /// A request by the first user.
    fn ask(&self, line: &str, media: &str, body: &[u8]) -> Vec<u8> {
        let (verb, path) = line.split_once(' ').expect("verb and path");
        let headers = [(Api::user_header(), self.token.as_str()), ("content-type", media)];
        request(&format!("{verb} /api/v4{path}"), &headers, body)
    }

    fn case(&self, what: &'static str, line: &str, reason: Reason) -> Case {
        Case { what, bytes: self.ask(line, JSON, b""), reason }
    }

    /// A creation of a runner with this body.
    fn create(&self, what: &'static str, body: impl AsRef<[u8]>, reason: Reason) -> Case {
        Case { what, bytes: self.ask("POST /user/runners", JSON, body.as_ref()), reason }
    }

    /// A change of a runner.
    fn change(&self, what: &'static str, body: Value, reason: Reason) -> Case {
        let line = format!("PUT /runners/{}", self.runner_id);
        Case { what, bytes: self.ask(&line, JSON, body.to_string().as_bytes()), reason }
    }

    /// The creation with one parameter changed.
    fn create_with(&self, what: &'static str, name: &str, value: Value, reason: Reason) -> Case {
        let mut body = json!({ "runner_type": "project_type", "project_id": self.project });
        body[name] = value;
        self.create(what, body.to_string(), reason)
    }
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn bodies(with: &Setting) -> Vec<Case> {
    let deep = format!("{{\"info\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    vec![
        with.create("half a JSON body", "{\"runner_type\":", Reason::BodyMalformed),
        with.create("JSON with an end too many", "{}}", Reason::BodyMalformed),
        with.create(
            "a key twice",
            r#"{"runner_type":"project_type","runner_type":"group_type"}"#,
            Reason::BodyMalformed,
        ),
        with.create("a key twice, once escaped", r#"{"paused":true,"p\u0061used":false}"#, Reason::BodyMalformed),
        with.create("not UTF-8", b"{\"description\":\"\xff\xfe\"}", Reason::BodyMalformed),
        with.create("half a surrogate pair", r#"{"description":"\ud800"}"#, Reason::BodyMalformed),
        with.create("nested without end", deep, Reason::BodyMalformed),
        with.create("a list for an object", "[]", Reason::BodyMalformed),
        with.create("a number for an object", "7", Reason::BodyMalformed),
        with.create("nothing required", "{}", Reason::ParameterMissing),
        with.create("no body at all", "", Reason::ParameterMissing),
        with.create("null for what is required", r#"{"runner_type":null}"#, Reason::ParameterMissing),
        Case {
            what: "another media type",
            bytes: with.ask("POST /user/runners", "application/xml", b"<runner/>"),
            reason: Reason::UnsupportedMediaType,
        },
        Case {
            what: "a form with an incomplete percent sign",
            bytes: with.ask("POST /user/runners", FORM, b"runner_type=%zz"),
            reason: Reason::BodyMalformed,
        },
        Case {
            what: "multipart without a boundary",
            bytes: with.ask("POST /user/runners", "multipart/form-data", b"--x\r\n"),
            reason: Reason::BodyMalformed,
        },
        Case {
            what: "multipart that breaks off",
            bytes: with.ask(
                "POST /user/runners",
                "multipart/form-data; boundary=x",
                b"--x\r\ncontent-disposition: form-data; name=a",
            ),
            reason: Reason::BodyMalformed,
        },
        Case {
            what: "a huge body",
            bytes: with.ask("POST /user/runners", JSON, &vec![b' '; 2 << 20]),
            reason: Reason::BodyTooLarge,
        },
        Case { what: "a huge body that does not say so", bytes: huge_chunked(with), reason: Reason::BodyTooLarge },
    ]
}

/// Two megabytes in chunks.
fn huge_chunked(with: &Setting) -> Vec<u8> {
    let head = format!(
        "POST /api/v4/user/runners HTTP/1.1\r\nhost: paddock\r\nconnection: close\r\n{}: {}\r\ncontent-type: {JSON}\r\n\
         transfer-encoding: chunked\r\n\r\n",
        Api::user_header(),
        with.token
    );
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    [head, chunk.repeat(32), "0\r\n\r\n".to_owned()].concat().into_bytes()
}

fn values(with: &Setting) -> Vec<Case> {
    let invalid = Reason::ParameterInvalid;
    vec![
        with.change("too short a timeout, changed", json!({ "maximum_timeout": 1 }), Reason::ValidationFailed),
        with.change("too long a note", json!({ "maintenance_note": "x".repeat(1025) }), Reason::ValidationFailed),
        with.change("too many tags", json!({ "tag_list": (0..51).collect::<Vec<_>>() }), Reason::ValidationFailed),
        with.change("no tags and no untagged jobs", json!({ "run_untagged": false }), Reason::ValidationFailed),
        with.change("nothing to change", json!({}), Reason::ParameterMissing),
        with.change("both words for one thing", json!({ "active": true, "paused": true }), invalid),
        with.create_with("a word for a number", "project_id", json!("abc"), invalid),
        with.create_with("a fraction for a number", "project_id", json!(1.5), invalid),
        with.create_with("a number beyond 64 bits", "project_id", json!(1e30), invalid),
        with.create_with("the same as text", "project_id", json!("99999999999999999999"), invalid),
        with.create_with("a list for a number", "project_id", json!([1]), invalid),
        with.create_with("an object for a number", "project_id", json!({ "id": 1 }), invalid),
        with.create_with("an unknown type", "runner_type", json!("nonsense"), invalid),
        with.create_with("a number for a type", "runner_type", json!(3), invalid),
        with.create_with("a word for a boolean", "paused", json!("perhaps"), invalid),
        with.create_with("a number beyond 32 bits", "maximum_timeout", json!(1_u64 << 40), invalid),
        with.create_with("an object for a list", "tag_list", json!({ "a": 1 }), invalid),
        with.create_with("objects in a list of texts", "tag_list", json!([{ "a": 1 }]), invalid),
        with.create_with("no time", "token_expires_at", json!("tomorrow"), Reason::BadRequest),
        with.create_with("too short a timeout", "maximum_timeout", json!(1), Reason::BadRequest),
        with.create_with("too long a description", "description", json!("x".repeat(1025)), Reason::BadRequest),
        with.create_with("a NUL", "description", json!("a\0b"), invalid),
        with.case("a page that is no number", "GET /runners?page=abc", invalid),
        with.case("a page before the first", "GET /runners?page=0", invalid),
        with.case("a page far beyond", "GET /runners?page=99999999999999999999", invalid),
        with.case("no items a page", "GET /runners?per_page=-1", invalid),
        with.case("an unknown status", "GET /runners?status=nonsense", invalid),
        with.case("a status in capitals", "GET /runners?status=ONLINE", invalid),
        with.case("a version with letters", "GET /runners?version_prefix=a.b", invalid),
    ]
}

fn paths(with: &Setting) -> Vec<Case> {
    let malformed = Reason::PathMalformed;
    vec![
        with.case("an unknown route", "GET /nothing", Reason::RouteNotFound),
        with.case("a route with a tail", "GET /runners/1/managers/2", Reason::RouteNotFound),
        with.case("a verb that is not offered", "PATCH /runners/1", Reason::MethodNotAllowed),
        with.case("an invented verb", "BREW /runners", Reason::MethodNotAllowed),
        with.case("an incomplete percent sign", "GET /projects/a%2", malformed),
        with.case("no hexadecimal digits", "GET /projects/%zz", malformed),
        with.case("a path that is not UTF-8", "GET /projects/%ff", malformed),
        with.case("a dot segment", "GET /projects/../user", malformed),
        with.case("an encoded dot segment", "GET /projects/%2e%2e/user", malformed),
        with.case("a dot segment behind an encoded slash", "GET /projects/a%2F..%2Fb", malformed),
        with.case("a query that is not UTF-8", "GET /projects?search=%ff", malformed),
        with.case("a query with an incomplete percent sign", "GET /projects?search=%2", malformed),
        with.case("a runner id that is no number", "GET /runners/abc", Reason::ParameterInvalid),
        with.case("a runner id with a slash", "GET /runners/1%2F2", Reason::ParameterInvalid),
        with.case("a runner id beyond 64 bits", "GET /runners/99999999999999999999", Reason::ParameterInvalid),
    ]
}

fn unknown_objects(with: &Setting) -> Vec<Case> {
    let project = with.project;
    let mut cases = vec![
        with.case("an unknown runner", "GET /runners/4611686018427387904", Reason::RunnerNotFound),
        with.case("runner zero", "DELETE /runners/0", Reason::RunnerNotFound),
        with.case("a negative runner", "GET /runners/-1", Reason::RunnerNotFound),
        with.case("an unknown project", "GET /projects/4611686018427387904", Reason::ProjectNotFound),
        with.case("an unknown path", "GET /projects/no%2Fsuch%2Fproject", Reason::ProjectNotFound),
        with.case("a project of an unknown group", "GET /projects/no%2Fsuch/runners", Reason::ProjectNotFound),
        with.case("an unknown group", "GET /groups/4611686018427387904", Reason::GroupNotFound),
        with.case("an unknown group path", "GET /groups/no%2Fsuch/runners", Reason::GroupNotFound),
        with.case("an unknown user", "GET /users/4611686018427387904", Reason::UserNotFound),
        with.case(
            "a runner not assigned here",
            &format!("DELETE /projects/{project}/runners/4611686018427387904"),
            Reason::RunnerNotFound,
        ),
    ];
    let body = json!({ "token": with.runner, "system_id": "s_unknown00000" }).to_string();
    let bytes = with.ask("DELETE /runners/managers", JSON, body.as_bytes());
    cases.push(Case { what: "an unknown manager", bytes, reason: Reason::RunnerManagerNotFound });
    let bytes = with.ask(&format!("POST /projects/{project}/runners"), JSON, br#"{"runner_id":4611686018427387904}"#);
    cases.push(Case { what: "an unknown runner to assign", bytes, reason: Reason::RunnerNotFound });
    cases
}

fn credentials(with: &Setting) -> Vec<Case> {
    let two_of_runners = request(
        "POST /api/v4/runners/verify",
        &[(Api::runner_header(), &with.other_runner), ("content-type", JSON)],
        json!({ "token": with.runner }).to_string().as_bytes(),
    );
    let two_of_users =
        with.ask("POST /user/runners", JSON, json!({ "private_token": with.other_token }).to_string().as_bytes());
    let twice =
        request("GET /api/v4/user", &[(Api::user_header(), &with.token), (Api::user_header(), &with.other_token)], b"");
    let in_query = request(
        &format!("POST /api/v4/runners/verify?token={}", with.other_runner),
        &[("content-type", FORM)],
        format!("token={}", with.runner).as_bytes(),
    );
    let conflict = Reason::ConflictingCredentials;
    vec![
        Case { what: "two runner tokens, header and body", bytes: two_of_runners, reason: conflict },
        Case { what: "two user tokens, header and body", bytes: two_of_users, reason: conflict },
        Case { what: "two user tokens, the header twice", bytes: twice, reason: conflict },
        Case { what: "two runner tokens, query and body", bytes: in_query, reason: conflict },
    ]
}

/// Describes what is wrong with an answer. Returns none if it is the expected refusal.
fn difference(case: &Case, status: u16, head: &str, body: &str) -> Option<String> {
    let spec = case.reason.spec().expect("a reason of the contract");
    let answer: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let complete = ["remedy", "request_id"].iter().all(|key| answer[key].as_str().is_some_and(|text| !text.is_empty()));
    let named =
        head.to_lowercase().contains(&format!("x-request-id: {}", answer["request_id"].as_str().unwrap_or("none")));
    let right = status == spec.http_status && answer["reason"] == spec.code && !answer["message"].is_null();
    (!(right && complete && named)).then(|| format!("{}: expected {}, came {status} {body}", case.what, spec.code))
}

#[tokio::test]
async fn every_bad_input_is_refused_with_its_reason() {
    let paddock = Paddock::start();
    let with = Setting::make(&paddock).await;
    let mut wrong = Vec::new();
    for group in [bodies, values, paths, unknown_objects, credentials] {
        for case in group(&with) {
            let (status, head, body) = exchange(paddock.port(), &case.bytes).await;
            wrong.extend(difference(&case, status, &head, &body));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(fixtures::series(&paddock.metrics().await, "status", "5"), [""; 0]);
    paddock.program().assert_no_errors();
    paddock.stop();
}

/// Bytes that are not HTTP get a 4xx status or a closed connection, and do no harm.
#[tokio::test]
async fn bytes_that_are_not_http_do_no_harm() {
    let paddock = Paddock::start();
    let with = Setting::make(&paddock).await;
    let long_header = "x".repeat(100_000);
    let requests = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"POST /api/v4/runners/verify HTTP/1.1\r\nhost: a\r\ncontent-length: abc\r\n\r\n".to_vec(),
        b"POST /api/v4/runners/verify HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        request("GET /api/v4/user", &[("x-long", &long_header)], b""),
        [b"\n".repeat(100), vec![0xff; 10_000]].concat(),
    ];
    for bytes in requests {
        let (status, head, _) = exchange(paddock.port(), &bytes).await;
        assert!(status == 0 || (400..500).contains(&status), "{head}");
    }
    paddock.anonymous().post("/runners/verify", json!({ "token": with.runner })).await.ok(200);
    assert_eq!(fixtures::series(&paddock.metrics().await, "status", "5"), [""; 0]);
    paddock.program().assert_no_errors();
    paddock.stop();
}

/// Requests that clients send are accepted, even if they are not documented.
#[tokio::test]
async fn requests_of_published_clients_are_accepted() {
    let paddock = Paddock::start();
    let with = Setting::make(&paddock).await;
    let info = json!({ "name": "r", "features": { "variables": true }, "config": { "gpus": "" }, "labels": null });
    let bodies = [
        json!({ "token": with.runner, "info": info, "system_id": "s_0123456789ab", "unheard_of": [1, { "a": null }] }),
        json!({ "token": with.runner, "info": {} }),
        json!({ "token": with.runner, "system_id": null }),
    ];
    for body in bodies {
        paddock.anonymous().post("/runners/verify", body.clone()).await.ok(200);
        paddock.anonymous().post("/runners/verify/", body.clone()).await.ok(200);
        paddock.anonymous().post("/jobs/request", body).await.ok(204);
    }
    let path = format!("/api/v4/runners/verify?token={}", with.runner);
    let requests = [
        // The same token in header and body is one token.
        request(
            "POST /api/v4/runners/verify",
            &[(Api::runner_header(), &with.runner), ("content-type", FORM)],
            format!("token={}", with.runner).as_bytes(),
        ),
        // As gitlab-runner 16.10 to 17.10 sends it.
        request("POST /api/v4/runners/verify", &[(Api::user_header(), &with.runner)], b""),
        // The media type without a body.
        request(&format!("POST {path}"), &[("content-type", JSON)], b""),
        // An empty body, and parameters in the query, as python-gitlab sends it.
        request(&format!("POST {path}"), &[("content-type", JSON)], b"{}"),
        // The reset by id of gitlab-runner has the body `null`.
        with.ask("POST /projects?name=from-the-query", JSON, b"null"),
    ];
    for bytes in requests {
        let (status, _, body) = exchange(paddock.port(), &bytes).await;
        assert!(status == 200 || status == 201, "{status} {body}: {}", String::from_utf8_lossy(&bytes[..60]));
    }
    paddock.program().assert_no_errors();
    paddock.stop();
}

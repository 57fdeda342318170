//! `paddock job`: its output for scripts, and its error messages.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use proto::paddock::contract::v1::{CredentialKind, Reason};
use serde_json::Value;
use system::{Paddock, Upstream, free_port};

use super::{Installation, Scenario, paddock_before, run_job};
use crate::fixtures;

/// The environment of an operator on the machine of the server.
fn at_home(paddock: &Paddock) -> [(&'static str, String); 2] {
    [("PADDOCK_DATA", paddock.data().display().to_string()), ("PADDOCK_PORT", paddock.port().to_string())]
}

fn job_at_home(paddock: &Paddock, arguments: &[&str]) -> (bool, String, String) {
    let settings = at_home(paddock);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run_job(arguments, &settings)
}

/// The address of a server that answers one request, but not as the gateway does.
fn something_else() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nit works!");
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_job_is_issued_listed_and_finished() {
    let upstream = Upstream::start();
    let paddock = paddock_before(&upstream, &[]);
    let root = paddock.root();
    let project = fixtures::project(&root).await;
    let user = fixtures::user(&root).await;
    let developer = serde_json::json!({ "user_id": user, "access_level": 30 });
    root.post(&format!("/projects/{project}/members"), developer).await.ok(201);
    let path = fixtures::text(&root.get(&format!("/projects/{project}")).await.ok(200)["path_with_namespace"]);

    let user_text = user.to_string();
    let listing = ["list", "--output", "json"];
    let issue = ["issue", "--project", &path, "--user", &user_text, "--timeout", "60", "--name", "build"];
    let (done, token, said) = job_at_home(&paddock, &issue);
    assert!(done, "{said}");
    let prefix = CredentialKind::JobToken.spec().expect("a kind of the contract").prefix;
    assert!(token.starts_with(prefix) && token.lines().count() == 1, "the token alone: {token}");
    assert!(!said.contains(&token[token.len() / 2..]), "{said}");

    let (done, listed, said) = job_at_home(&paddock, &listing);
    assert!(done, "{said}");
    assert!(!listed.contains(&token[token.len() / 2..]), "{listed}");
    let jobs: Vec<Value> = serde_json::from_str(&listed).expect("a list of jobs");
    let [job] = jobs.as_slice() else { panic!("one job: {listed}") };
    assert_eq!(
        (&job["status"], &job["name"], &job["project"]["id"]),
        (&"running".into(), &"build".into(), &project.into())
    );
    let id = fixtures::id(job).to_string();
    let (done, text, said) = job_at_home(&paddock, &["list"]);
    assert!(done && text.lines().count() == 2, "headings and a job: {text} {said}");
    assert!(text.contains(&path) && text.contains("build") && text.contains("until"), "{text}");

    // The token is valid only while the job runs.
    let anonymous = paddock.anonymous();
    let own = Scenario::artifact(project, "answer=200");
    assert_eq!(anonymous.get_as_job("/job", &token).await.ok(200)["id"], job["id"]);
    anonymous.get_as_job(&own, &token).await.ok(200);
    let (done, said, _) = job_at_home(&paddock, &["finish", &id]);
    assert!(done && said.contains("finished"), "{said}");
    anonymous.get_as_job(&own, &token).await.refused(Reason::JobNotRunning);
    anonymous.get_as_job("/job", &token).await.refused(Reason::JobNotRunning);
    assert!(job_at_home(&paddock, &["finish", &id]).0, "a second time changes nothing");
    let (_, text, _) = job_at_home(&paddock, &["list"]);
    assert!(text.contains("ended") && !text.contains("until"), "{text}");
    paddock.stop();
}

#[tokio::test]
async fn errors_have_a_remedy_and_show_no_token() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let project = fixtures::project(&root).await.to_string();
    let user = fixtures::user(&root).await.to_string();
    let installation = Installation::from(&paddock);
    let unused_address = format!("http://127.0.0.1:{}", free_port());
    let token_file = paddock.data().join("root.token");
    let token_file = token_file.to_str().expect("a path in UTF-8");
    let folder = tempfile::tempdir().expect("a folder");
    let wrong_token = folder.path().join("token");
    let root_token = paddock.root_token();
    std::fs::write(&wrong_token, &root_token[..root_token.len() - 1]).expect("it is written");
    let wrong_token = wrong_token.to_str().expect("a path in UTF-8");
    let here = paddock.url();

    let cases: [(&[&str], &str); 6] = [
        (&["list", "--server", &unused_address, "--token-file", token_file], "--server"),
        (&["list", "--server", &here, "--token-file", "/nowhere/token"], "--token-file"),
        (&["list", "--server", "localhost", "--token-file", token_file], "http://"),
        (&["list", "--server", &here, "--token-file", wrong_token], "copied completely"),
        (&["list"], "PADDOCK_DATA"),
        (&["issue", "--project", &project], "--user"),
    ];
    for (arguments, remedy) in cases {
        let (done, printed, said) = run_job(arguments, &[("PADDOCK_DATA", "/nowhere")]);
        assert!(!done && printed.is_empty(), "{arguments:?}: {printed}");
        assert!(said.contains(remedy), "{arguments:?}: {said}");
        assert!(!said.contains(&root_token[root_token.len() / 2..root_token.len() - 1]), "{arguments:?}: {said}");
    }
    let elsewhere = Upstream::start();
    for (other, expected_text) in
        [(elsewhere.url(), "302 Found; is it the gateway?"), (something_else(), "not as the gateway")]
    {
        let (_, _, said) = run_job(&["list", "--server", &other, "--token-file", token_file], &[]);
        assert!(said.contains(expected_text) && !said.contains("start `paddock serve`"), "{said}");
    }
    let (done, _, said) = installation.job(&["issue", "--project", "", "--user", &user]);
    assert!(!done && said.contains("full path"), "{said}");
    let path = fixtures::text(&root.get(&format!("/projects/{project}")).await.ok(200)["path_with_namespace"]);
    let with_query = format!("{path}?x=1");
    let with_fragment = format!("{path}#x");
    let cases: [(&[&str], Reason); 7] = [
        (&["issue", "--project", &with_query, "--user", &user], Reason::ProjectNotFound),
        (&["issue", "--project", &with_fragment, "--user", &user], Reason::ProjectNotFound),
        (&["issue", "--project", "999", "--user", &user], Reason::ProjectNotFound),
        (&["issue", "--project", "no/such", "--user", &user], Reason::ProjectNotFound),
        (&["issue", "--project", &project, "--user", "999"], Reason::UserNotFound),
        (&["issue", "--project", &project, "--user", &user, "--timeout", "0"], Reason::ParameterInvalid),
        (&["finish", "999"], Reason::JobNotFound),
    ];
    for (arguments, reason) in cases {
        let (done, printed, said) = installation.job(arguments);
        let code = reason.spec().expect("a reason of the contract").code;
        assert!(!done && printed.is_empty() && said.contains(code), "{arguments:?}: {printed} {said}");
        if reason == Reason::ParameterInvalid {
            assert!(said.contains("1 to 2592000 seconds"), "{said}");
        }
    }
    paddock.stop();
}

#[test]
fn a_reader_that_leaves_early_is_not_a_failure() {
    let paddock = Paddock::start();
    for arguments in [["job", "list"], ["check", "--output=text"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = std::process::Command::new(system::binary("paddock"));
        let metrics = ("PADDOCK_PADDOCK__METRICS_LISTEN", paddock.metrics_listen());
        let ran =
            command.args(arguments).envs(at_home(&paddock)).envs([metrics]).stdout(writer).output().expect("it runs");
        assert!(ran.status.success() && ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
    paddock.stop();
}

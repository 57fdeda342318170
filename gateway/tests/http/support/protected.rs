//! A gateway with protected routes, a job-token-auth with scripted decisions, and a real upstream.

use std::io::Write as _;

use gateway::Config;
use proto::{
    contract::HeaderSpec,
    paddock::{
        contract::v1::{CredentialKind, InternalHeader},
        job_token::v1::{AuthorizeRequest, AuthorizeResponse, Capture, DiscardRequest, FlushRequest},
    },
};
use tempfile::NamedTempFile;

use super::{World, token, upstream::Upstream};

/// A path of a protected route of the default table.
pub const JOBS: &str = "/api/v4/projects/42/jobs";

/// A path of a protected route of the default table that takes a body.
pub const UPLOAD: &str = "/api/v4/projects/42/packages/generic/name/1.0/file.bin";

/// A gateway with an upstream.
pub struct Setup {
    pub world: World,
    pub upstream: Upstream,
    _table: Option<NamedTempFile>,
}

/// The number of calls of each method of job-token-auth.
#[derive(Debug, PartialEq, Eq)]
pub struct CallCounts {
    pub authorize: usize,
    pub flush: usize,
    pub discard: usize,
}

impl Setup {
    /// Starts with the default table of protected routes.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let upstream = Upstream::start().await;
        let url = upstream.url();
        let world = World::start_with(|config| {
            config.upstream = url;
            change(config);
        })
        .await;
        world.fake.on("authorize", |request: AuthorizeRequest| async { Ok(allowed(request)) });
        world.fake.names("authorize", "job", 7);
        Self { world, upstream, _table: None }
    }

    /// Starts with this table of protected routes.
    pub async fn with_table(table: &str) -> Self {
        Self::with_table_and(table, |_| {}).await
    }

    pub async fn with_table_and(table: &str, change: impl FnOnce(&mut Config)) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(table.as_bytes()).unwrap();
        let path = file.path().display().to_string();
        let setup = Self::start_with(|config| {
            config.protected_routes_file = path;
            change(config);
        })
        .await;
        Self { _table: Some(file), ..setup }
    }

    /// Builds a request with a job token.
    pub fn request(&self, verb: &str, path: &str) -> reqwest::RequestBuilder {
        let (header, token) = job_header();
        self.world.request(verb, path).header(header, token)
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request("GET", path)
    }

    /// Allows every access without a capture, as for the own project of a job.
    pub fn allow_without_captures(&self) {
        self.world.fake.on("authorize", |request: AuthorizeRequest| async {
            Ok(AuthorizeResponse { capture: None, ..allowed(request) })
        });
    }

    /// Stops the gateway, which sends every verdict before it ends, and counts the calls of job-token-auth.
    pub async fn stop(&mut self) -> CallCounts {
        self.world.shutdown.cancel();
        (&mut self.world.running).await.unwrap();
        let fake = &self.world.fake;
        CallCounts {
            authorize: fake.calls::<AuthorizeRequest>("authorize").len(),
            flush: fake.calls::<FlushRequest>("flush").len(),
            discard: fake.calls::<DiscardRequest>("discard").len(),
        }
    }
}

/// Returns the header that carries only a job token, and a job token.
pub fn job_header() -> (&'static str, String) {
    let headers = token::headers(CredentialKind::JobToken, &token::of(CredentialKind::JobToken, 1));
    headers.into_iter().find(|(name, _)| *name != "authorization").expect("a header for job tokens alone")
}

/// Returns the bytes of a request with a job token. `headers` are further lines, each with its line break.
pub fn raw_request(verb: &str, path: &str, headers: &str) -> String {
    let (header, token) = job_header();
    format!("{verb} {path} HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\n{headers}\r\n")
}

/// Returns a table with one route to an upstream named `store`. `options` are further lines of the upstream.
pub fn store_table(upstream_url: &str, options: &str, verb: &str, path: &str) -> String {
    format!(
        "[upstreams.store]\nurl = \"{upstream_url}\"\n{options}\n[[routes]]\nmethod = \"{verb}\"\npath = \"{path}\"\n\
         projects = [\"id\"]\npolicies = []\nupstream = \"store\"\n"
    )
}

/// Returns the header of the signed identity.
pub fn identity_header() -> &'static HeaderSpec {
    InternalHeader::JobIdentity.spec().unwrap()
}

/// Returns the identity that job-token-auth issues for a capture.
pub fn identity(capture_id: &str) -> String {
    format!("e30.{}.c2ln", capture_id.replace('-', ""))
}

/// Returns a decision that allows the access: job 7 of project 1 reaches project 42.
pub fn allowed(request: AuthorizeRequest) -> AuthorizeResponse {
    AuthorizeResponse {
        job_id: 7,
        user_id: 3,
        username: "dev".into(),
        origin_project_id: 1,
        target_project_ids: vec![42],
        upstream_identity: identity(&request.capture_id),
        capture: Some(Capture {
            id: request.capture_id,
            origin_project_id: 1,
            target_project_ids: vec![42],
            job_id: 7,
            user_id: 3,
            route: request.route,
            policies: request.policies,
            mode: request.mode,
            ..Capture::default()
        }),
    }
}

//! A gateway between clients, a job-token-auth that decides as the test says, and a real upstream.

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

/// A path of a shipped protected route.
pub const JOBS: &str = "/api/v4/projects/42/jobs";

/// A gateway with an upstream.
pub struct Setup {
    pub world: World,
    pub upstream: Upstream,
    _table: Option<NamedTempFile>,
}

/// What job-token-auth was asked, by kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub authorize: usize,
    pub flush: usize,
    pub discard: usize,
}

impl Setup {
    /// With the shipped table.
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
        world.fake.on("authorize", |asked: AuthorizeRequest| async { Ok(allowed(asked)) });
        Self { world, upstream, _table: None }
    }

    /// With a table of its own.
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

    /// A request with a job token.
    pub fn request(&self, verb: &str, path: &str) -> reqwest::RequestBuilder {
        let (header, token) = job_header();
        self.world.request(verb, path).header(header, token)
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request("GET", path)
    }

    /// Stops the gateway, which tells every verdict before it ends, and counts them.
    pub async fn told(&mut self) -> Told {
        self.world.shutdown.cancel();
        (&mut self.world.running).await.unwrap();
        let fake = &self.world.fake;
        Told {
            authorize: fake.calls::<AuthorizeRequest>("authorize").len(),
            flush: fake.calls::<FlushRequest>("flush").len(),
            discard: fake.calls::<DiscardRequest>("discard").len(),
        }
    }
}

/// The header that carries a job token whole, with one.
pub fn job_header() -> (&'static str, String) {
    let headers = token::headers(CredentialKind::JobToken, &token::of(CredentialKind::JobToken, 1));
    headers.into_iter().find(|(name, _)| *name != "authorization").expect("a header of its own")
}

/// The header of the signed identity.
pub fn identity_header() -> &'static HeaderSpec {
    InternalHeader::JobIdentity.spec().unwrap()
}

/// The identity that job-token-auth gives for a request.
pub fn identity(capture_id: &str) -> String {
    format!("e30.{}.c2ln", capture_id.replace('-', ""))
}

/// The decision of a job-token-auth that allows everything: job 7 of project 1 reaches project 42.
pub fn allowed(asked: AuthorizeRequest) -> AuthorizeResponse {
    AuthorizeResponse {
        job_id: 7,
        user_id: 3,
        username: "dev".into(),
        origin_project_id: 1,
        target_project_ids: vec![42],
        upstream_identity: identity(&asked.capture_id),
        capture: Some(Capture {
            id: asked.capture_id,
            origin_project_id: 1,
            target_project_ids: vec![42],
            job_id: 7,
            user_id: 3,
            route: asked.route,
            policies: asked.policies,
            mode: asked.mode,
            ..Capture::default()
        }),
    }
}

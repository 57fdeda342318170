//! The signed identity that a protected upstream gets instead of the job token: which job reaches which projects. It is valid for
//! a minute and verifies with the published keys. It cannot be used as a job token.

use chassis::status::Fault;
use proto::paddock::job_token::v1::AuthorizeRequest;
use serde::Serialize;
use time::OffsetDateTime;

use super::job_state::RunningJob;
use crate::{
    allowlist::policy,
    job_token::{
        keys::{ISSUER, Purpose, SigningKeys},
        token::Claims,
    },
};

/// The lifetime, in seconds.
const LIFETIME: i64 = 60;

/// The source and the targets of a request.
pub struct UpstreamIdentity<'a> {
    /// The claims of the job token.
    pub claims: &'a Claims,
    /// The job.
    pub job: &'a RunningJob,
    /// The ids of the projects that the job reaches.
    pub target_project_ids: &'a [i64],
    /// The request.
    pub request: &'a AuthorizeRequest,
}

/// The claims of the identity. Times are seconds since the Unix epoch.
#[derive(Serialize)]
struct UpstreamClaims<'a> {
    iss: &'static str,
    /// The name of the upstream.
    aud: &'a str,
    sub: &'a str,
    /// The id of the capture.
    jti: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    job_id: i64,
    user_id: i64,
    username: &'a str,
    origin_project_id: i64,
    origin_project_path: &'a str,
    target_project_ids: &'a [i64],
    policies: Vec<String>,
    route: &'a str,
}

impl UpstreamIdentity<'_> {
    /// Signs the identity.
    ///
    /// # Errors
    /// A fault if it cannot be signed. The request must then not be forwarded.
    pub fn sign(&self, keys: &SigningKeys, now: OffsetDateTime) -> Result<String, Fault> {
        let issued_at = now.unix_timestamp();
        let claims = UpstreamClaims {
            iss: ISSUER,
            aud: &self.request.upstream,
            sub: self.claims.subject(),
            jti: &self.request.capture_id,
            iat: issued_at,
            nbf: issued_at,
            exp: issued_at + LIFETIME,
            job_id: self.claims.job_id,
            user_id: self.claims.user_id,
            username: &self.job.username,
            origin_project_id: self.job.origin.id,
            origin_project_path: &self.job.origin.full_path,
            target_project_ids: self.target_project_ids,
            policies: self.request.policies().map(policy::name).collect(),
            route: &self.request.route,
        };
        keys.sign(Purpose::Upstream, &claims)
    }
}

//! The signed identity that a protected upstream gets instead of the job token: who reaches it, and where to. It lives for a
//! minute and verifies with the published keys; it is no job token and cannot be used as one.

use chassis::status::Fault;
use proto::paddock::job_token::v1::AuthorizeRequest;
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    facts::Runner,
    keys::{ISSUER, Purpose, SigningKeys},
    policy,
    token::Claims,
};

/// Seconds from issue to expiry.
const LIFETIME: i64 = 60;

/// Who a request comes from, and where it goes.
pub struct Identity<'a> {
    /// What the token says.
    pub claims: &'a Claims,
    /// The job.
    pub runner: &'a Runner,
    /// The projects that are reached.
    pub targets: &'a [i64],
    /// The request.
    pub request: &'a AuthorizeRequest,
}

/// What the identity says. Times are seconds since the Unix epoch.
#[derive(Serialize)]
struct Signed<'a> {
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

impl Identity<'_> {
    /// Signs it.
    ///
    /// # Errors
    /// A fault if it cannot be signed; the request must then not go on.
    pub fn sign(&self, keys: &SigningKeys, now: OffsetDateTime) -> Result<String, Fault> {
        let Self { claims, runner, targets, request } = self;
        let iat = now.unix_timestamp();
        let signed = Signed {
            iss: ISSUER,
            aud: &request.upstream,
            sub: claims.subject(),
            jti: &request.capture_id,
            iat,
            nbf: iat,
            exp: iat + LIFETIME,
            job_id: claims.job_id,
            user_id: claims.user_id,
            username: &runner.username,
            origin_project_id: runner.origin.id,
            origin_project_path: &runner.origin.full_path,
            target_project_ids: targets,
            policies: request.policies().map(policy::name).collect(),
            route: &request.route,
        };
        keys.sign(Purpose::Upstream, &signed)
    }
}

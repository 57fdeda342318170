//! The job token: the prefix of its kind and a signed text that names the job. Only the job's row is kept of it.

use std::fmt;

use aws_lc_rs::digest::{self, Digest, SHA256};
use proto::paddock::contract::v1::{CredentialKind, Reason};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use chassis::{
    secrets::SecretText,
    status::{Fault, Refusal},
};

use crate::keys::{ISSUER, Purpose, SigningKeys, Unverified};

/// No token is longer, in bytes; a longer text is refused unread.
pub const MAX_LENGTH: usize = 2048;

/// Seconds that a token outlives the timeout of its job. Source: <https://docs.gitlab.com/ci/jobs/ci_job_token/>
pub const GRACE: i64 = 5 * 60;

/// Seconds by which a clock may be behind the one that issued the token.
const LEEWAY: i64 = GRACE;

/// Who reads a job token.
const AUDIENCE: &str = "job-token-auth";

const PREFIX: &str = match CredentialKind::JobToken.spec() {
    Some(spec) => spec.prefix,
    None => unreachable!(),
};

/// What a job token says. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    sub: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    /// The job.
    pub job_id: i64,
    /// The project of the job.
    pub project_id: i64,
    /// The user that the job runs for.
    pub user_id: i64,
}

impl Claims {
    /// What the token of a new job says.
    #[must_use]
    pub fn new(job_id: i64, project_id: i64, user_id: i64, now: OffsetDateTime, expires_at: OffsetDateTime) -> Self {
        let iat = now.unix_timestamp();
        Self {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: subject(job_id),
            jti: Uuid::new_v4().to_string(),
            iat,
            nbf: iat,
            exp: expires_at.unix_timestamp(),
            job_id,
            project_id,
            user_id,
        }
    }

    /// The job, as the subject of what is signed.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.sub
    }

    /// Whether the token counts now.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_EXPIRED`, or with `JOB_TOKEN_INVALID` for one that is dated ahead.
    pub fn check_times(&self, now: OffsetDateTime) -> Result<(), Refusal> {
        let now = now.unix_timestamp();
        if now >= self.exp {
            let detail = format!("the token of job {} expired {} s ago", self.job_id, now - self.exp);
            return Err(Refusal::new(Reason::JobTokenExpired).with_detail(detail));
        }
        if now + LEEWAY < self.nbf {
            let detail = format!("the token of job {} is dated {} s ahead", self.job_id, self.nbf - now);
            return Err(Refusal::new(Reason::JobTokenInvalid).with_detail(detail));
        }
        Ok(())
    }
}

fn subject(job_id: i64) -> String {
    format!("job:{job_id}")
}

/// A job token. The text is erased from memory when it is dropped.
#[derive(Clone)]
pub struct JobToken(SecretText);

impl JobToken {
    /// Makes the token that says this.
    ///
    /// # Errors
    /// A fault if it cannot be signed.
    pub fn issue(keys: &SigningKeys, claims: &Claims) -> Result<Self, Fault> {
        let signed = Zeroizing::new(keys.sign(Purpose::Job, claims)?);
        Ok(Self([PREFIX, &signed].concat().into()))
    }

    /// Reads a presented token. Only its length and its prefix are looked at.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_MALFORMED`.
    pub fn parse(text: String) -> Result<Self, Refusal> {
        let token = Self(text.into());
        let text = token.expose();
        if text.len() > MAX_LENGTH || !text.starts_with(PREFIX) {
            let detail = format!("a text of {} bytes is no job token", text.len());
            return Err(Refusal::new(Reason::JobTokenMalformed).with_detail(detail));
        }
        Ok(token)
    }

    /// What the token says, if it was issued here. Its times are not looked at.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_MALFORMED` for damage that everybody can see, else with `JOB_TOKEN_INVALID`.
    pub fn verify(&self, keys: &SigningKeys) -> Result<Claims, Refusal> {
        let verified = keys.verify::<Claims>(Purpose::Job, AUDIENCE, &self.expose()[PREFIX.len()..]);
        let verified = verified.and_then(|claims| {
            let is_ours = claims.sub == subject(claims.job_id);
            if is_ours { Ok(claims) } else { Err(Unverified::NotOurs("its subject is not its job".to_owned())) }
        });
        verified.map_err(|why| {
            let reason = match why {
                Unverified::Malformed(_) => Reason::JobTokenMalformed,
                Unverified::NotOurs(_) | Unverified::UnknownKey { .. } => Reason::JobTokenInvalid,
            };
            Refusal::new(reason).with_detail(why.to_string())
        })
    }

    /// The SHA-256 of the text, under which its claims are remembered.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest::digest(&SHA256, self.expose().as_bytes())
    }

    /// The text, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for JobToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobToken")
    }
}

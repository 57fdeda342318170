//! The job token: the prefix of its kind and a signed text that names the job. Only the row of the job is stored.

use std::fmt;

use ::token::MAX_JWT_LENGTH;
use aws_lc_rs::digest::{self, Digest, SHA256};
use chassis::{
    secrets::SecretText,
    status::{Fault, Refusal},
};
use proto::paddock::contract::v1::{CredentialKind, Reason};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::keys::{ISSUER, Purpose, SigningKeys, VerificationError};

/// How long a token is valid after the timeout of its job, in seconds. Source: <https://docs.gitlab.com/ci/jobs/ci_job_token/>
pub const GRACE_SECONDS: i64 = 5 * 60;

/// How far the clock may be behind that of the process that issued the token, in seconds.
const LEEWAY: i64 = GRACE_SECONDS;

/// The audience of a job token.
const AUDIENCE: &str = "job-token-auth";

const PREFIX: &str = match CredentialKind::JobToken.spec() {
    Some(spec) => spec.prefix,
    None => unreachable!(),
};

/// The claims of a job token. Times are seconds since the Unix epoch.
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
    /// Makes the claims of the token of a job.
    #[must_use]
    pub fn new(job_id: i64, project_id: i64, user_id: i64, now: OffsetDateTime, expires_at: OffsetDateTime) -> Self {
        let iat = now.unix_timestamp();
        Self {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: job_subject(job_id),
            jti: Uuid::new_v4().to_string(),
            iat,
            nbf: iat,
            exp: expires_at.unix_timestamp(),
            job_id,
            project_id,
            user_id,
        }
    }

    /// Returns the job as the subject of a signed text.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.sub
    }

    /// Checks that the token is valid at this time.
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

fn job_subject(job_id: i64) -> String {
    format!("job:{job_id}")
}

/// A job token. The text is erased from memory when it is dropped.
#[derive(Clone)]
pub struct JobToken(SecretText);

impl JobToken {
    /// Signs the token with these claims.
    ///
    /// # Errors
    /// A fault if it cannot be signed.
    pub fn issue(keys: &SigningKeys, claims: &Claims) -> Result<Self, Fault> {
        let signed = Zeroizing::new(keys.sign(Purpose::Job, claims)?);
        Ok(Self([PREFIX, &signed].concat().into()))
    }

    /// Reads a presented token. It checks the length and the prefix only.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_MALFORMED`.
    pub fn parse(text: String) -> Result<Self, Refusal> {
        let token = Self(text.into());
        let text = token.expose();
        if text.len() > MAX_JWT_LENGTH || !text.starts_with(PREFIX) {
            let detail = format!("a text of {} bytes is no job token", text.len());
            return Err(Refusal::new(Reason::JobTokenMalformed).with_detail(detail));
        }
        Ok(token)
    }

    /// Returns the claims of a token that was issued here. It does not check their times.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_MALFORMED` if the token does not have the form of one, otherwise with `JOB_TOKEN_INVALID`.
    pub fn verify(&self, keys: &SigningKeys) -> Result<Claims, Refusal> {
        self.verified_claims(keys).map_err(|error| {
            let reason = match error {
                VerificationError::Malformed(_) => Reason::JobTokenMalformed,
                VerificationError::NotOurs(_) | VerificationError::UnknownKey { .. } => Reason::JobTokenInvalid,
            };
            Refusal::new(reason).with_detail(error.to_string())
        })
    }

    fn verified_claims(&self, keys: &SigningKeys) -> Result<Claims, VerificationError> {
        let claims: Claims = keys.verify(Purpose::Job, AUDIENCE, &self.expose()[PREFIX.len()..])?;
        if claims.sub != job_subject(claims.job_id) {
            return Err(VerificationError::NotOurs("its subject is not its job".to_owned()));
        }
        Ok(claims)
    }

    /// Returns the SHA-256 of the text, the cache key of its claims.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest::digest(&SHA256, self.expose().as_bytes())
    }

    /// Returns the text, for the one response that shows it.
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

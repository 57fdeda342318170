//! A protected route.

use std::sync::Arc;

use http::Method;
use proto::paddock::job_token::v1::{CaptureMode, JobTokenPolicy};

use crate::{credential::plan::CredentialPlan, guard::GuardedRoute, proxy::upstream::Upstream, routing::RouteLabel};

/// A route to an upstream that takes job tokens.
#[derive(Debug)]
pub struct ProtectedRoute {
    /// The verb.
    pub verb: Method,
    /// The names of the route in logs, metrics and captures.
    pub label: Arc<RouteLabel>,
    /// The variables of the template that name projects, by their indices.
    pub projects: Vec<usize>,
    /// The policies that it requires.
    pub policies: Vec<JobTokenPolicy>,
    /// The upstream that it leads to.
    pub upstream: Arc<Upstream>,
    /// What it promises about the record of an access.
    pub mode: CaptureMode,
    /// What the guard counts its calls under.
    pub guarded: GuardedRoute,
    /// The carriers of the job token.
    pub credential: CredentialPlan,
    /// Whether the upstream sees the job token.
    pub forwards_credential: bool,
    /// Whether a form may carry the job token.
    pub forms: bool,
    /// Whether the upstream sees the cookies of the client.
    pub forwards_cookies: bool,
    /// The protocol that the client may change to, as the Upgrade header names it.
    pub upgrade: Option<String>,
}

impl ProtectedRoute {
    /// Reports whether it requires only policies for reading. A route without policies is for entries that grant
    /// everything.
    pub fn only_reads(&self) -> bool {
        let mut policies = self.policies.iter();
        !self.policies.is_empty() && policies.all(|policy| policy.as_str_name().starts_with("JOB_TOKEN_POLICY_READ_"))
    }

    /// Reports whether its requests have bodies that write.
    pub fn writes(&self) -> bool {
        [Method::POST, Method::PUT, Method::PATCH].contains(&self.verb) && !self.only_reads()
    }
}

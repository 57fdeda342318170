//! The decision on an access, and the verdict on it.

use std::{collections::BTreeSet, sync::Arc};

use chassis::{
    access::{self, CallContext},
    status::Fault,
};
use metrics::{counter, describe_counter};
use proto::paddock::job_token::v1::{
    AuthorizeRequest, AuthorizeResponse, Capture, CaptureMode, DiscardRequest, DiscardResponse, FlushRequest,
    FlushResponse, JobTokenPolicy, authorization_service_server::AuthorizationService,
};
use proto::timestamp;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::State;
use crate::{
    error::{Error, Result},
    facts::{Granted, Runner},
    scope::Allowed,
    token::{Claims, JobToken},
    upstream::Identity,
};

const DECISIONS: &str = "paddock_job_token_decisions_total";

/// The service.
pub struct Authorization(pub State);

/// A token that may reach every project that it was asked for.
struct Decision {
    claims: Arc<Claims>,
    granted: Vec<Granted>,
}

/// Says what the metrics of decisions mean.
pub fn describe_metrics() {
    describe_counter!(DECISIONS, "decisions on requests with a job token, by result and reason");
}

#[tonic::async_trait]
impl AuthorizationService for Authorization {
    async fn authorize(&self, request: Request<AuthorizeRequest>) -> Result<Response<AuthorizeResponse>, Status> {
        let context = access::context(&request)?.clone();
        Ok(Response::new(self.0.authorize(request.into_inner(), &context).await?))
    }

    async fn flush(&self, request: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        let FlushRequest { capture, status } = request.into_inner();
        let capture = capture.ok_or_else(|| Fault::internal("a flush without a capture"))?;
        check_capture_id(&capture.id)?;
        let is_recorded = matches!(status, 101 | 200..=399);
        let status = u16::try_from(status).ok().filter(|_| is_recorded);
        let status = status.ok_or_else(|| Fault::internal("a flush with a status that is none of success"))?;
        if capture.target_project_ids.is_empty() || capture.mode() == CaptureMode::Unspecified {
            return Err(Fault::internal("a flush of a capture without targets or mode").into());
        }
        self.0.captures.flush(capture, status).await?;
        Ok(Response::new(FlushResponse {}))
    }

    async fn discard(&self, request: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        let DiscardRequest { capture_id } = request.into_inner();
        check_capture_id(&capture_id)?;
        self.0.captures.discard(&capture_id).await?;
        Ok(Response::new(DiscardResponse {}))
    }
}

impl State {
    async fn authorize(&self, mut request: AuthorizeRequest, context: &CallContext) -> Result<AuthorizeResponse> {
        check(&request)?;
        let token = std::mem::take(&mut request.token);
        let decided = self.decide(token, &request, context).await;
        count(&decided);
        let Decision { claims, granted } = decided?;
        let runner = &granted.first().ok_or_else(|| Error::internal("a decision on no project"))?.runner;
        let target_project_ids: Vec<_> = granted.iter().map(|granted| granted.target.id).collect();
        let identity = Identity { claims: &claims, runner, targets: &target_project_ids, request: &request };
        let upstream_identity = identity.sign(&self.signing, self.clock.now())?;
        let capture = self.capture(&claims, runner, &granted, &request, context);
        if let Some(capture) = &capture {
            for Granted { target, .. } in &granted {
                self.known.remember(target.id, &target.full_path).await;
            }
            self.captures.begin(capture).await?;
        }
        Ok(AuthorizeResponse {
            capture,
            job_id: claims.job_id,
            user_id: claims.user_id,
            username: runner.username.clone(),
            origin_project_id: runner.origin.id,
            target_project_ids,
            upstream_identity,
        })
    }

    /// Every project must be allowed.
    async fn decide(&self, token: String, request: &AuthorizeRequest, context: &CallContext) -> Result<Decision> {
        let claims = self.facts.claims(JobToken::parse(token)?).await?;
        let policies: Vec<_> = request.policies().collect();
        let mut granted = Vec::with_capacity(request.projects.len());
        for project in &request.projects {
            granted.push(self.facts.decide(&claims, project, &policies, context).await?);
        }
        Ok(Decision { claims, granted })
    }

    /// What is recorded if the request succeeds; none if the job reaches its own project only.
    fn capture(
        &self,
        claims: &Claims,
        runner: &Runner,
        granted: &[Granted],
        request: &AuthorizeRequest,
        context: &CallContext,
    ) -> Option<Capture> {
        let others = granted.iter().filter(|granted| granted.allowed != Allowed::OwnProject);
        let targets: BTreeSet<_> = others.map(|granted| granted.target.id).collect();
        if targets.is_empty() {
            return None;
        }
        Some(Capture {
            id: request.capture_id.clone(),
            origin_project_id: runner.origin.id,
            target_project_ids: targets.into_iter().collect(),
            job_id: claims.job_id,
            user_id: claims.user_id,
            route: request.route.clone(),
            policies: request.policies.clone(),
            accessed_at: Some(timestamp::from_millis(timestamp::millis(self.clock.now()))),
            mode: request.mode,
            request_id: context.request_id.clone(),
            remote_ip: context.peer_address.map(|address| address.to_string()).unwrap_or_default(),
        })
    }
}

/// The gateway asks, by its table of routes; what is wrong with a question is our own mistake and not the caller's.
fn check(request: &AuthorizeRequest) -> Result<(), Fault> {
    check_capture_id(&request.capture_id)?;
    if request.projects.is_empty() || request.mode() == CaptureMode::Unspecified || request.upstream.is_empty() {
        return Err(Fault::internal("a question without projects, mode or upstream"));
    }
    let is_known = |policy: &i32| JobTokenPolicy::try_from(*policy).is_ok_and(|p| p != JobTokenPolicy::Unspecified);
    match request.policies.iter().find(|policy| !is_known(policy)) {
        Some(unknown) => Err(Fault::internal(format!("policy {unknown} is not known to this version"))),
        None => Ok(()),
    }
}

fn check_capture_id(id: &str) -> Result<(), Fault> {
    // Only the usual form: one capture must not have two spellings.
    match Uuid::try_parse(id) {
        Ok(uuid) if uuid.to_string() == id => Ok(()),
        _ => Err(Fault::internal("the id of a capture is no UUID in its usual form")),
    }
}

/// Counts a decision. A fault is none.
fn count(decided: &Result<Decision>) {
    let (result, reason) = match decided {
        Ok(decision) => {
            ("allowed", decision.granted.iter().map(|granted| granted.allowed).max().map_or("", Allowed::name))
        }
        Err(Error::Refused(refusal)) => ("refused", refusal.spec().code),
        Err(_) => return,
    };
    counter!(DECISIONS, "result" => result, "reason" => reason).increment(1);
}

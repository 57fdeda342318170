//! The decision on an access, and the verdict on it.

use std::{collections::BTreeSet, sync::Arc};

use chassis::{
    access::{self, CallContext},
    client_id::ResolvedClient,
    status::Fault,
};
use metrics::{counter, describe_counter};
use proto::{
    paddock::job_token::v1::{
        AuthorizeRequest, AuthorizeResponse, Capture, CaptureMode, DiscardRequest, DiscardResponse, FlushRequest,
        FlushResponse, authorization_service_server::AuthorizationService,
    },
    timestamp,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::State;
use crate::{
    allowlist::{policy, rules::Allowed},
    decision::{GrantedAccess, RunningJob, UpstreamIdentity},
    error::{Error, Result},
    job_token::token::{Claims, JobToken},
};

const DECISIONS: &str = "paddock_job_token_decisions_total";

/// The service.
pub struct Authorization(pub State);

/// The claims of a token, and the accesses that it is granted.
struct GrantedRequest {
    claims: Arc<Claims>,
    accesses: Vec<GrantedAccess>,
}

/// Describes the metrics of decisions.
pub fn describe_metrics() {
    describe_counter!(DECISIONS, "decisions on requests with a job token, by result and reason");
}

#[tonic::async_trait]
impl AuthorizationService for Authorization {
    async fn authorize(&self, request: Request<AuthorizeRequest>) -> Result<Response<AuthorizeResponse>, Status> {
        let context = access::context(&request)?.clone();
        let client = ResolvedClient::of(&request)?;
        Ok(Response::new(self.0.authorize(request.into_inner(), &context, &client).await?))
    }

    async fn flush(&self, request: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        let FlushRequest { capture, status } = request.into_inner();
        let capture = capture.ok_or_else(|| Fault::internal("a flush without a capture"))?;
        check_capture_id(&capture.id)?;
        let status = recorded_status(status)?;
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
    async fn authorize(
        &self,
        mut request: AuthorizeRequest,
        context: &CallContext,
        client: &ResolvedClient,
    ) -> Result<AuthorizeResponse> {
        check_request(&request)?;
        let token = std::mem::take(&mut request.token);
        let decision = self.decide_on_projects(token, &request, context, client).await;
        count_decision(&decision);
        let GrantedRequest { claims, accesses } = decision?;
        let job = &accesses.first().ok_or_else(|| Error::internal("a decision on no project"))?.job;
        let target_project_ids: Vec<_> = accesses.iter().map(|access| access.target.id).collect();
        let identity =
            UpstreamIdentity { claims: &claims, job, target_project_ids: &target_project_ids, request: &request };
        let upstream_identity = identity.sign(&self.signing, self.clock.now())?;
        let capture = self.new_capture(&claims, job, &accesses, &request, context);
        if let Some(capture) = &capture {
            for access in &accesses {
                self.known_projects.remember(access.target.id, &access.target.full_path).await;
            }
            self.captures.begin(capture).await?;
        }
        Ok(AuthorizeResponse {
            capture,
            job_id: claims.job_id,
            user_id: claims.user_id,
            username: job.username.clone(),
            origin_project_id: job.origin.id,
            target_project_ids,
            upstream_identity,
        })
    }

    /// Decides on every project of the request. The request is refused if one of them is.
    async fn decide_on_projects(
        &self,
        token: String,
        request: &AuthorizeRequest,
        context: &CallContext,
        client: &ResolvedClient,
    ) -> Result<GrantedRequest> {
        let claims = self.decider.claims(JobToken::parse(token)?, client).await?;
        let policies: Vec<_> = request.policies().collect();
        let mut accesses = Vec::with_capacity(request.projects.len());
        for project in &request.projects {
            accesses.push(self.decider.decide(&claims, project, &policies, context).await?);
        }
        Ok(GrantedRequest { claims, accesses })
    }

    /// Makes the capture of the request; none if the job reaches only its own project.
    fn new_capture(
        &self,
        claims: &Claims,
        job: &RunningJob,
        accesses: &[GrantedAccess],
        request: &AuthorizeRequest,
        context: &CallContext,
    ) -> Option<Capture> {
        let to_other_projects = accesses.iter().filter(|access| access.allowed != Allowed::OwnProject);
        let targets: BTreeSet<_> = to_other_projects.map(|access| access.target.id).collect();
        if targets.is_empty() {
            return None;
        }
        Some(Capture {
            id: request.capture_id.clone(),
            origin_project_id: job.origin.id,
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

/// Checks a request of the gateway. It comes from the table of routes, so a wrong request is a fault and not a refusal.
fn check_request(request: &AuthorizeRequest) -> Result<(), Fault> {
    check_capture_id(&request.capture_id)?;
    if request.projects.is_empty() || request.mode() == CaptureMode::Unspecified || request.upstream.is_empty() {
        return Err(Fault::internal("a question without projects, mode or upstream"));
    }
    match request.policies.iter().find(|number| policy::from_number(**number).is_none()) {
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

/// Checks that the status is one of success, since only successes are recorded.
fn recorded_status(status: i32) -> Result<u16, Fault> {
    let status = u16::try_from(status).ok().filter(|status| matches!(status, 101 | 200..=399));
    status.ok_or_else(|| Fault::internal("a flush with a status that is none of success"))
}

/// Counts a decision. A fault is not a decision.
fn count_decision(decision: &Result<GrantedRequest>) {
    let (result, reason) = match decision {
        Ok(granted) => {
            let allowed = granted.accesses.iter().map(|access| access.allowed).max();
            ("allowed", allowed.map_or("", Allowed::name))
        }
        Err(Error::Refused(refusal)) => ("refused", refusal.spec().code),
        Err(_) => return,
    };
    counter!(DECISIONS, "result" => result, "reason" => reason).increment(1);
}

//! Decisions on requests, and verdicts on captures.

use chassis::access::Caller;
use job_token_auth::{
    entity::known_project,
    job_token::{
        keys::{ISSUER, Purpose},
        token::{Claims, JobToken},
    },
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proto::paddock::{
    contract::v1::Process,
    job_token::v1::{
        AuthorizeRequest, Capture, CaptureMode, DiscardRequest, FlushRequest, GetCurrentJobRequest,
        IssueJobTokenRequest, JobStatus,
        JobTokenPolicy::{AdminJobs, ReadJobs},
        ListSigningKeysRequest, StartJobRequest,
    },
};
use sea_orm::{EntityTrait as _, QueryOrder as _, QuerySelect as _};
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::support::{ALICE, Actor, Answer as _, ROOT, START, Service, both_databases, question};

/// Creates two private projects of alice, 10 and 20, and a running job in the first. Returns the job's id and its token.
async fn job_and_target(service: &Service) -> (i64, String) {
    service.project(10, "shop/app", None);
    service.project(20, "tools/charts", None);
    let (job, token) = service.running_job(10).await;
    (job.id, token)
}

async fn reason(actor: &Actor, request: AuthorizeRequest) -> &'static str {
    actor.authorization().authorize(request).await.reason()
}

/// The reason for which a token may not reach project 10 without a policy; none: it may.
async fn own_project_reason(actor: &Actor, token: &str) -> Option<&'static str> {
    let answer = actor.authorization().authorize(question(token, &["10"], &[])).await;
    if answer.is_ok() { None } else { Some(answer.reason()) }
}

/// A token with any claims, signed with the key of the service.
fn forged(service: &Service, job_id: i64, project_id: i64, user_id: i64) -> String {
    let claims = Claims::new(job_id, project_id, user_id, START, START + Duration::hours(1));
    JobToken::issue(&service.signing, &claims).unwrap().expose().to_owned()
}

async fn is_allowed(actor: &Actor, request: AuthorizeRequest) -> bool {
    actor.authorization().authorize(request).await.is_ok()
}

both_databases! {
    async fn an_access_to_another_project_is_allowed_with_a_capture_and_an_identity(service) {
        let (job_id, token) = job_and_target(service).await;
        service.allow(20, 10).await;
        service.clock.advance(Duration::milliseconds(2123));
        let question = question(&token, &["tools/charts"], &[ReadJobs]);
        let answer = service.gateway().authorization().authorize(question.clone()).await.answer();
        assert_eq!((answer.job_id, answer.user_id, answer.username.as_str()), (job_id, ALICE, "alice"));
        assert_eq!((answer.origin_project_id, answer.target_project_ids), (10, vec![20]));
        let accessed_at = prost_types::Timestamp { seconds: START.unix_timestamp() + 2, nanos: 123_000_000 };
        let capture = Capture {
            id: question.capture_id.clone(),
            origin_project_id: 10,
            target_project_ids: vec![20],
            job_id,
            user_id: ALICE,
            route: question.route.clone(),
            policies: vec![ReadJobs.into()],
            accessed_at: Some(accessed_at),
            mode: CaptureMode::Strict.into(),
            request_id: "test-request".to_owned(),
            remote_ip: "192.0.2.7".to_owned(),
        };
        assert_eq!(answer.capture, Some(capture.clone()));
        service.gateway().authorization().flush(FlushRequest { capture: Some(capture), status: 200 }).await.answer();
        let known: Vec<(i64, String)> = known_project::Entity::find()
            .order_by_asc(known_project::Column::Id)
            .select_only()
            .columns([known_project::Column::Id, known_project::Column::FullPath])
            .into_tuple()
            .all(&service.database)
            .await
            .unwrap();
        let paths = [(10, "shop/app".to_owned()), (20, "tools/charts".to_owned())];
        assert_eq!(known, paths, "for lists that name them after their end");
        let identity = verified(service, &answer.upstream_identity).await;
        let now = START.unix_timestamp() + 2;
        let expected = json!({
            "iss": ISSUER, "aud": "artifacts", "sub": format!("job:{job_id}"), "jti": question.capture_id,
            "iat": now, "nbf": now, "exp": now + 60, "job_id": job_id, "user_id": ALICE, "username": "alice",
            "origin_project_id": 10, "origin_project_path": "shop/app", "target_project_ids": [20],
            "policies": ["read_jobs"], "route": question.route,
        });
        assert_eq!(identity, expected);
    }

    async fn a_job_reaches_its_own_project_without_a_record(service) {
        let (_, token) = job_and_target(service).await;
        for project in ["10", "shop/app"] {
            let question = question(&token, &[project], &[AdminJobs]);
            let answer = service.gateway().authorization().authorize(question).await.answer();
            assert_eq!((answer.capture, answer.target_project_ids), (None, vec![10]));
            assert!(!answer.upstream_identity.is_empty());
        }
    }

    async fn a_user_who_loses_the_role_loses_it_in_running_jobs(service) {
        let (_, token) = job_and_target(service).await;
        let gateway = service.gateway();
        for (role, expected) in
            [(Some(40), None), (Some(20), Some("access_denied")), (None, Some("project_not_found")), (Some(30), None)]
        {
            service.registry.role(ALICE, 10, role);
            service.clock.advance(Duration::seconds(1));
            match expected {
                None => assert!(is_allowed(&gateway, question(&token, &["10"], &[AdminJobs])).await, "{role:?}"),
                Some(expected) => {
                    let reason = reason(&gateway, question(&token, &["10"], &[AdminJobs])).await;
                    assert_eq!(reason, expected, "{role:?}");
                }
            }
        }
    }

    async fn every_project_of_a_request_must_be_allowed_and_is_captured(service) {
        let (_, token) = job_and_target(service).await;
        service.project(30, "tools/base", None);
        let gateway = service.gateway();
        let projects = ["tools/base", "20", "10", "30"];
        assert_eq!(reason(&gateway, question(&token, &projects, &[ReadJobs])).await, "job_token_not_in_scope");
        service.allow(20, 10).await;
        assert_eq!(reason(&gateway, question(&token, &projects, &[ReadJobs])).await, "job_token_not_in_scope");
        service.allow(30, 10).await;
        let answer = gateway.authorization().authorize(question(&token, &projects, &[ReadJobs])).await.answer();
        assert_eq!(answer.target_project_ids, [30, 20, 10, 30], "in the order of the question");
        assert_eq!(answer.capture.unwrap().target_project_ids, [20, 30], "each once, without the job's own");
    }

    async fn a_token_is_good_only_while_its_job_runs(service) {
        service.project(10, "shop/app", None);
        let gateway = service.gateway();
        let created = IssueJobTokenRequest {
            project_id: 10,
            user_id: ALICE,
            status: Some(JobStatus::Created.into()),
            timeout: Some(60),
            ..Default::default()
        };
        let issued = gateway.jobs().issue_job_token(created).await.answer();
        let id = issued.job.unwrap().id;
        let token = issued.token;
        assert_eq!(own_project_reason(&gateway, &token).await, Some("job_not_running"));
        gateway.jobs().start_job(StartJobRequest { id }).await.answer();
        assert_eq!(own_project_reason(&gateway, &token).await, None, "at once in the process that started the job");
        service.clock.advance(Duration::seconds(60 + 5 * 60 - 1));
        assert_eq!(own_project_reason(&gateway, &token).await, None);
        service.clock.advance(Duration::seconds(1));
        assert_eq!(own_project_reason(&gateway, &token).await, Some("job_token_expired"));
        service.clock.advance(Duration::seconds(-1));
        assert_eq!(own_project_reason(&gateway, &token).await, None);
        service.finish_job(id).await;
        let finished = own_project_reason(&gateway, &token).await;
        assert_eq!(finished, Some("job_not_running"), "at once in the process that finished the job");
    }

    async fn a_token_that_was_not_issued_for_such_a_job_is_invalid(service) {
        let (job_id, token) = job_and_target(service).await;
        let same_claims = forged(service, job_id, 10, ALICE);
        assert!(is_allowed(&service.gateway(), question(&same_claims, &["10"], &[])).await);
        let tokens = [
            forged(service, job_id + 1, 10, ALICE),
            forged(service, job_id, 20, ALICE),
            forged(service, job_id, 10, ROOT),
        ];
        for token in tokens {
            assert_eq!(reason(&service.gateway(), question(&token, &["10"], &[])).await, "job_token_invalid");
        }
        service.registry.delete_user(ALICE);
        service.clock.advance(Duration::seconds(1));
        assert_eq!(reason(&service.gateway(), question(&token, &["10"], &[])).await, "job_user_deleted");
    }

    async fn a_damaged_token_is_malformed(service) {
        let (_, token) = job_and_target(service).await;
        let cut = token.len() - 1;
        let middle = token.len() / 2;
        let tokens = [
            token[1..].to_owned(),
            token[..cut].to_owned(),
            token[..middle].to_owned(),
            format!("{}*{}", &token[..middle], &token[middle + 1..]),
            format!("{token}A"),
            token.replace('.', ""),
            "x".repeat(5000),
            String::new(),
        ];
        for token in tokens {
            let refused = service.gateway().authorization().authorize(question(&token, &["10"], &[])).await.refusal();
            assert_eq!(refused.spec().code, "job_token_malformed", "{token}");
        }
    }

    async fn deleted_projects_have_different_reasons(service) {
        let (_, token) = job_and_target(service).await;
        service.allow(20, 10).await;
        let gateway = service.gateway();
        let long = "x".repeat(300);
        for nothing in ["99", "no/such", "", &long] {
            assert_eq!(reason(&gateway, question(&token, &[nothing], &[ReadJobs])).await, "project_not_found");
        }
        service.registry.delete_project(20);
        assert_eq!(reason(&gateway, question(&token, &["20"], &[ReadJobs])).await, "project_not_found");
        service.registry.delete_project(10);
        service.clock.advance(Duration::seconds(1));
        assert_eq!(reason(&gateway, question(&token, &["20"], &[ReadJobs])).await, "job_project_deleted");
        assert_eq!(reason(&gateway, question(&token, &["10"], &[ReadJobs])).await, "job_project_deleted");
    }

    async fn changes_by_other_processes_apply_within_the_lag(service) {
        let (_, token) = job_and_target(service).await;
        service.allow(20, 10).await;
        let gateway = service.gateway();
        let request = question(&token, &["20"], &[ReadJobs]);
        assert!(is_allowed(&gateway, request.clone()).await);
        let calls = service.registry.calls();
        service.registry.role(ALICE, 20, None);
        service.clock.advance(Duration::milliseconds(999));
        assert!(is_allowed(&gateway, request.clone()).await);
        assert_eq!(service.registry.calls(), calls, "the cache has everything");
        service.clock.advance(Duration::milliseconds(1));
        assert_eq!(reason(&gateway, request.clone()).await, "project_not_found");
        service.registry.role(ALICE, 20, Some(20));
        service.clock.advance(Duration::seconds(-60));
        assert!(is_allowed(&gateway, request).await, "the cache is stale when the clock has gone back");
    }

    async fn wrong_requests_of_the_gateway_are_faults(service) {
        let (_, token) = job_and_target(service).await;
        let good = question(&token, &["10"], &[]);
        let questions = [
            AuthorizeRequest { projects: Vec::new(), ..good.clone() },
            AuthorizeRequest { capture_id: "1".to_owned(), ..good.clone() },
            AuthorizeRequest { capture_id: good.capture_id.to_uppercase(), ..good.clone() },
            AuthorizeRequest { capture_id: Uuid::nil().simple().to_string(), ..good.clone() },
            AuthorizeRequest { mode: 0, ..good.clone() },
            AuthorizeRequest { mode: 99, ..good.clone() },
            AuthorizeRequest { upstream: String::new(), ..good.clone() },
            AuthorizeRequest { policies: vec![999], ..good.clone() },
            AuthorizeRequest { policies: vec![0], ..good.clone() },
        ];
        for question in questions {
            assert_eq!(service.gateway().authorization().authorize(question).await.fault(), "internal");
        }
        assert!(is_allowed(&service.gateway(), good).await);
    }

    async fn only_successes_are_flushed(service) {
        let (_, token) = job_and_target(service).await;
        service.allow(20, 10).await;
        let mut client = service.gateway().authorization();
        let capture = client.authorize(question(&token, &["20"], &[ReadJobs])).await.answer().capture.unwrap();
        for status in [0, -1, 99, 100, 102, 199, 400, 401, 404, 500, 65_736, i32::MAX] {
            let flush = FlushRequest { capture: Some(capture.clone()), status };
            assert_eq!(client.flush(flush).await.fault(), "internal", "{status}");
        }
        let broken = [
            None,
            Some(Capture { id: "1".to_owned(), ..capture.clone() }),
            Some(Capture { target_project_ids: Vec::new(), ..capture.clone() }),
            Some(Capture { mode: 0, ..capture.clone() }),
        ];
        for capture in broken {
            assert_eq!(client.flush(FlushRequest { capture, status: 200 }).await.fault(), "internal");
        }
        for status in [200, 204, 206, 302, 304, 399, 101] {
            let id = Uuid::now_v7().to_string();
            let flush = FlushRequest { capture: Some(Capture { id, ..capture.clone() }), status };
            client.flush(flush).await.answer();
        }
        client.discard(DiscardRequest { capture_id: capture.id }).await.answer();
        assert_eq!(client.discard(DiscardRequest { capture_id: "1".to_owned() }).await.fault(), "internal");
    }

    async fn a_registry_that_does_not_answer_is_a_fault(service) {
        let (_, token) = job_and_target(service).await;
        service.registry.set_down(true);
        let request = question(&token, &["10"], &[]);
        assert_eq!(service.gateway().authorization().authorize(request.clone()).await.fault(), "unavailable");
        service.registry.set_down(false);
        assert!(is_allowed(&service.gateway(), request).await, "the failure is not cached");
    }

    async fn every_answer_about_a_token_that_was_issued_here_names_its_job(service) {
        let (job_id, token) = job_and_target(service).await;
        let owner = format!("job/{job_id}");
        let not_of_this_job = forged(service, job_id, 20, ALICE);
        let cases = [
            (&token, "10", None),
            (&token, "20", Some("job_token_not_in_scope")),
            (&token, "99", Some("project_not_found")),
            (&not_of_this_job, "10", Some("job_token_invalid")),
        ];
        let gateway = service.gateway();
        for (token, project, expected) in cases {
            let answer = gateway.authorization().authorize(question(token, &[project], &[ReadJobs])).await;
            assert_eq!(answer.owner().as_deref(), Some(owner.as_str()), "{expected:?}");
            assert_eq!(if answer.is_ok() { None } else { Some(answer.reason()) }, expected);
        }
        let in_own_project = question(&token, &["10"], &[]);
        service.clock.advance(Duration::seconds(1));
        service.registry.set_down(true);
        let failed = gateway.authorization().authorize(in_own_project.clone()).await;
        assert_eq!((failed.owner().as_deref(), failed.fault()), (Some(owner.as_str()), "unavailable"));
        service.registry.set_down(false);
        service.finish_job(job_id).await;
        let finished = gateway.authorization().authorize(in_own_project.clone()).await;
        assert_eq!((finished.owner().as_deref(), finished.reason()), (Some(owner.as_str()), "job_not_running"));
        let of_holder = service.job().jobs().get_current_job(GetCurrentJobRequest { token: token.clone() }).await;
        assert_eq!((of_holder.owner().as_deref(), of_holder.reason()), (Some(owner.as_str()), "job_not_running"));
        service.clock.advance(Duration::hours(2));
        let expired = gateway.authorization().authorize(in_own_project).await;
        assert_eq!((expired.owner().as_deref(), expired.reason()), (Some(owner.as_str()), "job_token_expired"));
        let damaged = gateway.authorization().authorize(question(&format!("{token}A"), &["10"], &[])).await;
        assert_eq!((damaged.owner(), damaged.reason()), (None, "job_token_malformed"));
    }

    async fn users_do_not_authorize(service) {
        let (_, token) = job_and_target(service).await;
        for actor in [service.root(), service.job(), service.speaking_as(Caller::Anonymous)] {
            let answer = actor.authorization().authorize(question(&token, &["10"], &[])).await;
            assert_eq!(answer.fault(), "caller_not_accepted");
        }
    }
}

/// The claims of an identity, verified with the published keys.
async fn verified(service: &Service, identity: &str) -> Value {
    let anonymous = service.speaking_as(Caller::Anonymous);
    let keys = anonymous.jobs().list_signing_keys(ListSigningKeysRequest {}).await.answer().keys;
    let header = jsonwebtoken::decode_header(identity).unwrap();
    assert_eq!(header.typ.as_deref(), Some(Purpose::Upstream.header_type()));
    let key = keys.into_iter().find(|key| Some(&key.kid) == header.kid.as_ref()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["artifacts"]);
    // The clock of the test is not that of the machine.
    validation.validate_exp = false;
    jsonwebtoken::decode(identity, &DecodingKey::from_ed_components(&key.x).unwrap(), &validation).unwrap().claims
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_by_another_process_applies_within_the_lag() {
    let mut service = Service::on_sqlite(|_| {}).await;
    service.add_replica().await;
    let (job_id, token) = job_and_target(&service).await;
    service.allow(20, 10).await;
    let other = service.on_replica(1, Caller::Process(Process::Gateway));
    let request = question(&token, &["20"], &[ReadJobs]);
    assert!(is_allowed(&service.gateway(), request.clone()).await && is_allowed(&other, request.clone()).await);
    service.finish_job(job_id).await;
    assert!(is_allowed(&other, request.clone()).await, "cached for the lag");
    assert_eq!(reason(&service.gateway(), request.clone()).await, "job_not_running");
    service.clock.advance(Duration::seconds(1));
    assert_eq!(reason(&other, request.clone()).await, "job_not_running");
    service.finish().await;
}

/// `cache_ms = 0` turns the cache off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lag_nothing_is_cached() {
    let service = Service::on_sqlite(|config| config.cache_ms = 0).await;
    let (_, token) = job_and_target(&service).await;
    service.enforce(20, false).await;
    let request = question(&token, &["20"], &[ReadJobs]);
    assert!(is_allowed(&service.gateway(), request.clone()).await);
    service.registry.role(ALICE, 20, None);
    assert_eq!(reason(&service.gateway(), request.clone()).await, "project_not_found");
    service.finish().await;
}

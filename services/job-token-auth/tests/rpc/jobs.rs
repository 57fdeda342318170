//! Jobs from their creation to their end.

use chassis::access::Caller;
use proto::paddock::{
    contract::v1::{CredentialKind, Process},
    directory::v1::Visibility,
    job_token::v1::{
        FinishJobRequest, GetCurrentJobRequest, GetCurrentJobResponse, IssueJobTokenRequest, Job, JobProject,
        JobStatus, JobUser, ListJobsRequest, ListSigningKeysRequest, StartJobRequest,
    },
    page::v1::Page,
};
use time::Duration;
use token::MAX_JWT_LENGTH;
use tonic::{Response, Status};

use crate::support::{ALICE, Answer as _, ROOT, START, Service, both_databases};

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: START.unix_timestamp() + seconds, nanos: 0 })
}

fn new(status: Option<JobStatus>) -> IssueJobTokenRequest {
    IssueJobTokenRequest {
        project_id: 10,
        user_id: ALICE,
        timeout: Some(60),
        status: status.map(Into::into),
        name: Some("deploy".to_owned()),
        stage: Some("release".to_owned()),
        r#ref: Some("main".to_owned()),
    }
}

fn expected(id: i64, status: JobStatus) -> Job {
    Job {
        id,
        status: status.into(),
        name: Some("deploy".to_owned()),
        stage: Some("release".to_owned()),
        r#ref: Some("main".to_owned()),
        created_at: at(0),
        started_at: None,
        finished_at: None,
        token_expires_at: at(360),
        user: Some(JobUser { id: ALICE, username: Some("alice".to_owned()), name: Some("alice the user".to_owned()) }),
        project: Some(JobProject { id: 10, path_with_namespace: Some("shop/app".to_owned()) }),
    }
}

async fn current(service: &Service, token: &str) -> Result<Response<GetCurrentJobResponse>, Status> {
    service.job().jobs().get_current_job(GetCurrentJobRequest { token: token.to_owned() }).await
}

/// The ids of a page of jobs, and the page.
async fn list(service: &Service, request: ListJobsRequest) -> (Vec<i64>, Page) {
    let answer = service.root().jobs().list_jobs(request).await.answer();
    (answer.jobs.iter().map(|job| job.id).collect(), answer.page.unwrap())
}

both_databases! {
    async fn a_job_goes_from_created_to_running_to_finished(service) {
        service.project(10, "shop/app", None);
        let mut client = service.root().jobs();
        let issued = client.issue_job_token(new(Some(JobStatus::Created))).await.answer();
        let job = issued.job.unwrap();
        let id = job.id;
        assert_eq!(job, expected(id, JobStatus::Created));
        let prefix = CredentialKind::JobToken.spec().unwrap().prefix;
        assert!(issued.token.starts_with(prefix) && issued.token.len() < MAX_JWT_LENGTH);
        assert_eq!(current(service, &issued.token).await.reason(), "job_not_running");

        service.clock.advance(Duration::seconds(5));
        let running = Job { started_at: at(5), token_expires_at: at(5 + 360), ..expected(id, JobStatus::Running) };
        assert_eq!(client.start_job(StartJobRequest { id }).await.answer().job, Some(running.clone()));
        assert_eq!(current(service, &issued.token).await.answer().job, Some(running.clone()));
        service.clock.advance(Duration::seconds(2));
        assert_eq!(client.start_job(StartJobRequest { id }).await.answer().job, Some(running.clone()), "as it was");

        let finished = Job { finished_at: at(7), status: JobStatus::Finished.into(), ..running };
        assert_eq!(client.finish_job(FinishJobRequest { id }).await.answer().job, Some(finished.clone()));
        service.clock.advance(Duration::seconds(2));
        assert_eq!(client.finish_job(FinishJobRequest { id }).await.answer().job, Some(finished), "as it was");
        assert_eq!(client.start_job(StartJobRequest { id }).await.reason(), "job_finished");
        assert_eq!(current(service, &issued.token).await.reason(), "job_not_running");
    }

    async fn the_time_that_a_job_waits_does_not_count(service) {
        service.project(10, "shop/app", None);
        let mut client = service.root().jobs();
        let in_advance = client.issue_job_token(new(Some(JobStatus::Created))).await.answer();
        let id = in_advance.job.unwrap().id;
        service.clock.advance(Duration::days(2));
        let started = client.start_job(StartJobRequest { id }).await.answer();
        let waited = 2 * 24 * 60 * 60;
        assert_eq!(started.job.unwrap().token_expires_at, at(waited + 360));
        assert_eq!(current(service, &in_advance.token).await.reason(), "job_token_expired");
        current(service, &started.token).await.answer();

        // A caller who did not get the response starts the job again, and the token does not live longer.
        service.clock.advance(Duration::seconds(359));
        let again = client.start_job(StartJobRequest { id }).await.answer();
        assert_eq!(again.job.unwrap().token_expires_at, at(waited + 360));
        for token in [&started.token, &again.token] {
            current(service, token).await.answer();
        }
        service.clock.advance(Duration::seconds(1));
        for token in [&started.token, &again.token] {
            assert_eq!(current(service, token).await.reason(), "job_token_expired");
        }
    }

    async fn a_job_is_not_issued_for_a_user_who_does_not_see_its_project(service) {
        let mut client = service.root().jobs();
        for (role, visibility, expected) in [
            (None, Visibility::Private, false),
            (Some(10), Visibility::Private, true),
            (None, Visibility::Internal, true),
            (None, Visibility::Public, true),
        ] {
            service.registry.project(10, "shop/app", None, visibility);
            service.registry.role(ALICE, 10, role);
            let issued = client.issue_job_token(new(None)).await;
            match expected {
                true => assert!(issued.is_ok(), "{role:?} {visibility:?}"),
                false => {
                    let refusal = issued.refusal();
                    let refusal = (refusal.spec().code, refusal.spec().http_status);
                    assert_eq!(refusal, ("job_user_without_access", 422));
                }
            }
        }
        service.registry.project(10, "shop/app", None, Visibility::Private);
        let request = IssueJobTokenRequest { user_id: ROOT, ..new(None) };
        client.issue_job_token(request).await.answer();
    }

    async fn a_job_runs_at_once_by_default(service) {
        service.project(10, "shop/app", None);
        let (job, token) = service.running_job(10).await;
        assert_eq!((job.status(), job.started_at, job.token_expires_at), (JobStatus::Running, at(0), at(3600 + 300)));
        assert_eq!(current(service, &token).await.answer().job, Some(job.clone()));
        service.finish_job(job.id).await;
        // A job that never started can finish.
        let created = service.gateway().jobs().issue_job_token(new(Some(JobStatus::Created))).await.answer();
        let id = created.job.unwrap().id;
        let finished = service.gateway().jobs().finish_job(FinishJobRequest { id }).await.answer().job.unwrap();
        assert_eq!((finished.started_at, finished.finished_at), (None, at(0)));
    }

    async fn invalid_jobs_are_refused_with_the_reason(service) {
        service.project(10, "shop/app", None);
        let mut client = service.root().jobs();
        let long = Some("x".repeat(256));
        let timeout = "timeout does not have a valid value: it is 1 to 2592000 seconds";
        let cases = [
            (IssueJobTokenRequest { project_id: 99, ..new(None) }, "404 Project Not Found"),
            (IssueJobTokenRequest { user_id: 99, ..new(None) }, "404 User Not Found"),
            (IssueJobTokenRequest { timeout: Some(0), ..new(None) }, timeout),
            (IssueJobTokenRequest { timeout: Some(2_592_001), ..new(None) }, timeout),
            (new(Some(JobStatus::Finished)), "status does not have a valid value"),
            (new(Some(JobStatus::Unspecified)), "status does not have a valid value"),
            (IssueJobTokenRequest { status: Some(99), ..new(None) }, "status does not have a valid value"),
            (IssueJobTokenRequest { name: long.clone(), ..new(None) }, "name is invalid"),
            (IssueJobTokenRequest { stage: long.clone(), ..new(None) }, "stage is invalid"),
            (IssueJobTokenRequest { r#ref: Some("a\0".to_owned()), ..new(None) }, "ref is invalid"),
        ];
        for (request, text) in cases {
            assert_eq!(client.issue_job_token(request).await.refusal().message(), text);
        }
        let largest = IssueJobTokenRequest {
            name: Some("\u{e9}".repeat(255)),
            timeout: Some(2_592_000),
            ..new(None)
        };
        client.issue_job_token(largest).await.answer();
        for id in [0, -1, 99, i64::MAX] {
            assert_eq!(client.start_job(StartJobRequest { id }).await.reason(), "job_not_found");
            assert_eq!(client.finish_job(FinishJobRequest { id }).await.reason(), "job_not_found");
        }
    }

    async fn jobs_are_listed_the_newest_first_and_outlive_their_project(service) {
        service.project(10, "shop/app", None);
        service.project(20, "tools/charts", None);
        let mut ids = Vec::new();
        for project in [10, 20, 10, 10] {
            ids.push(service.running_job(project).await.0.id);
        }
        service.finish_job(ids[2]).await;
        assert_eq!(list(service, ListJobsRequest::default()).await.0, [ids[3], ids[2], ids[1], ids[0]]);
        let of_project = ListJobsRequest { project_id: Some(10), per_page: Some(2), ..Default::default() };
        let (first, page) = list(service, of_project).await;
        assert_eq!((first, page.total, page.has_next), (vec![ids[3], ids[2]], Some(3), true));
        let (second, page) = list(service, ListJobsRequest { page: Some(2), ..of_project }).await;
        assert_eq!((second, page.has_next), (vec![ids[0]], false));
        let finished = ListJobsRequest { status: Some(JobStatus::Finished.into()), ..Default::default() };
        assert_eq!(list(service, finished).await.0, [ids[2]]);
        for wrong in [
            ListJobsRequest { status: Some(0), ..Default::default() },
            ListJobsRequest { page: Some(0), ..Default::default() },
        ] {
            assert_eq!(service.root().jobs().list_jobs(wrong).await.reason(), "parameter_invalid");
        }

        service.registry.delete_project(20);
        service.registry.delete_user(ALICE);
        let of_deleted_project = ListJobsRequest { project_id: Some(20), ..Default::default() };
        let job = service.root().jobs().list_jobs(of_deleted_project).await.answer().jobs.remove(0);
        assert_eq!(job.project, Some(JobProject { id: 20, path_with_namespace: None }));
        assert_eq!(job.user, Some(JobUser { id: ALICE, username: None, name: None }));
    }

    async fn only_a_valid_token_returns_its_job(service) {
        service.project(10, "shop/app", None);
        let (job, token) = service.running_job(10).await;
        assert_eq!(current(service, &token).await.answer().job.unwrap().id, job.id);
        for wrong in [String::new(), token[1..].to_owned(), format!("{token}A"), "x".repeat(MAX_JWT_LENGTH + 1)] {
            assert_eq!(current(service, &wrong).await.reason(), "job_token_malformed");
        }
        service.registry.delete_user(ALICE);
        assert_eq!(current(service, &token).await.reason(), "job_user_deleted");
        service.registry.delete_project(10);
        assert_eq!(current(service, &token).await.reason(), "job_project_deleted");
        service.clock.advance(Duration::seconds(3900));
        assert_eq!(current(service, &token).await.reason(), "job_token_expired");
    }

    async fn jobs_are_for_administrators_and_processes(service) {
        service.project(10, "shop/app", None);
        let alice = service.alice();
        assert_eq!(alice.jobs().issue_job_token(new(None)).await.reason(), "admin_required");
        assert_eq!(alice.jobs().list_jobs(ListJobsRequest::default()).await.reason(), "admin_required");
        assert_eq!(alice.jobs().start_job(StartJobRequest { id: 1 }).await.reason(), "admin_required");
        assert_eq!(alice.jobs().finish_job(FinishJobRequest { id: 1 }).await.reason(), "admin_required");
        for caller in [Caller::Anonymous, Caller::Bearer(CredentialKind::JobToken)] {
            let answer = service.speaking_as(caller).jobs().issue_job_token(new(None)).await;
            assert_eq!(answer.fault(), "caller_not_accepted");
        }
        let process = service.speaking_as(Caller::Process(Process::RunnerRegistry));
        let request = IssueJobTokenRequest { user_id: ROOT, ..new(None) };
        assert_eq!(process.jobs().issue_job_token(request).await.answer().job.unwrap().user.unwrap().id, ROOT);
    }

    async fn the_keys_are_public(service) {
        let anonymous = service.speaking_as(Caller::Anonymous);
        let keys = anonymous.jobs().list_signing_keys(ListSigningKeysRequest {}).await.answer().keys;
        assert_eq!(keys, service.signing.public());
        assert_eq!(keys.len(), 1);
    }
}

//! The managers of a runner: when a contact is recorded, and which fields.

use proto::paddock::runner::v1::{
    ListRunnerManagersRequest, RequestJobRequest, RunnerInfo, RunnerManager, RunnerStatus,
    UnregisterRunnerManagerRequest, UnregisterRunnerManagerResponse, UpdateRunnerRequest, VerifyRunnerRequest,
};
use tokio::task::JoinSet;
use tonic::{Response, Status};

use super::{instance, seconds};
use crate::support::{Answer as _, Registry, both_databases};

/// The write interval of contacts, in seconds, in the tests that set it.
const INTERVAL: i64 = 600;

fn info(version: &str) -> RunnerInfo {
    RunnerInfo {
        name: Some("gitlab-runner".into()),
        version: Some(version.into()),
        revision: Some("abc".into()),
        platform: Some("linux".into()),
        architecture: Some("amd64".into()),
        executor: Some("docker".into()),
    }
}

async fn poll(registry: &Registry, token: &str, system_id: Option<&str>, info: Option<RunnerInfo>) {
    let request =
        RequestJobRequest { token: token.to_owned(), system_id: system_id.map(str::to_owned), info, last_update: None };
    registry.runner().runner_tokens().request_job(request).await.answer();
}

async fn managers(registry: &Registry, id: i64) -> Vec<RunnerManager> {
    registry.root().runners().list_runner_managers(ListRunnerManagersRequest { id }).await.answer().managers
}

async fn system_ids(registry: &Registry, id: i64) -> Vec<String> {
    managers(registry, id).await.into_iter().map(|manager| manager.system_id).collect()
}

async fn unregister(
    registry: &Registry,
    token: &str,
    system_id: &str,
) -> Result<Response<UnregisterRunnerManagerResponse>, Status> {
    let request = UnregisterRunnerManagerRequest { token: token.to_owned(), system_id: system_id.to_owned() };
    registry.runner().runner_tokens().unregister_runner_manager(request).await
}

async fn queue_value(registry: &Registry, token: &str) -> String {
    let answer = registry.request_job(token).await.answer();
    assert_eq!(answer.status, 204);
    answer.last_update
}

/// The last contacts of the one manager of a runner, and of the runner itself.
async fn contacts(registry: &Registry, runner_id: i64) -> (Option<i64>, Option<i64>) {
    let [manager] = managers(registry, runner_id).await.try_into().unwrap();
    (seconds(manager.contacted_at), seconds(registry.details(runner_id).await.contacted_at))
}

both_databases! {
    async fn a_contact_records_the_manager_and_the_runner(registry) {
        let runner = registry.create(instance()).await;
        registry.set_clock(60);
        poll(registry, &runner.token, Some("s_1"), Some(info("18.4.0"))).await;
        let [manager] = managers(registry, runner.id).await.try_into().unwrap();
        assert_eq!((manager.system_id.as_str(), manager.version.as_deref()), ("s_1", Some("18.4.0")));
        assert_eq!((manager.revision.as_deref(), manager.platform.as_deref()), (Some("abc"), Some("linux")));
        assert_eq!((manager.architecture.as_deref(), manager.ip_address.as_deref()), (Some("amd64"), Some("192.0.2.7")));
        assert_eq!((seconds(manager.created_at), seconds(manager.contacted_at)), (Some(60), Some(60)));
        assert_eq!(manager.status(), RunnerStatus::Online);
        let shown = registry.details(runner.id).await;
        assert_eq!((shown.name.as_deref(), shown.version.as_deref()), (Some("gitlab-runner"), Some("18.4.0")));
        assert_eq!((shown.status(), shown.online, seconds(shown.contacted_at)), (RunnerStatus::Online, Some(true), Some(60)));
    }

    async fn a_manager_with_an_older_token_than_the_current_one_lags(registry) {
        let runner = registry.create(instance()).await;
        for system_id in ["s_1", "s_2"] {
            poll(registry, &runner.token, Some(system_id), None).await;
        }
        let successor = registry.rotate(&runner.token).await.answer().token;
        let generations = async || {
            let mut managers = managers(registry, runner.id).await;
            managers.sort_by_key(|manager| manager.id);
            managers.into_iter().map(|manager| (manager.token_generation, manager.lagging)).collect::<Vec<_>>()
        };
        assert_eq!(generations().await, [(1, false), (1, false)]);
        poll(registry, &successor, Some("s_2"), None).await;
        assert_eq!(generations().await, [(1, true), (2, false)]);
        poll(registry, &successor, Some("s_1"), None).await;
        assert_eq!(generations().await, [(2, false), (2, false)]);
    }

    async fn without_a_system_id_it_is_the_legacy_manager(registry) {
        let runner = registry.create(instance()).await;
        poll(registry, &runner.token, None, None).await;
        poll(registry, &runner.token, Some(""), None).await;
        registry.verify(&runner.token).await.answer();
        assert_eq!(system_ids(registry, runner.id).await, ["<legacy>"]);
    }

    async fn the_manager_seen_last_comes_first_and_gives_the_runner_its_version(registry) {
        let runner = registry.create(instance()).await;
        poll(registry, &runner.token, Some("s_1"), Some(info("18.1.0"))).await;
        registry.set_clock(10);
        poll(registry, &runner.token, Some("s_2"), Some(info("18.2.0"))).await;
        registry.set_clock(3600);
        poll(registry, &runner.token, Some("s_1"), Some(info("18.1.0"))).await;
        assert_eq!(system_ids(registry, runner.id).await, ["s_1", "s_2"]);
        assert_eq!(registry.details(runner.id).await.version.as_deref(), Some("18.1.0"));
    }

    async fn what_a_manager_says_is_cut_and_its_id_is_not(registry) {
        let runner = registry.create(instance()).await;
        let long = RunnerInfo { version: Some("9".repeat(300)), platform: Some("li\0nux".into()), ..Default::default() };
        poll(registry, &runner.token, Some(&"s".repeat(64)), Some(long)).await;
        let [manager] = managers(registry, runner.id).await.try_into().unwrap();
        assert_eq!((manager.version, manager.platform.as_deref()), (Some("9".repeat(256)), Some("linux")));
        for system_id in ["s".repeat(65), "s\0".to_owned()] {
            let request = VerifyRunnerRequest {
                token: runner.token.clone(),
                system_id: Some(system_id),
                ..Default::default()
            };
            let refusal = registry.runner().runner_tokens().verify_runner(request).await.refusal();
            assert_eq!((refusal.spec().code, refusal.spec().http_status), ("parameter_invalid", 400));
        }
    }

    async fn many_first_contacts_at_once_make_one_manager(registry) {
        let runner = registry.create(instance()).await;
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let mut client = registry.runner().runner_tokens();
            let request = VerifyRunnerRequest {
                token: runner.token.clone(),
                system_id: Some("s_1".into()),
                info: Some(info("18.4.0")),
            };
            calls.spawn(async move { client.verify_runner(request).await.answer().id });
        }
        assert_eq!(calls.join_all().await, [runner.id; 20]);
        assert_eq!(system_ids(registry, runner.id).await, ["s_1"]);
    }

    async fn a_manager_is_unregistered_by_its_system_id(registry) {
        let runner = registry.create(instance()).await;
        for system_id in ["s_1", "s_2"] {
            poll(registry, &runner.token, Some(system_id), None).await;
        }
        unregister(registry, &runner.token, "s_1").await.answer();
        let refusal = unregister(registry, &runner.token, "s_1").await.refusal();
        assert_eq!(refusal.spec().code, "runner_manager_not_found");
        assert_eq!(refusal.message(), "404 Runner manager not found Not Found");
        assert_eq!(unregister(registry, &runner.token, "").await.reason(), "parameter_missing");
        assert_eq!(system_ids(registry, runner.id).await, ["s_2"]);
        registry.verify(&runner.token).await.answer();
    }

    async fn another_runner_may_have_a_manager_of_the_same_id(registry) {
        let first = registry.create(instance()).await;
        let second = registry.create(instance()).await;
        for runner in [&first, &second] {
            poll(registry, &runner.token, Some("s_1"), None).await;
        }
        unregister(registry, &first.token, "s_1").await.answer();
        assert_eq!(system_ids(registry, second.id).await, ["s_1"]);
    }

    async fn the_queue_value_stays_until_the_runner_changes(registry) {
        let runner = registry.create(instance()).await;
        let other = registry.create(instance()).await;
        let first = queue_value(registry, &runner.token).await;
        assert!(!first.is_empty() && first.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(queue_value(registry, &runner.token).await, first);
        assert_ne!(queue_value(registry, &other.token).await, first);
        let pause = UpdateRunnerRequest { id: runner.id, paused: Some(true), ..Default::default() };
        registry.root().runners().update_runner(pause).await.answer();
        let paused = queue_value(registry, &runner.token).await;
        assert_ne!(paused, first);
        assert_eq!(queue_value(registry, &runner.token).await, paused);
    }

    async fn a_rotation_is_a_contact_of_the_runner_and_of_no_manager(registry) {
        let runner = registry.create(instance()).await;
        registry.rotate(&runner.token).await.answer();
        assert_eq!(seconds(registry.details(runner.id).await.contacted_at), Some(0));
        assert_eq!(managers(registry, runner.id).await, []);
    }
}

both_databases! {
    with |config| config.heartbeat.write_interval_seconds = 600;

    async fn a_contact_is_recorded_when_it_is_due_or_news(registry) {
        let runner = registry.create(instance()).await;
        poll(registry, &runner.token, Some("s_1"), Some(info("18.4.0"))).await;
        registry.set_clock(INTERVAL - 1);
        poll(registry, &runner.token, Some("s_1"), Some(info("18.4.0"))).await;
        poll(registry, &runner.token, Some("s_1"), None).await;
        assert_eq!(contacts(registry, runner.id).await.0, Some(0), "known and not due");
        poll(registry, &runner.token, Some("s_1"), Some(info("18.5.0"))).await;
        assert_eq!(contacts(registry, runner.id).await.0, Some(INTERVAL - 1), "another version");
        for (now, recorded) in [(2 * INTERVAL - 2, INTERVAL - 1), (2 * INTERVAL - 1, 2 * INTERVAL - 1)] {
            registry.set_clock(now);
            poll(registry, &runner.token, Some("s_1"), None).await;
            assert_eq!(contacts(registry, runner.id).await.0, Some(recorded), "due after the interval");
        }
        let [manager] = managers(registry, runner.id).await.try_into().unwrap();
        assert_eq!(manager.version.as_deref(), Some("18.5.0"), "what is not reported stays");
    }

    async fn a_contact_in_the_future_is_recorded_anew(registry) {
        let runner = registry.create(instance()).await;
        // The clock was a day ahead.
        registry.set_clock(86_400);
        poll(registry, &runner.token, Some("s_1"), None).await;
        registry.set_clock(86_401 - INTERVAL);
        poll(registry, &runner.token, Some("s_1"), None).await;
        assert_eq!(contacts(registry, runner.id).await, (Some(86_400), Some(86_400)), "as with processes whose clocks differ a little");
        registry.set_clock(10);
        poll(registry, &runner.token, Some("s_1"), None).await;
        assert_eq!(contacts(registry, runner.id).await, (Some(10), Some(10)));
    }
}

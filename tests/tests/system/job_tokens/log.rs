//! A project grants access to others and revokes it. The accesses are in the log, which can be exported, tried in a dry run and
//! made into an allowlist.

use proto::paddock::contract::v1::Reason;
use serde_json::{Value, json};
use system::{Api, Upstream};

use super::{Installation, Scenario, VISIBLE, paddock_before};
use crate::fixtures;

/// The path of the scope of a project.
fn scope(project: i64, below: &str) -> String {
    format!("/projects/{project}/job_token_scope{below}")
}

fn developer(user: i64) -> Value {
    json!({ "user_id": user, "access_level": 30 })
}

/// Starts a job of the same user in another project, which is in a new group. Returns the group, the project and the token.
async fn another(scenario: &Scenario) -> (i64, i64, String) {
    let root = &scenario.installation.root;
    let group = fixtures::group(root).await;
    let name = fixtures::unique("other");
    let project = root.post("/projects", json!({ "name": name, "namespace_id": group })).await.ok(201);
    let project = fixtures::id(&project);
    root.post(&format!("/groups/{group}/members"), developer(scenario.user)).await.ok(201);
    (group, project, scenario.installation.issue(project, scenario.user).1)
}

/// Downloads an artifact of B with the token.
async fn download(scenario: &Scenario, token: &str) -> system::Answer {
    let path = Scenario::artifact(scenario.target, "answer=302");
    scenario.installation.root.without_token().get_as_job(&path, token).await
}

#[tokio::test]
async fn a_project_opens_and_closes_itself_and_every_change_counts_at_once() {
    let upstream = Upstream::start();
    let paddock = paddock_before(&upstream, &[]);
    let scenario = Scenario::start(Installation::from(&paddock)).await;
    let root = &scenario.installation.root;
    let anonymous = paddock.anonymous();
    let target = scenario.target;
    let (group, _, token) = another(&scenario).await;

    // First without an entry, then with an entry for its group, then without it again.
    download(&scenario, &token).await.refused(Reason::JobTokenNotInScope);
    let entry = json!({ "target_group_id": group });
    root.post(&scope(target, "/groups_allowlist"), entry).await.ok(201);
    download(&scenario, &token).await.ok(302);
    root.delete(&scope(target, &format!("/groups_allowlist/{group}"))).await.ok(204);
    download(&scenario, &token).await.refused(Reason::JobTokenNotInScope);

    // The entry of A grants only read_jobs, then everything, then nothing.
    let package = format!("/projects/{target}/packages/generic/tool/1.0/tool.tar?answer=200");
    anonymous.get_as_job(&package, &scenario.token).await.refused(Reason::JobTokenPolicyMissing);
    let entry = scope(target, &format!("/allowlist/{}", scenario.origin));
    root.patch(&entry, json!({ "default_permissions": true })).await.ok(200);
    anonymous.get_as_job(&package, &scenario.token).await.ok(200);
    root.delete(&entry).await.ok(204);
    anonymous.get_as_job(&package, &scenario.token).await.refused(Reason::JobTokenNotInScope);

    // Open to all jobs whose user has access.
    root.patch(&scope(target, ""), json!({ "enabled": false })).await.ok(204);
    download(&scenario, &token).await.ok(302);
    anonymous.get_as_job(&package, &scenario.token).await.ok(200);
    root.delete(&format!("/projects/{target}/members/{}", scenario.user)).await.ok(204);
    // Roles come from another process and are cached for at most a second.
    let closed =
        system::within(VISIBLE, async || (download(&scenario, &token).await.status == 404).then_some(())).await;
    assert!(closed.is_some(), "a user without a role does not see a private project");

    // Exactly five accesses were allowed.
    let log = system::within(VISIBLE, async || {
        let rows = scenario.log("").await;
        (rows.iter().filter_map(|row| row["access_count"].as_i64()).sum::<i64>() >= 4).then_some(rows)
    });
    let log = log.await.expect("the log has them in time");
    let refused = upstream.requests().len();
    assert_eq!(log.iter().filter_map(|row| row["access_count"].as_u64()).sum::<u64>(), refused as u64, "{log:#?}");
    paddock.stop();
}

#[tokio::test]
async fn the_log_is_exported_tried_in_a_dry_run_and_made_into_an_allowlist() {
    let upstream = Upstream::start();
    let paddock = paddock_before(&upstream, &[]);
    let scenario = Scenario::start(Installation::from(&paddock)).await;
    let root = &scenario.installation.root;
    let target = scenario.target;
    let (_, other, token) = another(&scenario).await;
    root.patch(&scope(target, ""), json!({ "enabled": false })).await.ok(204);
    for answer in
        [scenario.download("answer=200").await, download(&scenario, &token).await, download(&scenario, &token).await]
    {
        scenario.assert_logged(&answer).await;
    }
    exports(root, &scenario, other).await;

    // An allowlist with A alone would have refused two of the three accesses.
    let dry_run = scope(target, "/authentication_log/rehearse");
    let report = root.post(&dry_run, json!({ "project_ids": [scenario.origin] })).await.ok(200);
    assert_eq!(
        (&report["examined"], &report["allowed"], &report["refused"]),
        (&json!(3), &json!(1), &json!(2)),
        "{report:#}"
    );
    let refusal = &report["refusals"][0];
    let code = Reason::JobTokenNotInScope.spec().expect("a reason of the contract").code;
    assert_eq!((&refusal["origin_project"]["id"], &refusal["count"]), (&json!(other), &json!(2)), "{report:#}");
    assert_eq!(refusal["reason"], code, "{report:#}");

    // The log becomes the allowlist, and the project can close itself without refusing current users.
    let made =
        root.post(&scope(target, "/autopopulate_allowlist"), json!({ "used_policies_only": true })).await.ok(201);
    assert_eq!(made["added_project_ids"], json!([other]), "{made:#}");
    root.patch(&scope(target, ""), json!({ "enabled": true })).await.ok(204);
    let report = root.post(&dry_run, json!({})).await.ok(200);
    assert_eq!((&report["allowed"], &report["refused"]), (&json!(3), &json!(0)), "{report:#}");
    download(&scenario, &token).await.ok(302);
    paddock.stop();
}

async fn exports(root: &Api, scenario: &Scenario, other: i64) {
    let log = scope(scenario.target, "/authentication_log");
    let csv = root.get(&format!("{log}.csv")).await;
    assert!(csv.header("content-type").starts_with("text/csv"), "{:?}", csv.headers);
    let name = format!("job-token-authorizations-{}-", scenario.target);
    assert!(csv.header("content-disposition").contains(&name), "{:?}", csv.headers);
    let lines: Vec<_> = csv.text.lines().collect();
    assert!(lines[0].starts_with("Origin Project Path,Last Authorized At (UTC),"), "{}", csv.text);
    assert_eq!(lines.len(), 3, "{}", csv.text);
    let path = fixtures::text(&root.get(&format!("/projects/{other}")).await.ok(200)["path_with_namespace"]);
    // The pairs are ordered by the ids of their origins, and the origin of the scenario is older.
    assert!(lines[2].starts_with(&path) && lines[2].contains("read_jobs"), "{}", csv.text);

    let whole = root.get(&format!("{log}.jsonl")).await;
    let lines: Vec<Value> = whole.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [first, second, end] = lines.as_slice() else { panic!("three lines: {}", whole.text) };
    assert_eq!(
        (&second["origin_project"]["id"], &second["access_count"]),
        (&json!(other), &json!(2)),
        "{}",
        whole.text
    );
    assert_eq!(first["origin_project"]["id"], json!(scenario.origin), "{}", whole.text);
    assert_eq!(end["count"], 2, "{}", whole.text);

    let events = root.get(&format!("{log}/events.jsonl")).await;
    let lines: Vec<Value> = events.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [events, end] = [&lines[..lines.len() - 1], &lines[lines.len() - 1..]];
    assert_eq!((events.len(), &end[0]["count"]), (3, &json!(3)), "{lines:#?}");
    let listed = root.get(&format!("{log}/events")).await.ok(200);
    assert_eq!(json!(events), listed, "a line is what the list shows");
}

//! Exports of the log.

use futures::StreamExt as _;
use proto::paddock::{
    directory::v1::Visibility,
    document::v1::Document,
    job_token::v1::{
        Direction,
        JobTokenPolicy::{ReadJobs, ReadPackages},
        StreamAccessEventsJsonLinesRequest, StreamAuthenticationLogCsvRequest, StreamAuthenticationLogJsonLinesRequest,
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Access, ROUTE, execute, minutes_ago, record};
use crate::support::{Actor, Answer as _, both_databases};

async fn csv(actor: &Actor, request: StreamAuthenticationLogCsvRequest) -> Document {
    let chunks = actor.log().stream_authentication_log_csv(request).await.answer();
    joined(chunks.map(|chunk| chunk.unwrap().document.unwrap()).collect().await)
}

async fn events(actor: &Actor, request: StreamAccessEventsJsonLinesRequest) -> Document {
    let chunks = actor.log().stream_access_events_json_lines(request).await.answer();
    joined(chunks.map(|chunk| chunk.unwrap().document.unwrap()).collect().await)
}

/// The file of the chunks.
fn joined(chunks: Vec<Document>) -> Document {
    let mut chunks = chunks.into_iter();
    let mut document = chunks.next().unwrap();
    for chunk in chunks {
        assert_eq!((chunk.content_type.as_str(), chunk.file_name.as_str()), ("", ""));
        document.content.extend(chunk.content);
    }
    document
}

pub async fn json_lines(actor: &Actor, request: StreamAuthenticationLogJsonLinesRequest) -> Document {
    let chunks = actor.log().stream_authentication_log_json_lines(request).await.answer();
    joined(chunks.map(|chunk| chunk.unwrap().document.unwrap()).collect().await)
}

fn csv_request() -> StreamAuthenticationLogCsvRequest {
    StreamAuthenticationLogCsvRequest { id: "20".to_owned(), ..Default::default() }
}

fn json_request() -> StreamAuthenticationLogJsonLinesRequest {
    StreamAuthenticationLogJsonLinesRequest { id: "20".to_owned(), ..Default::default() }
}

fn text(document: &Document) -> &str {
    std::str::from_utf8(&document.content).unwrap()
}

/// The lines without the last one, which must have their count and hash.
pub fn complete_lines(document: &Document) -> Vec<Value> {
    let content = text(document).strip_suffix('\n').unwrap();
    let (lines, end) = content.rsplit_once('\n').map_or(("", content), |(lines, end)| (lines, end));
    let before = if lines.is_empty() { String::new() } else { format!("{lines}\n") };
    let end: Value = serde_json::from_str(end).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(end, json!({"count": lines.len(), "sha256": hex::encode(Sha256::digest(before))}));
    lines
}

fn project_ids(lines: &[Value], side: &str) -> Vec<i64> {
    lines.iter().map(|line| line[side]["id"].as_i64().unwrap()).collect()
}

both_databases! {
    async fn csv_has_the_columns_of_gitlab_and_then_ours(service) {
        service.project(20, "tools/charts", None);
        service.project(10, "shop/app", None);
        service.registry.project(11, "shop/hidden", None, Visibility::Private);
        record(service, &[
            Access { number: 1, origin: 10, at: minutes_ago(60), policies: &[ReadJobs, ReadPackages], ..Default::default() },
            Access { number: 2, origin: 10, at: minutes_ago(5), job: 8, ..Default::default() },
            Access { number: 3, origin: 11, at: minutes_ago(30), policies: &[], ..Default::default() },
            Access { number: 4, origin: 12, at: minutes_ago(10), user: 1, ..Default::default() },
        ]).await;
        execute(service, "INSERT INTO known_projects VALUES (12, '=shop/gone', 0)").await;
        let document = csv(&service.alice(), csv_request()).await;
        assert_eq!(document.content_type, "text/csv; charset=utf-8");
        assert_eq!(document.file_name, "job-token-authorizations-20-20260115120000.csv");
        let header = "Origin Project Path,Last Authorized At (UTC),Origin Project ID,Accessed Project Path,\
             Accessed Project ID,Job Token Policies,First Authorized At (UTC),Access Count,Last Job ID,Last User ID\r\n";
        let first = "shop/app,2026-01-15T11:55:00Z,10,tools/charts,20,\"read_jobs,read_packages\",2026-01-15T11:00:00Z,2,8,2\r\n";
        let hidden = "2026-01-15T11:30:00Z,11,tools/charts,20,,2026-01-15T11:30:00Z,1,7,0\r\n";
        let gone = "2026-01-15T11:50:00Z,12,tools/charts,20,read_jobs,2026-01-15T11:50:00Z,1,7,0\r\n";
        assert_eq!(text(&document), format!("{header}{first},{hidden},{gone}"));
        // An administrator sees more. A path is never a formula.
        let document = csv(&service.root(), csv_request()).await;
        let hidden = hidden.replace(",0\r\n", ",2\r\n");
        let gone = gone.replace(",0\r\n", ",1\r\n");
        assert_eq!(text(&document), format!("{header}{first}shop/hidden,{hidden}'=shop/gone,{gone}"));
    }

    async fn json_lines_end_with_their_count_and_hash(service) {
        service.project(20, "tools/charts", None);
        service.project(10, "shop/app", None);
        record(service, &[
            Access { number: 1, origin: 10, ..Default::default() },
            Access { number: 2, origin: 11, at: minutes_ago(90), policies: &[], ..Default::default() },
        ]).await;
        let document = json_lines(&service.alice(), json_request()).await;
        assert_eq!(document.content_type, "application/jsonl");
        assert_eq!(document.file_name, "job-token-authorizations-20-20260115120000.jsonl");
        let lines = complete_lines(&document);
        let at = "2026-01-15T11:00:00.000Z";
        let app = json!({
            "id": 10, "name": "APP", "path": "app", "path_with_namespace": "shop/app", "state": "visible",
        });
        let charts = json!({
            "id": 20, "name": "CHARTS", "path": "charts", "path_with_namespace": "tools/charts", "state": "visible",
        });
        let gone = json!({"id": 11, "name": null, "path": null, "path_with_namespace": null, "state": "deleted"});
        assert_eq!(lines[0], json!({
            "origin_project": app,
            "accessed_project": charts,
            "last_authorized_at": at,
            "job_token_policies": ["read_jobs"],
            "job_token_policies_last_used": [{"policy": "read_jobs", "last_authorized_at": at}],
            "first_authorized_at": at,
            "access_count": 1,
            "last_job_id": 7,
            "last_user_id": 2,
        }));
        assert_eq!(lines[1]["last_user_id"], 0);
        assert_eq!((lines.len(), &lines[1]["origin_project"]), (2, &gone));
        // The same log makes the same file, byte for byte.
        assert_eq!(json_lines(&service.alice(), json_request()).await, document);
    }

    async fn files_follow_the_filters_and_may_be_empty(service) {
        service.project(20, "tools/charts", None);
        record(service, &[
            Access { number: 1, origin: 10, at: minutes_ago(60), ..Default::default() },
            Access { number: 2, origin: 11, at: minutes_ago(30), policies: &[ReadPackages], ..Default::default() },
            Access { number: 3, origin: 20, target: 12, ..Default::default() },
        ]).await;
        let alice = service.alice();
        let since = Some("2026-01-15T11:30:00Z".to_owned());
        let filtered = json_lines(&alice, StreamAuthenticationLogJsonLinesRequest { since: since.clone(), ..json_request() }).await;
        assert_eq!(project_ids(&complete_lines(&filtered), "origin_project"), [11]);
        let outbound = Some(Direction::Outbound.into());
        let filtered = json_lines(&alice, StreamAuthenticationLogJsonLinesRequest { direction: outbound, ..json_request() }).await;
        assert_eq!(project_ids(&complete_lines(&filtered), "accessed_project"), [12]);
        let policy = Some(ReadJobs.into());
        let nothing = StreamAuthenticationLogJsonLinesRequest { policy, since: since.clone(), ..json_request() };
        assert_eq!(complete_lines(&json_lines(&alice, nothing).await), Vec::<Value>::new());
        let nothing = csv(&alice, StreamAuthenticationLogCsvRequest { policy, since, ..csv_request() }).await;
        assert_eq!(text(&nothing).lines().count(), 1);
        let one = csv(&alice, StreamAuthenticationLogCsvRequest { other_project_id: Some(10), ..csv_request() }).await;
        assert_eq!(text(&one).lines().count(), 2);
    }

    async fn a_file_holds_the_whole_list_however_long_it_is(service) {
        service.project(20, "tools/charts", None);
        // One statement and one question to runner-registry name a thousand projects at most.
        let pairs: Vec<_> = (1..=2500).map(|id| format!("(20, {}, 1, {}, 1, 1, 1)", 10_000 + id, id / 3)).collect();
        execute(service, &format!("INSERT INTO access_pairs VALUES {}", pairs.join(", "))).await;
        let policies: Vec<_> = (1..=2500).map(|id| format!("(20, {}, 5, 1)", 10_000 + id)).collect();
        execute(service, &format!("INSERT INTO access_pair_policies VALUES {}", policies.join(", "))).await;
        let lines = complete_lines(&json_lines(&service.root(), json_request()).await);
        let ids: Vec<_> = lines.iter().map(|line| line["origin_project"]["id"].as_i64().unwrap()).collect();
        assert!(lines.iter().all(|line| line["job_token_policies"] == json!(["read_jobs"])));
        assert!(ids.is_sorted_by(|earlier, later| earlier < later));
        assert_eq!(ids.len(), 2500);
        assert_eq!(text(&csv(&service.alice(), csv_request()).await).lines().count(), 2501);
    }

    async fn every_access_is_a_line_of_the_file_of_events(service) {
        service.project(20, "tools/charts", None);
        service.project(10, "shop/app", None);
        for number in 1..=501 {
            let access = Access { number, at: minutes_ago(i64::from(number / 7)), ..Default::default() };
            record(service, &[access]).await;
        }
        record(service, &[Access { number: 600, origin: 11, at: minutes_ago(200), ..Default::default() }]).await;
        let request = StreamAccessEventsJsonLinesRequest { id: "20".to_owned(), ..Default::default() };
        let document = events(&service.alice(), request.clone()).await;
        assert_eq!(document.file_name, "job-token-authorizations-20-20260115120000.jsonl");
        let lines = complete_lines(&document);
        let numbers: Vec<u32> = lines.iter().map(|line| line["id"].as_str().unwrap()[24..].parse().unwrap()).collect();
        let mut expected: Vec<u32> = (1..=501).collect();
        expected.sort_by_key(|number| (number / 7, std::cmp::Reverse(*number)));
        expected.push(600);
        assert_eq!(numbers, expected);
        let first = &lines[0];
        assert_eq!(first["origin_project"]["path_with_namespace"], "shop/app");
        let names = ["accessed_at", "route", "status", "capture_mode", "job_token_policies", "remote_ip", "resolved"];
        let shown = names.map(|name| &first[name]);
        let at = "2026-01-15T12:00:00.000Z";
        assert_eq!(json!(shown), json!([at, ROUTE, 200, "strict", ["read_jobs"], "192.0.2.6", true]));
        // The user and the address of a project that alice does not see are hidden.
        assert_eq!((&lines[501]["user_id"], &lines[501]["remote_ip"]), (&json!(0), &Value::Null));
        let of_a_job = StreamAccessEventsJsonLinesRequest { job_id: Some(8), ..request };
        assert_eq!(complete_lines(&events(&service.alice(), of_a_job).await), Vec::<Value>::new());
    }

    async fn pairs_that_change_while_a_file_is_read_come_once(service) {
        service.project(20, "tools/charts", None);
        let pairs: Vec<_> = (1..=2500).map(|id| format!("(20, {}, 1, {id}, 1, 1, 1)", 10_000 + id)).collect();
        execute(service, &format!("INSERT INTO access_pairs VALUES {}", pairs.join(", "))).await;
        let mut chunks = service.alice().log().stream_authentication_log_json_lines(json_request()).await.answer();
        let mut read = vec![chunks.next().await.unwrap().unwrap().document.unwrap()];
        // The oldest pair becomes the latest, and there are new ones at the start and at the end.
        execute(service, "UPDATE access_pairs SET last_authorized_at = 10000 - last_authorized_at").await;
        execute(service, "INSERT INTO access_pairs VALUES (20, 9999, 1, 1, 1, 1, 1), (20, 20000, 1, 1, 1, 1, 1)").await;
        while let Some(chunk) = chunks.next().await {
            read.push(chunk.unwrap().document.unwrap());
        }
        assert!(read.len() > 5);
        let lines = complete_lines(&joined(read));
        let ids: Vec<_> = lines.iter().map(|line| line["origin_project"]["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, (10_001..=12_500).chain([20_000]).collect::<Vec<_>>());
    }

    async fn a_failure_during_an_export_ends_it_with_a_fault(service) {
        service.project(20, "tools/charts", None);
        let pairs: Vec<_> = (1..=5000).map(|id| format!("(20, {}, 1, 1, 1, 1, 1)", 10_000 + id)).collect();
        execute(service, &format!("INSERT INTO access_pairs VALUES {}", pairs.join(", "))).await;
        let mut chunks = service.alice().log().stream_authentication_log_json_lines(json_request()).await.answer();
        chunks.next().await.unwrap().unwrap();
        service.registry.set_down(true);
        let failure = loop {
            match chunks.next().await.expect("the file is not complete") {
                Ok(_) => continue,
                Err(status) => break chassis::status::Rejection::from(status),
            }
        };
        assert_eq!(failure.spec().code, "unavailable");
        // A failure at the start is the error of the call.
        let status = service.alice().log().stream_authentication_log_json_lines(json_request()).await.unwrap_err();
        assert_eq!(chassis::status::Rejection::from(status).spec().code, "unavailable");
        service.registry.set_down(false);
    }
}

//! Answers of the real contract, and the JSON that they become.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost_reflect::prost::Message as ProstMessage;
use proto::paddock::runner::v1::{
    CreateRunnerResponse, GetRunnerResponse, ListRunnersResponse, Runner, RunnerDetails, RunnerProject,
};
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    contract::Descriptors,
    output::plan::{BodyPlan, OutputPlan},
};

static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| Descriptors::load().unwrap());

fn write<M: ProstMessage>(method_name: &str, answer: &M) -> String {
    let methods = DESCRIPTORS.methods().unwrap();
    let (method, spec) = methods.into_iter().find(|(method, _)| method.name() == method_name).unwrap();
    let binding = DESCRIPTORS.bindings(&method).unwrap().remove(0);
    let plan = OutputPlan::new(&DESCRIPTORS, &method.output(), binding.response_body.as_deref(), spec.success).unwrap();
    let message = DynamicMessage::decode(method.output(), answer.encode_to_vec().as_slice()).unwrap();
    let mut out = Vec::new();
    match &plan.body {
        BodyPlan::Field(field) => write_field(&mut out, field, &message),
        BodyPlan::Message(fields) => write_message(&mut out, fields, &message),
        BodyPlan::Document(_) => unreachable!("a file is not JSON"),
    }
    String::from_utf8(out).unwrap()
}

fn timestamp(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos })
}

#[test]
fn an_answer_is_the_message_in_the_order_of_its_declaration() {
    let answer = CreateRunnerResponse {
        id: 9_007_199_254_740_993,
        token: "a\"\u{1f600}\n".into(),
        token_expires_at: timestamp(1_795_395_723, 4_999_999),
        token_rotation_deadline: None,
    };
    let expected = "{\"id\":9007199254740993,\"token\":\"a\\\"\u{1f600}\\n\",\
        \"token_expires_at\":\"2026-11-23T01:02:03.004Z\",\"token_rotation_deadline\":null}";
    assert_eq!(write("CreateRunner", &answer), expected);
    let empty = r#"{"id":0,"token":"","token_expires_at":null,"token_rotation_deadline":null}"#;
    assert_eq!(write("CreateRunner", &CreateRunnerResponse::default()), empty);
}

#[test]
fn one_field_can_be_the_whole_body() {
    assert_eq!(write("ListRunners", &ListRunnersResponse::default()), "[]");
    assert_eq!(write("GetRunner", &GetRunnerResponse::default()), "null");
    let runner = Runner { id: 1, runner_type: 3, status: 4, online: Some(false), ..Runner::default() };
    let list = ListRunnersResponse { runners: vec![runner.clone(), runner], ..Default::default() };
    let list: Json = serde_json::from_str(&write("ListRunners", &list)).unwrap();
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    assert_eq!((&list[0]["runner_type"], &list[0]["status"]), (&json!("project_type"), &json!("never_contacted")));
    assert_eq!((&list[1]["online"], &list[1]["name"], &list[1]["paused"]), (&json!(false), &Json::Null, &json!(false)));
}

#[test]
fn messages_and_lists_inside_are_written() {
    let project = RunnerProject { id: 5, path_with_namespace: "a/b".into(), ..Default::default() };
    let runner =
        RunnerDetails { tag_list: vec!["x".into()], projects: vec![project], access_level: 2, ..Default::default() };
    let body: Json = serde_json::from_str(&write("GetRunner", &GetRunnerResponse { runner: Some(runner) })).unwrap();
    assert_eq!(body["projects"][0]["path_with_namespace"], json!("a/b"));
    assert_eq!(
        (&body["tag_list"], &body["groups"], &body["access_level"]),
        (&json!(["x"]), &json!([]), &json!("ref_protected"))
    );
}

#[test]
fn what_has_no_form_is_null() {
    let values = [(0, i64::MAX), (99, -62_167_219_201), (-1, 253_402_300_800)];
    let runners =
        values.map(|(status, seconds)| Runner { status, created_at: timestamp(seconds, 0), ..Runner::default() });
    let runners = runners.to_vec();
    let list = ListRunnersResponse { runners, ..Default::default() };
    let list: Json = serde_json::from_str(&write("ListRunners", &list)).unwrap();
    for runner in list.as_array().unwrap() {
        assert_eq!((&runner["status"], &runner["created_at"]), (&Json::Null, &Json::Null));
    }
}

#[test]
fn headers_and_pages_are_not_in_the_body() {
    assert_eq!(
        write("RequestJob", &proto::paddock::runner::v1::RequestJobResponse { status: 204, last_update: "x".into() }),
        "{}"
    );
}

proptest! {
    #[test]
    fn any_answer_is_valid_json(
        id in any::<i64>(),
        description in prop::option::of(any::<String>()),
        tag_list in prop::collection::vec(any::<String>(), 0..4),
        status in any::<i32>(),
        seconds in any::<i64>(),
        nanos in any::<i32>(),
    ) {
        let created_at = timestamp(seconds, nanos);
        let runner = RunnerDetails {
            id,
            description: description.clone(),
            tag_list: tag_list.clone(),
            status,
            created_at,
            ..Default::default()
        };
        let written = write("GetRunner", &GetRunnerResponse { runner: Some(runner) });
        let body: Json = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(&body["id"], &json!(id));
        prop_assert_eq!(&body["description"], &json!(description));
        prop_assert_eq!(&body["tag_list"], &json!(tag_list));
        prop_assert!(body["created_at"].is_null() || body["created_at"].as_str().unwrap().len() == 24);
    }
}

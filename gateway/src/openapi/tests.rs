//! The document of the real contract.

use std::{collections::HashSet, sync::LazyLock};

use proto::contract::{METHODS, Success};

use super::*;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&document(&Routes::load().unwrap())).unwrap());

/// Calls `visit` for every object of the document.
fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|value| walk(value, visit));
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

#[test]
fn every_method_of_the_contract_is_described() {
    let mut names = HashSet::new();
    for method in METHODS {
        let Some((verb, template)) = method.rest else { continue };
        let operation = &DOCUMENT["paths"][template][verb.to_lowercase()];
        assert_eq!(operation["operationId"], method.name);
        assert!(names.insert(method.name), "{} is there twice", method.name);
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{}", method.name);
        assert!(!operation["description"].as_str().unwrap().contains("REST:"), "{}", method.name);
        if let Success::Status(status) = method.success {
            assert!(operation["responses"][status.to_string()].is_object(), "{}", method.name);
        }
        assert!(!operation["security"].as_array().unwrap().is_empty());
        let variables = template.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let parameters = operation["parameters"].as_array().unwrap();
        for variable in variables {
            let in_path =
                parameters.iter().filter(|parameter| parameter["in"] == "path" && parameter["required"] == true);
            assert_eq!(in_path.filter(|parameter| parameter["name"] == variable).count(), 1, "{template} {variable}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let mut count = 0;
    walk(&DOCUMENT, &mut |object| {
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(DOCUMENT.pointer(pointer).is_some(), "{reference}");
            count += 1;
        }
    });
    assert!(count > 100);
    let schemes = DOCUMENT["components"]["securitySchemes"].as_object().unwrap();
    walk(&DOCUMENT["paths"], &mut |object| {
        for requirement in object.get("security").and_then(Value::as_array).into_iter().flatten() {
            assert!(requirement.as_object().unwrap().keys().all(|name| schemes.contains_key(name)), "{requirement}");
        }
    });
}

#[test]
fn parameters_carry_their_types_bounds_and_comments() {
    let list = &DOCUMENT["paths"]["/api/v4/runners"]["get"]["parameters"];
    let page = list.as_array().unwrap().iter().find(|parameter| parameter["name"] == "page").unwrap();
    assert_eq!((&page["in"], &page["schema"]["minimum"]), (&json!("query"), &json!(1)));
    assert!(page["description"].as_str().unwrap().contains("from 1"));
    let create = &DOCUMENT["paths"]["/api/v4/user/runners"]["post"]["requestBody"]["content"];
    for content in ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let schema = &create[content]["schema"];
        assert_eq!(schema["required"], json!(["runner_type"]));
        assert_eq!(schema["properties"]["runner_type"]["enum"], json!(["instance_type", "group_type", "project_type"]));
    }
    let update =
        &DOCUMENT["paths"]["/api/v4/runners/{id}"]["put"]["requestBody"]["content"]["application/json"]["schema"];
    assert!(update["properties"].get("update_mask").is_none() && update["properties"].get("id").is_none());
}

#[test]
fn answers_have_the_shape_of_gitlab() {
    let runner = &DOCUMENT["components"]["schemas"]["Runner"]["properties"];
    assert_eq!((&runner["id"]["type"], &runner["online"]["type"]), (&json!("integer"), &json!(["boolean", "null"])));
    assert_eq!(runner["created_at"]["format"], "date-time");
    let list = &DOCUMENT["paths"]["/api/v4/runners"]["get"]["responses"]["200"];
    assert_eq!(list["content"]["application/json"]["schema"]["type"], "array");
    assert!(list["headers"]["x-next-page"].is_object());
    let log = &DOCUMENT["paths"]["/api/v4/projects/{id}/job_token_scope/authentication_log"]["get"]["responses"]["200"];
    assert!(log["headers"]["x-next-cursor"].is_object() && log["headers"].get("x-page").is_none());
    let file = &DOCUMENT["paths"]["/api/v4/projects/{id}/job_token_scope/authentication_log.csv"]["get"];
    let file = &file["responses"]["200"];
    assert_eq!(file["content"]["*/*"]["schema"]["format"], "binary");
    assert!(file["headers"]["content-disposition"].is_object());
    let poll = &DOCUMENT["paths"]["/api/v4/jobs/request"]["post"]["responses"]["2XX"];
    assert!(poll["headers"]["x-gitlab-last-update"].is_object() && poll.get("content").is_none());
}

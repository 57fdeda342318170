//! Requests as clients send them, and the messages or the flaws that come of them.

mod random;

use std::sync::LazyLock;

use futures::FutureExt as _;
use http::{HeaderValue, header::CONTENT_TYPE};
use prost_reflect::DynamicMessage;
use proto::{
    contract::Place,
    paddock::{
        contract::v1::CredentialKind,
        directory::v1::{CreateProjectRequest, CreateUserRequest, UpdateSettingsRequest},
        runner::v1::{
            AssignRunnerRequest, CreateRunnerRequest, ListProjectRunnersRequest, ListRunnersRequest,
            RegisterRunnerRequest, UnregisterRunnerManagerRequest, UpdateRunnerRequest, VerifyRunnerRequest,
        },
    },
};

use super::{plan::InputPlan, *};
use crate::{contract::Descriptors, credential::token::Token};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| Descriptors::load().unwrap());

/// A request to one method.
#[derive(Default)]
struct SentRequest<'a> {
    path: &'a [(&'a str, &'a str)],
    content_type: Option<&'a str>,
    body: &'a [u8],
    query: &'a str,
}

fn plan(method_name: &str) -> InputPlan {
    let methods = DESCRIPTORS.methods().unwrap();
    let (method, spec) = methods.into_iter().find(|(method, _)| method.name() == method_name).unwrap();
    InputPlan::new(&DESCRIPTORS, &method.input(), spec.accepts).unwrap()
}

/// Returns the message, its flaws, and the credentials that the request carried.
fn collect(method: &str, sent: &SentRequest<'_>) -> Result<(DynamicMessage, Option<String>, Vec<String>), Refusal> {
    let plan = plan(method);
    let mut builder = MessageBuilder::new(&plan);
    for (name, value) in sent.path {
        builder.set_from_path(plan.message.find(name).unwrap(), value);
    }
    let mut headers = HeaderMap::new();
    if let Some(content_type) = sent.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    }
    let body = Bytes::copy_from_slice(sent.body);
    read(&mut builder, &headers, body, sent.query).now_or_never().unwrap()?;
    let tokens: Vec<_> = builder.tokens.iter().map(|token: &Token| token.expose().to_owned()).collect();
    let (message, problems) = builder.finish(!tokens.is_empty());
    Ok((message, refusal(&problems).map(|refusal| refusal.message().to_owned()), tokens))
}

fn message<T: prost_reflect::prost::Message + Default>(method: &str, sent: &SentRequest<'_>) -> T {
    let (message, problems, _) = collect(method, sent).unwrap();
    assert_eq!(problems, None);
    message.transcode_to().unwrap()
}

fn problems(method: &str, sent: &SentRequest<'_>) -> String {
    collect(method, sent).unwrap().1.unwrap_or_default()
}

fn json(body: &str) -> SentRequest<'_> {
    SentRequest { content_type: Some(JSON), body: body.as_bytes(), ..SentRequest::default() }
}

fn form(body: &str) -> SentRequest<'_> {
    SentRequest { content_type: Some(FORM), body: body.as_bytes(), ..SentRequest::default() }
}

fn query(query: &str) -> SentRequest<'_> {
    SentRequest { query, ..SentRequest::default() }
}

/// The parameter that carries the credential of runner programs.
fn carrier() -> &'static str {
    let carriers = CredentialKind::RunnerToken.spec().unwrap().carriers;
    let parameter = carriers.iter().find_map(|carrier| match carrier.place {
        Place::Parameter(name) => Some(name),
        Place::Header(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
    });
    parameter.unwrap()
}

#[test]
fn the_same_parameters_make_the_same_message_in_every_kind_of_body() {
    let expected = CreateRunnerRequest {
        runner_type: 2,
        group_id: Some(7),
        description: Some("a & b".into()),
        paused: Some(true),
        tag_list: vec!["x".into(), "y z".into()],
        maximum_timeout: Some(3600),
        ..CreateRunnerRequest::default()
    };
    let multipart = "--b\r\ncontent-disposition: form-data; name=\"runner_type\"\r\n\r\ngroup_type\r\n\
        --b\r\ncontent-disposition: form-data; name=\"group_id\"\r\n\r\n7\r\n\
        --b\r\ncontent-disposition: form-data; name=\"description\"\r\n\r\na & b\r\n\
        --b\r\ncontent-disposition: form-data; name=\"paused\"\r\n\r\ntrue\r\n\
        --b\r\ncontent-disposition: form-data; name=\"tag_list[]\"\r\n\r\nx\r\n\
        --b\r\ncontent-disposition: form-data; name=\"tag_list[]\"\r\n\r\ny z\r\n\
        --b\r\ncontent-disposition: form-data; name=\"maximum_timeout\"\r\n\r\n3600\r\n--b--\r\n";
    let flat = "runner_type=group_type&group_id=7&description=a+%26+b&paused=true&maximum_timeout=3600";
    let texts = [
        format!("{flat}&tag_list=x,+y+z"),
        format!("{flat}&tag_list[]=x&tag_list%5B%5D=y%20z"),
        format!("{flat}&tag_list=x&tag_list=y+z"),
    ];
    let fields = r#""runner_type":"group_type","description":"a & b","maximum_timeout":"#;
    let objects = [
        format!(r#"{{{fields}3600,"group_id":7,"paused":true,"tag_list":["x","y z"]}}"#),
        format!(r#"{{{fields}"3600","group_id":"7","paused":"1","tag_list":"x,y z"}}"#),
        format!(
            r#" {{{fields}3600.0,"group_id":7e0,"paused":1,"tag_list":["x, y z"],"info":{{"x":[1,{{}}]}},"z":null}} "#
        ),
    ];
    let mut all = vec![SentRequest {
        content_type: Some("multipart/form-data; boundary=b"),
        body: multipart.as_bytes(),
        ..SentRequest::default()
    }];
    all.extend(
        texts.iter().flat_map(|text| {
            [form(text), query(text), SentRequest { body: text.as_bytes(), ..SentRequest::default() }]
        }),
    );
    all.extend(
        objects.iter().flat_map(|text| {
            [json(text), SentRequest { body: text.trim_start().as_bytes(), ..SentRequest::default() }]
        }),
    );
    // python-gitlab: everything in the query, and an empty object as the body.
    all.push(SentRequest { content_type: Some(JSON), body: b"{}", query: &texts[0], ..SentRequest::default() });
    for sent in &all {
        assert_eq!(
            message::<CreateRunnerRequest>("CreateRunner", sent),
            expected,
            "{}",
            String::from_utf8_lossy(sent.body)
        );
    }
}

#[test]
fn the_path_beats_the_body_and_the_body_beats_the_query() {
    let sent = SentRequest {
        path: &[("id", "5")],
        content_type: Some(JSON),
        body: br#"{"id":6,"description":"body","tag_list":["b"],"maximum_timeout":null}"#,
        query: "id=7&description=query&tag_list=q&maximum_timeout=700&locked=true",
    };
    let update: UpdateRunnerRequest = message("UpdateRunner", &sent);
    assert_eq!((update.id, update.description.as_deref(), update.maximum_timeout), (5, Some("body"), None));
    assert_eq!((update.tag_list, update.locked), (vec!["b".to_owned()], Some(true)));
    let mut paths = update.update_mask.unwrap().paths;
    paths.sort();
    assert_eq!(paths, ["description", "locked", "maximum_timeout", "tag_list"]);
}

#[test]
fn the_update_mask_lists_the_sent_fields_and_cannot_be_set() {
    let cases: [(SentRequest<'_>, &[&str]); 5] = [
        (json(r#"{"runner_token_expiration_interval":null,"unknown":1}"#), &["runner_token_expiration_interval"]),
        (json(r#"{"update_mask":"project_runner_token_expiration_interval"}"#), &[]),
        (json(r#"{"update_mask":{"paths":["x"]}}"#), &[]),
        (form("group_runner_token_expiration_interval="), &["group_runner_token_expiration_interval"]),
        (
            query("update_mask[paths][]=x&project_runner_token_expiration_interval=9"),
            &["project_runner_token_expiration_interval"],
        ),
    ];
    for (sent, expected) in cases {
        let update: UpdateSettingsRequest = message("UpdateSettings", &sent);
        assert_eq!(update.update_mask.unwrap().paths, expected);
    }
}

#[test]
fn an_empty_body_and_null_hold_nothing() {
    for body in ["", " ", "null", " null\n", "{}"] {
        let list: ListRunnersRequest = message("ListRunners", &json(body));
        assert_eq!(list, ListRunnersRequest::default(), "{body:?}");
    }
}

#[test]
fn messages_inside_are_read_from_objects_and_from_brackets() {
    let name = carrier();
    let body = format!(
        r#"{{"{name}":"t","info":{{"name":"n","version":18,"features":{{"a":true}},"config":{{"gpus":""}}}}}}"#
    );
    let expected = RegisterRunnerRequest {
        info: Some(proto::paddock::runner::v1::RunnerInfo {
            name: Some("n".into()),
            version: Some("18".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let brackets = format!("{name}=t&info[name]=n&info%5Bversion%5D=18&info[config][gpus]=&info[features][a]=true");
    for sent in [json(&body), form(&brackets), query(&brackets)] {
        let (message, problems, tokens) = collect("RegisterRunner", &sent).unwrap();
        assert_eq!((problems, tokens), (None, vec!["t".to_owned()]));
        assert_eq!(message.transcode_to::<RegisterRunnerRequest>().unwrap(), expected);
    }
    let verify: VerifyRunnerRequest =
        collect("VerifyRunner", &json(r#"{"info":null,"system_id":null}"#)).unwrap().0.transcode_to().unwrap();
    assert_eq!((verify.info, verify.system_id), (None, None));
}

#[test]
fn every_flaw_is_named_at_once() {
    let token = carrier();
    let token_missing = format!("{token} is missing");
    let cases: Vec<(&str, SentRequest<'_>, &str)> = vec![
        ("CreateRunner", json(""), "runner_type is missing"),
        ("CreateRunner", json(r#"{"runner_type":null}"#), "runner_type is missing"),
        ("CreateRunner", json(r#"{"runner_type":"x"}"#), "runner_type does not have a valid value"),
        ("CreateRunner", json(r#"{"runner_type":"GROUP_TYPE"}"#), "runner_type does not have a valid value"),
        ("CreateRunner", json(r#"{"runner_type":2}"#), "runner_type does not have a valid value"),
        ("CreateRunner", json(r#"{"runner_type":"unspecified"}"#), "runner_type does not have a valid value"),
        ("CreateRunner", json(r#"{"runner_type":[]}"#), "runner_type is invalid"),
        (
            "CreateRunner",
            json(r#"{"maximum_timeout":"x","runner_type":"group_type","paused":"x","group_id":{"a":1},"tag_list":{}}"#),
            "maximum_timeout is invalid, paused is invalid, group_id is invalid, tag_list is invalid",
        ),
        (
            "CreateRunner",
            json(r#"{"runner_type":"group_type","maximum_timeout":2147483648}"#),
            "maximum_timeout is invalid",
        ),
        (
            "CreateRunner",
            json(r#"{"runner_type":"group_type","group_id":18446744073709551615}"#),
            "group_id is invalid",
        ),
        ("CreateRunner", json(r#"{"runner_type":"group_type","group_id":1.5}"#), "group_id is invalid"),
        ("CreateRunner", json(r#"{"runner_type":"group_type","group_id":1e300}"#), "group_id is invalid"),
        ("CreateRunner", json(r#"{"runner_type":"group_type","group_id":true}"#), "group_id is invalid"),
        ("CreateRunner", json(r#"{"runner_type":"group_type","description":"a\u0000b"}"#), "description is invalid"),
        ("CreateRunner", json(r#"{"runner_type":"group_type","tag_list":["a",["b"]]}"#), "tag_list is invalid"),
        (
            "CreateRunner",
            form("runner_type=group_type&tag_list=a%00b&paused=2"),
            "tag_list is invalid, paused is invalid",
        ),
        ("CreateRunner", form("runner_type[x]=group_type"), "runner_type is invalid"),
        (
            "ListRunners",
            query("page=0&per_page=-1"),
            "page does not have a valid value, per_page does not have a valid value",
        ),
        ("ListRunners", query("status=broken&page=x"), "status does not have a valid value, page is invalid"),
        ("ListRunners", query("page=2147483648"), "page is invalid"),
        ("ListRunners", query("tag_list[a][b]=x"), "tag_list is invalid"),
        ("UnregisterRunnerManager", json("{}"), &token_missing),
        (
            "VerifyRunner",
            json(r#"{"info":{"name":["n"],"version":{}}}"#),
            "info[name] is invalid, info[version] is invalid",
        ),
        ("VerifyRunner", json(r#"{"info":"text"}"#), "info is invalid"),
        ("VerifyRunner", form("info[name][x]=1"), "info[name] is invalid"),
        ("AssignRunner", SentRequest { path: &[("id", "1")], ..json(r#"{"runner_id":null}"#) }, "runner_id is missing"),
        ("GetRunner", SentRequest { path: &[("id", "abc")], ..query("id=5") }, "id is invalid"),
        ("CreateUser", json(r#"{"username":{}}"#), "username is invalid, email is missing, name is missing"),
    ];
    for (method, sent, expected) in cases {
        let found = problems(method, &sent);
        let found = found.strip_suffix(&format!(", {token_missing}")).unwrap_or(&found);
        let found = found.strip_suffix(", system_id is missing").unwrap_or(found);
        assert_eq!(found, expected, "{method} {} {}", String::from_utf8_lossy(sent.body), sent.query);
    }
}

#[test]
fn what_is_missing_and_what_is_invalid_are_different_reasons() {
    for (flaws, expected) in [
        (&[][..], None),
        (&[Flaw::Missing], Some(Reason::ParameterMissing)),
        (&[Flaw::Missing, Flaw::Invalid], Some(Reason::ParameterInvalid)),
        (&[Flaw::NotAValidValue], Some(Reason::ParameterInvalid)),
    ] {
        let problems: Vec<_> = flaws.iter().map(|flaw| Problem { name: "x".into(), flaw: *flaw }).collect();
        assert_eq!(refusal(&problems).map(|refusal| refusal.reason()), expected, "{flaws:?}");
    }
}

#[test]
fn a_credential_is_taken_from_every_place_and_never_put_into_the_message() {
    let name = carrier();
    let body = format!(r#"{{"{name}":"a","system_id":"s"}}"#);
    let sent = SentRequest { query: &format!("{name}=b&{name}=c"), ..json(&body) };
    let (message, problems, tokens) = collect("UnregisterRunnerManager", &sent).unwrap();
    assert_eq!((problems, tokens), (None, vec!["a".into(), "b".into(), "c".into()]));
    let request: UnregisterRunnerManagerRequest = message.transcode_to().unwrap();
    assert_eq!(request, UnregisterRunnerManagerRequest { system_id: "s".into(), ..Default::default() });
    let invalid = format!("{name} is invalid");
    for sent in [json(&format!(r#"{{"{name}":{{}},"system_id":"s"}}"#)), query(&format!("{name}[]=a&system_id=s"))] {
        assert_eq!(problems_of_credential(&sent), invalid);
    }
    let number = collect("VerifyRunner", &json(&format!(r#"{{"{name}":12}}"#))).unwrap();
    assert_eq!(number.2, ["12"]);
}

fn problems_of_credential(sent: &SentRequest<'_>) -> String {
    problems("UnregisterRunnerManager", sent)
}

#[test]
fn zero_and_empty_text_are_values() {
    let assign: AssignRunnerRequest =
        message("AssignRunner", &SentRequest { path: &[("id", "g/p")], ..json(r#"{"runner_id":0}"#) });
    assert_eq!((assign.id.as_str(), assign.runner_id), ("g/p", 0));
    let user: CreateUserRequest =
        message("CreateUser", &json(r#"{"email":"","name":"n","username":"u","admin":false}"#));
    assert_eq!((user.email.as_str(), user.admin), ("", Some(false)));
    let project: CreateProjectRequest = message("CreateProject", &form("name=&description=&namespace_id="));
    assert_eq!(
        (project.name.as_deref(), project.description.as_deref(), project.namespace_id),
        (Some(""), Some(""), None)
    );
    let list: ListProjectRunnersRequest =
        message("ListProjectRunners", &SentRequest { path: &[("id", "1")], ..query("paused=False&tag_list[]=") });
    assert_eq!((list.paused, list.tag_list.len()), (Some(false), 0));
}

#[test]
fn the_last_of_several_pairs_counts() {
    let list: ListRunnersRequest = message("ListRunners", &query("page=x&page=2&page=3"));
    assert_eq!(list.page, Some(3));
    let list: ListRunnersRequest = message("ListRunners", &query("page=3&page="));
    assert_eq!(list.page, None);
}

fn tags(count: usize) -> Vec<String> {
    (0..count).map(|tag| tag.to_string()).collect()
}

#[test]
fn a_list_has_a_limit_in_every_place() {
    let fits: ListRunnersRequest = message("ListRunners", &query(&format!("tag_list={}", tags(256).join(","))));
    assert_eq!(fits.tag_list.len(), 256);
    let list = tags(257).join(",");
    let pairs: Vec<_> = tags(257).iter().map(|tag| format!("tag_list[]={tag}")).collect();
    let pairs = pairs.join("&");
    let pair = format!("tag_list={list}");
    let array = format!("{{\"tag_list\":[{list}]}}");
    let text = format!("{{\"tag_list\":\"{list}\"}}");
    for sent in [json(&array), json(&text), form(&pairs), query(&pairs), query(&pair)] {
        assert_eq!(problems("ListRunners", &sent), "tag_list is invalid");
    }
}

#[test]
fn what_is_wrong_again_and_again_is_noted_once() {
    let repeated = ["tag_list[a][b]=1", "page[x]=1", "paused=maybe"].repeat(100).join("&");
    assert_eq!(problems("ListRunners", &form(&repeated)), "tag_list is invalid, page is invalid, paused is invalid");
}

/// Lists in objects, nested this deep.
fn nested(depth: usize) -> String {
    format!("{}1{}", r#"{"x":["#.repeat(depth), "]}".repeat(depth))
}

#[test]
fn a_body_that_can_be_read_in_two_ways_is_refused() {
    assert!(collect("ListRunners", &json(&nested(15))).is_ok());
    let deep = nested(17);
    let deeper = nested(5000);
    let lists = "[".repeat(100_000);
    let cases: Vec<&[u8]> = vec![
        b"{",
        b"}",
        b"[]",
        b"\"x\"",
        b"1",
        b"true",
        b"nul",
        b"{}{}",
        b"{} x",
        b"{\"a\":1,}",
        b"{'a':1}",
        b"\xef\xbb\xbf{}",
        br#"{"a":1,"a":1}"#,
        br#"{"paused":true,"paused":true}"#,
        br#"{"paused":true,"p\u0061used":true}"#,
        br#"{"x":{"a":1,"b":2,"a":3}}"#,
        br#"{"x":[{"y":{"a":1,"a":1}}]}"#,
        br#"{"info":{"name":"a","name":"a"}}"#,
        br#"{"tag_list":[{"a":1,"a":2}]}"#,
        b"{\"x\":\"\xff\"}",
        b"{\"\xc3\x28\":1}",
        br#"{"x":"\ud800"}"#,
        br#"{"x":1e999}"#,
        b"{\"x\":\"\0\"}",
        deep.as_bytes(),
        deeper.as_bytes(),
        lists.as_bytes(),
    ];
    for body in cases {
        let sent = SentRequest { content_type: Some(JSON), body, ..SentRequest::default() };
        for method in ["CreateRunner", "VerifyRunner"] {
            let refusal = collect(method, &sent).unwrap_err();
            assert_eq!(
                refusal.reason(),
                Reason::BodyMalformed,
                "{}",
                String::from_utf8_lossy(&body[..body.len().min(80)])
            );
        }
    }
}

#[test]
fn forms_and_queries_that_cannot_be_decoded_are_refused() {
    for text in ["a=%", "a=%zz", "%=1", "a=%ff", "x=1&page=%c3%28"] {
        assert_eq!(collect("ListRunners", &form(text)).unwrap_err().reason(), Reason::BodyMalformed, "{text}");
        assert_eq!(collect("ListRunners", &query(text)).unwrap_err().reason(), Reason::PathMalformed, "{text}");
    }
    let raw = SentRequest { content_type: Some(FORM), body: b"a=\xff", ..SentRequest::default() };
    assert_eq!(collect("ListRunners", &raw).unwrap_err().reason(), Reason::BodyMalformed);
    let parts =
        ["", "--b", "--b\r\n\r\nx\r\n--b--", "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nx", "--c--"];
    for body in parts {
        let sent = SentRequest {
            content_type: Some("multipart/form-data; boundary=b"),
            body: body.as_bytes(),
            ..SentRequest::default()
        };
        let reason = collect("ListRunners", &sent).err().map(|refusal| refusal.reason());
        assert_eq!(reason, (!body.is_empty()).then_some(Reason::BodyMalformed), "{body}");
    }
}

#[test]
fn a_file_is_not_a_value() {
    for (name, expected) in
        [("description", "description is invalid, runner_type is missing"), ("other", "runner_type is missing")]
    {
        let part = format!("content-disposition: form-data; name=\"{name}\"; filename=\"f\"");
        let body = format!("--b\r\n{part}\r\n\r\nx\r\n--b--\r\n");
        let sent = SentRequest {
            content_type: Some("multipart/form-data; boundary=b"),
            body: body.as_bytes(),
            ..SentRequest::default()
        };
        assert_eq!(problems("CreateRunner", &sent), expected);
    }
}

//! Random requests become a message or a refusal, and nothing else.

use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use proto::paddock::contract::v1::Reason;

use super::{SentRequest, collect, form, json, query};

/// JSON that looks like what clients send, with all that can go wrong in it.
fn any_json() -> impl Strategy<Value = String> {
    let key = "(runner_type|paused|tag_list|group_id|info|name|maximum_timeout|x|\\\\u0061|update_mask)";
    let leaf = "(null|true|false|0|-1|3600|1.5|1e400|\"\"|\"group_type\"|\"a,b\"|\"\\\\u0000\"|\"\\\\ud800\"|nope|\")";
    let leaf = leaf.prop_map(|text: String| text);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key, inner), 0..4).prop_map(|pairs| {
                let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn json_becomes_a_message_or_a_refusal(body in any_json()) {
        for method in ["CreateRunner", "VerifyRunner", "UpdateSettings"] {
            match collect(method, &json(&body)) {
                Ok((message, _, _)) => {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
                    message.encode_to_vec();
                },
                Err(refusal) => prop_assert_eq!(refusal.reason(), Reason::BodyMalformed),
            }
        }
    }

    #[test]
    fn any_bytes_become_a_message_or_a_refusal(
        body in prop::collection::vec(any::<u8>(), 0..200),
        query_text in "(page|tag_list|info|\\[|\\]|=|&|%|2|0|f|\\+|\u{e9}){0,30}",
        content_type in prop::option::of(
            "(application/json|application/x-www-form-urlencoded|multipart/form-data; boundary=b|text/plain)"
        ),
    ) {
        let sent = SentRequest { content_type: content_type.as_deref(), body: &body, query: &query_text, ..SentRequest::default() };
        for method in ["CreateRunner", "VerifyRunner", "ListRunners"] {
            if let Err(refusal) = collect(method, &sent) {
                prop_assert!(refusal.spec().http_status < 500);
            }
        }
    }

    #[test]
    fn forms_become_a_message_or_a_refusal(
        body in "((runner_type|paused|tag_list|info|a)(\\[[a-z]{0,3}\\]){0,3}=(true|1|x|%41|%|,|\\+){0,3}&){0,8}",
    ) {
        for sent in [form(&body), query(&body)] {
            if let Err(refusal) = collect("CreateRunner", &sent) {
                prop_assert!(refusal.spec().http_status < 500);
            }
        }
    }
}

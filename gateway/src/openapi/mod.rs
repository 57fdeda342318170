//! The OpenAPI document of the route table, made at start: routes, parameters and responses as the contract declares
//! them, with the comments of the `.proto` files as descriptions.

mod comments;
mod operation;
mod schema;
mod security;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use self::operation::OperationWriter;
use crate::rest::routes::{OwnPage, Routes};

const DESCRIPTION: &str = "The credential plane for CI runners. It speaks the part of GitLab's REST API that runners \
    and those who manage them use. Parameters of a body may be in the query too; the path decides before the body, \
    and the body before the query. Every refusal has a reason, a remedy and a request id.";

/// The tag of the gateway's own pages.
const OWN_TAG: &str = "Gateway";

/// Builds the document.
pub fn document(routes: &Routes) -> Bytes {
    let mut writer = OperationWriter::default();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in routes.all() {
        let operation = writer.operation(route);
        let verb = route.verb.as_str().to_ascii_lowercase();
        paths.entry(route.label.template.to_string()).or_default().insert(verb, operation);
    }
    for page in OwnPage::ALL {
        paths.entry(page.path().to_owned()).or_default().insert("get".to_owned(), operation::own_page(page, OWN_TAG));
    }
    let mut tags: Vec<_> = writer.tags.iter().map(|(name, text)| json!({"name": name, "description": text})).collect();
    tags.push(json!({"name": OWN_TAG, "description": "The gateway itself."}));
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Paddock",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": writer.schemas.into_components(),
            "responses": operation::error_responses(),
            "securitySchemes": security::schemes(),
        },
    });
    Bytes::from(document.to_string())
}

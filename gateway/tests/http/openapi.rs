//! The OpenAPI document, as clients fetch it.

use serde_json::Value;

use crate::support::{World, send};

#[tokio::test]
async fn the_document_is_served() {
    let world = World::start().await;
    let answer = send(world.get("/-/openapi.json")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/api/v4/runners/verify"]["post"].is_object());
    let exported: Value = serde_json::from_slice(&gateway::openapi_document().unwrap()).unwrap();
    assert_eq!(document, exported);
}

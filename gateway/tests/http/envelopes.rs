//! The REST responses for refusals and faults of the registry.

use chassis::status::{Fault, Refusal};
use proto::paddock::{
    contract::v1::Reason,
    runner::v1::{CreateRunnerRequest, CreateRunnerResponse, VerifyRunnerRequest, VerifyRunnerResponse},
};
use serde_json::json;
use tonic::Status;

use crate::support::{Answer, World, send, token};

async fn verify(world: &World) -> Answer {
    send(world.post_as_runner("/api/v4/runners/verify")).await
}

#[tokio::test]
async fn every_reason_reaches_the_client_with_its_own_status() {
    // One token is refused for each reason.
    let world = World::start_with(|config| config.guard.enabled = false).await;
    for reason in Reason::ALL {
        let spec = reason.spec().unwrap();
        let status: Status = if spec.http_status < 500 {
            Refusal::new(reason).into()
        } else {
            Fault::of(reason, "a hidden detail").into()
        };
        world.fake.refuses::<VerifyRunnerRequest, VerifyRunnerResponse>("verify_runner", status);
        let answer = verify(&world).await;
        assert_eq!(answer.refusal(), (spec.http_status, spec.code.to_owned()));
        assert_eq!(answer.json()["message"], json!(spec.message));
        assert_eq!(answer.json().get("error"), spec.error_key.then(|| json!(spec.message)).as_ref());
        assert_eq!(answer.json()["remedy"], json!(spec.remedy));
        assert!(!answer.body.contains("hidden"));
    }
}

#[tokio::test]
async fn a_refusal_without_a_reason_is_a_fault_and_never_a_4xx() {
    let world = World::start().await;
    for status in
        [Status::unauthenticated("no"), Status::permission_denied("no"), Status::not_found("no"), Status::unknown("no")]
    {
        world.fake.refuses::<VerifyRunnerRequest, VerifyRunnerResponse>("verify_runner", status);
        assert_eq!(verify(&world).await.refusal(), (500, "internal".into()));
    }
}

#[tokio::test]
async fn a_failed_validation_lists_its_fields() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let refusal = Refusal::new(Reason::ValidationFailed)
        .with_field("maximum_timeout", "needs to be at least 10 minutes")
        .with_field("tags_list", "can not be empty when runner is not allowed to pick untagged jobs");
    world.fake.refuses::<CreateRunnerRequest, CreateRunnerResponse>("create_runner", refusal);
    let request =
        world.post("/api/v4/user/runners").header(header, user).json(&json!({"runner_type": "instance_type"}));
    let answer = send(request).await;
    let expected = json!({
        "maximum_timeout": ["needs to be at least 10 minutes"],
        "tags_list": ["can not be empty when runner is not allowed to pick untagged jobs"],
    });
    assert_eq!((answer.status, &answer.json()["message"]), (400, &expected));
}

#[tokio::test]
async fn an_unassigned_runner_reads_what_to_do_under_both_keys() {
    let world = World::start().await;
    let refusal = Refusal::new(Reason::RunnerUnassigned);
    world.fake.refuses::<VerifyRunnerRequest, VerifyRunnerResponse>("verify_runner", refusal);
    let answer = verify(&world).await;
    let text = json!("Runner needs to be assigned to at least one project");
    assert_eq!((answer.status, &answer.json()["message"], &answer.json()["error"]), (422, &text, &text));
}

#[tokio::test]
async fn a_precise_message_and_a_wait_reach_the_client() {
    let world = World::start().await;
    let refusal =
        Refusal::new(Reason::BadRequest).with_message("400 Bad request - x").with_retry_after(9).with_detail("hidden");
    world.fake.refuses::<VerifyRunnerRequest, VerifyRunnerResponse>("verify_runner", refusal);
    let answer = verify(&world).await;
    assert_eq!((&answer.json()["message"], answer.header("retry-after")), (&json!("400 Bad request - x"), "9"));
    assert!(!answer.body.contains("hidden"));
}

#[tokio::test]
async fn the_clients_request_id_is_answered_and_passed_on() {
    let world = World::start().await;
    let request = world.post_as_runner("/api/v4/runners/verify");
    let answer = send(request.header("x-request-id", "0123456789abcdef0123456789abcdef")).await;
    assert_eq!(answer.header("x-request-id"), "0123456789abcdef0123456789abcdef");
    let (_, context) = world.fake.calls::<VerifyRunnerRequest>("verify_runner").remove(0);
    assert_eq!(context.request_id, "0123456789abcdef0123456789abcdef");
    let answer = send(world.get("/nowhere").header("x-request-id", "not / plain")).await;
    assert_eq!(answer.header("x-request-id").len(), 32);
}

//! Calls past the gateway: a service refuses every call without an identity that one of our processes signed.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::{
    contract::METHODS,
    paddock::contract::v1::{
        CredentialKind, GetContractRequest, InternalHeader, Process, contract_service_client::ContractServiceClient,
    },
};
use serde_json::json;
use system::{Database, JobTokenAuth, Registry};
use tonic::{
    Code, Request, Status,
    codegen::http::uri::PathAndQuery,
    metadata::{AsciiMetadataKey, MetadataValue},
    transport::Channel,
};

/// Calls a method with an empty message and these identities.
async fn call(channel: &Channel, path: &'static str, identities: &[String]) -> Result<(), Status> {
    let key = InternalHeader::CallerIdentity.spec().expect("a header of the contract").key;
    let mut request = Request::new(());
    for identity in identities {
        let value = MetadataValue::try_from(identity.as_str()).expect("an ASCII value");
        request.metadata_mut().append(AsciiMetadataKey::from_static(key), value);
    }
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("the registry listens");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(request, PathAndQuery::from_static(path), codec).await.map(|_| ())
}

/// An identity that claims everything, signed with a key of the test under the id of a real key.
fn forged(path: &str, server: Process, key_id: &str) -> String {
    let claims = json!({
        "iss": "gateway", "aud": server.name(), "iat": 0, "exp": 4_102_444_800_u64, "jti": "forged", "method": path,
        "caller": { "user": { "id": 1, "username": "root", "admin": true, "scopes": [1] } },
    });
    let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&[7; 32])).expect("a signed identity")
}

/// The same identity without its signature.
fn unsigned(path: &str, server: Process, key_id: &str) -> String {
    let signed = forged(path, server, key_id);
    let (body, _) = signed.rsplit_once('.').expect("three parts");
    format!("{body}.")
}

async fn connect(endpoint: String) -> Channel {
    Channel::from_shared(endpoint).expect("an address").connect().await.expect("the process listens")
}

/// Asserts that every method of a process refuses calls without a valid identity.
async fn assert_all_refused(endpoint: String, server: Process) {
    let channel = connect(endpoint).await;
    let contract = ContractServiceClient::new(channel.clone()).get_contract(GetContractRequest {}).await;
    let key_id = contract.expect("the contract is public").into_inner().identity_key_ids.swap_remove(0);
    let mut wrong = Vec::new();
    let mut called = 0;
    let served = METHODS.iter().filter(|method| method.served_by == server);
    for method in served.filter(|method| !method.accepts.contains(&CredentialKind::None)) {
        let real = forged(method.path, server, &key_id);
        let callers = [
            ("no identity", vec![]),
            ("rubbish", vec!["rubbish".to_owned()]),
            ("a forged identity", vec![real.clone()]),
            ("an identity without signature", vec![unsigned(method.path, server, &key_id)]),
            ("an unknown key", vec![forged(method.path, server, "0123456789abcdef")]),
            ("two identities", vec![real.clone(), real]),
        ];
        for (who, identities) in callers {
            let answer = call(&channel, method.path, &identities).await;
            let refused = answer.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated);
            if !refused {
                wrong.push(format!("{} by {who}: {answer:?}", method.path));
            }
            called += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(called > 60, "{server:?}: only {called} calls");
}

#[tokio::test]
async fn a_call_without_a_signed_identity_is_refused() {
    let database = Database::Sqlite;
    let registry = Registry::start(&database, &[]);
    let auth = JobTokenAuth::start(&registry, &database, None, &[]);
    assert_all_refused(registry.endpoint(), Process::RunnerRegistry).await;
    assert_all_refused(auth.endpoint(), Process::JobTokenAuth).await;
}

#[tokio::test]
async fn a_method_that_the_contract_does_not_have_is_not_served() {
    let registry = Registry::start(&Database::Sqlite, &[]);
    let channel = connect(registry.endpoint()).await;
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for path in ["/paddock.runner.v1.RunnerService/Nothing", "/other.v1.Service/Method", reflection] {
        let status = call(&channel, path, &[]).await.expect_err("nothing is there");
        assert!(
            matches!(status.code(), Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated),
            "{path}: {status:?}"
        );
    }
}

//! A real server and a real client of the chassis, over a socket: which calls pass, and how the others are refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;

use chassis::{
    access::{CallContext, Caller, User},
    client::{ClientConfig, PeerChannel, PeerProblem},
    client_id::{ClientId, ResolvedClient},
    clock::Clock,
    identity::{Call, IdentityKeys},
    server::{GrpcServer, ServerConfig, ServerError},
    status::{Fault, Refusal, Rejection},
};
use proto::{
    contract::{DIGEST, METHODS, MethodSpec},
    paddock::{
        contract::v1::{
            CredentialKind, GetContractRequest, InternalHeader, Process, Reason, TokenScope,
            contract_service_client::ContractServiceClient,
        },
        job_token::v1::{
            AuthorizeRequest, AuthorizeResponse, DiscardRequest, DiscardResponse, FlushRequest, FlushResponse,
            authorization_service_client::AuthorizationServiceClient,
            authorization_service_server::{AuthorizationService, AuthorizationServiceServer},
        },
    },
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, client::Grpc, codegen::http::uri::PathAndQuery, metadata::MetadataKey};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const CALLEE: Process = Process::RunnerRegistry;

struct Running {
    address: SocketAddr,
    keys: IdentityKeys,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServerError>>,
}

async fn start(config: ServerConfig) -> Running {
    start_with(config, |server| server).await
}

async fn start_with(config: ServerConfig, add_services: impl FnOnce(GrpcServer) -> GrpcServer) -> Running {
    let keys = IdentityKeys::generate().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = add_services(GrpcServer::new(CALLEE, config, keys.clone(), Clock::system()));
    let served = tokio::spawn(server.serve(listener, shutdown.clone()));
    Running { address, keys, shutdown, served }
}

impl Running {
    fn channel(&self, keys: &IdentityKeys) -> PeerChannel {
        let config = ClientConfig { endpoint: format!("http://{}", self.address), deadline_ms: 5_000 };
        PeerChannel::new(&config, Process::Gateway, CALLEE, keys.clone(), Clock::system()).unwrap()
    }

    async fn plain(&self) -> tonic::transport::Channel {
        tonic::transport::Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }
}

fn context(caller: Caller) -> CallContext {
    CallContext { caller, request_id: "r-1".into(), peer_address: None, user_agent: None }
}

/// Calls a method with an empty message. No service implements it here, so an authenticated call gets UNIMPLEMENTED.
async fn call<C>(channel: C, path: &'static str, request: Request<()>) -> Status
where
    C: tonic::client::GrpcService<tonic::body::Body>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    <C::ResponseBody as tonic::codegen::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(Into::into).unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(request, PathAndQuery::from_static(path), codec).await.unwrap_err()
}

fn code(status: Status) -> &'static str {
    match Rejection::from(status) {
        Rejection::Refusal(refusal) => refusal.spec().code,
        Rejection::Fault(fault) => fault.spec().code,
    }
}

fn caller_for(method: &MethodSpec) -> Caller {
    match method.accepts[0] {
        CredentialKind::UserToken => {
            Caller::User(User { id: 1, username: "u".into(), admin: true, scopes: method.scopes.to_vec() })
        }
        CredentialKind::Process => Caller::Process(Process::Gateway),
        CredentialKind::None | CredentialKind::Unspecified => Caller::Anonymous,
        bearer => Caller::Bearer(bearer),
    }
}

#[tokio::test]
async fn every_method_lets_its_callers_through_and_refuses_a_call_without_identity() {
    let server = start(ServerConfig::default()).await;
    for method in METHODS.iter().filter(|method| !method.accepts.contains(&CredentialKind::None)) {
        let status = call(server.plain().await, method.path, Request::new(())).await;
        assert_eq!(code(status), "identity_missing", "{}", method.path);

        let mut request = Request::new(());
        request.extensions_mut().insert(context(caller_for(method)));
        let status = call(server.channel(&server.keys), method.path, request).await;
        assert_eq!(status.code(), Code::Unimplemented, "{}: {status:?}", method.path);

        let mut request = Request::new(());
        request.extensions_mut().insert(context(Caller::Anonymous));
        let status = call(server.channel(&server.keys), method.path, request).await;
        assert_eq!(code(status), "caller_not_accepted", "{}", method.path);
    }
}

#[tokio::test]
async fn an_identity_of_a_stranger_or_twice_or_in_bytes_is_refused_with_its_reason() {
    let server = start(ServerConfig::default()).await;
    let path = METHODS.iter().find(|method| method.accepts == [CredentialKind::Process]).unwrap().path;
    let caller = context(Caller::Process(Process::Gateway));

    let mut request = Request::new(());
    request.extensions_mut().insert(caller.clone());
    let status = call(server.channel(&IdentityKeys::generate().unwrap()), path, request).await;
    assert_eq!(code(status), "identity_unknown_key");

    let header = InternalHeader::CallerIdentity.spec().unwrap().key;
    let call_spec = Call { speaker: Process::Gateway, audience: CALLEE, method: path, now: Clock::system().now() };
    let identity = server.keys.sign(&caller, &call_spec).unwrap();
    let mut twice = Request::new(());
    twice.metadata_mut().append(MetadataKey::from_static(header), identity.parse().unwrap());
    twice.metadata_mut().append(MetadataKey::from_static(header), identity.parse().unwrap());
    assert_eq!(code(call(server.plain().await, path, twice).await), "identity_duplicate");

    let mut rubbish = Request::new(());
    rubbish.metadata_mut().insert(MetadataKey::from_static(header), "a.b.c".parse().unwrap());
    assert_eq!(code(call(server.plain().await, path, rubbish).await), "identity_malformed");
}

#[tokio::test]
async fn a_user_needs_a_scope_of_the_method() {
    let server = start(ServerConfig::default()).await;
    let method = METHODS.iter().find(|method| method.scopes == [TokenScope::Api]).unwrap();
    let user = User { id: 1, username: "u".into(), admin: true, scopes: vec![TokenScope::ReadUser] };
    let mut request = Request::new(());
    request.extensions_mut().insert(context(Caller::User(user)));
    assert_eq!(code(call(server.channel(&server.keys), method.path, request).await), "insufficient_scope");
}

#[tokio::test]
async fn a_call_without_a_context_never_goes_out() {
    let server = start(ServerConfig::default()).await;
    let status = call(server.channel(&server.keys), METHODS[0].path, Request::new(())).await;
    assert_eq!(code(status), "internal");
}

#[tokio::test]
async fn a_method_outside_the_contract_is_denied() {
    let server = start(ServerConfig::default()).await;
    let status = call(server.plain().await, "/paddock.unknown.v1.Service/Do", Request::new(())).await;
    assert_eq!(code(status), "caller_not_accepted");
}

#[tokio::test]
async fn contracts_can_be_compared_and_health_asked_without_identity() {
    let server = start(ServerConfig::default()).await;
    assert_eq!(server.channel(&server.keys).check().await, Ok(()));

    let keys = IdentityKeys::generate().unwrap();
    let problem = server.channel(&keys).check().await.unwrap_err();
    let expected =
        PeerProblem::Keys { peer: CALLEE.name(), ours: keys.key_ids().pop().unwrap(), theirs: server.keys.key_ids() };
    assert_eq!(problem, expected, "a wrong key is named, not hidden behind a refusal");

    let contract = ContractServiceClient::new(server.plain().await).get_contract(GetContractRequest {}).await.unwrap();
    assert_eq!(contract.into_inner().digest, DIGEST);

    let mut health = HealthClient::new(server.plain().await);
    health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
}

#[tokio::test]
async fn reflection_is_off_unless_it_is_wanted() {
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let off = start(ServerConfig::default()).await;
    assert_eq!(call(off.plain().await, REFLECTION, Request::new(())).await.code(), Code::Unimplemented);
    let on = start(ServerConfig { reflection: true, ..ServerConfig::default() }).await;
    assert_ne!(call(on.plain().await, REFLECTION, Request::new(())).await.code(), Code::Unimplemented);
}

#[tokio::test]
async fn an_unreachable_peer_is_a_fault_and_not_a_refusal() {
    let server = start(ServerConfig::default()).await;
    let channel = server.channel(&server.keys);
    server.shutdown.cancel();
    server.served.await.unwrap().unwrap();
    let mut request = Request::new(());
    request.extensions_mut().insert(context(Caller::Process(Process::Gateway)));
    assert_eq!(code(call(channel.clone(), METHODS[0].path, request).await), "unavailable");
    assert!(matches!(channel.check().await, Err(PeerProblem::Unreachable { .. })));
}

/// Names job 7 as the owner of every token but `unknown`, and answers as the token says.
struct Naming;

#[tonic::async_trait]
impl AuthorizationService for Naming {
    async fn authorize(&self, request: Request<AuthorizeRequest>) -> Result<Response<AuthorizeResponse>, Status> {
        let client = ResolvedClient::of(&request)?;
        let token = request.into_inner().token;
        if token != "unknown" {
            client.set(ClientId::new("job", 7));
        }
        match token.as_str() {
            "refused" => Err(Refusal::new(Reason::JobNotRunning).into()),
            "broken" => Err(Fault::internal("broken").into()),
            _ => Ok(Response::new(AuthorizeResponse::default())),
        }
    }

    async fn flush(&self, _: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn discard(&self, _: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

#[tokio::test]
async fn the_caller_learns_the_owner_of_a_credential_whatever_the_answer_is() {
    let server =
        start_with(ServerConfig::default(), |server| server.add_service(AuthorizationServiceServer::new(Naming))).await;
    let mut service = AuthorizationServiceClient::new(server.channel(&server.keys));
    let owner = Some(ClientId::new("job", 7));
    for (token, expected, code) in [
        ("good", &owner, Code::Ok),
        ("refused", &owner, Code::Unauthenticated),
        ("broken", &owner, Code::Internal),
        ("unknown", &None, Code::Ok),
    ] {
        let mut request = Request::new(AuthorizeRequest { token: token.to_owned(), ..Default::default() });
        request.extensions_mut().insert(context(Caller::Process(Process::Gateway)));
        let client = ResolvedClient::default();
        request.extensions_mut().insert(client.clone());
        let answered = service.authorize(request).await;
        assert_eq!(answered.map_or_else(|status| status.code(), |_| Code::Ok), code, "{token}");
        assert_eq!(&client.get(), expected, "{token}");
    }
}

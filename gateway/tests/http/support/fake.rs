//! Fakes of the services behind the gateway. They answer as the test scripts it, and record the calls. They run on the
//! server of the chassis, so that identities are signed and verified.

use std::{
    any::Any,
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use chassis::{
    access::{self, CallContext},
    client_id::{ClientId, ResolvedClient},
    clock::Clock,
    identity::IdentityKeys,
    server::{GrpcServer, ServerConfig},
};
use futures::stream::{self, BoxStream, StreamExt as _};
use proto::paddock::{
    contract::v1::{Process, TokenScope},
    directory::v1::{
        project_service_server::{ProjectService, ProjectServiceServer},
        user_service_server::{UserService, UserServiceServer},
        *,
    },
    job_token::v1::{
        authentication_log_service_server::{AuthenticationLogService, AuthenticationLogServiceServer},
        authorization_service_server::{AuthorizationService, AuthorizationServiceServer},
        job_service_server::{JobService, JobServiceServer},
        *,
    },
    runner::v1::{
        runner_service_server::{RunnerService, RunnerServiceServer},
        runner_token_service_server::{RunnerTokenService, RunnerTokenServiceServer},
        *,
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

type AnyMessage = Box<dyn Any + Send>;
type ScriptFuture = Pin<Box<dyn Future<Output = Result<AnyMessage, Status>> + Send>>;
type Script = Arc<dyn Fn(AnyMessage) -> ScriptFuture + Send + Sync>;

/// Both services. Clones share scripts and calls.
#[derive(Clone)]
pub struct Fake {
    pub keys: IdentityKeys,
    pub shutdown: CancellationToken,
    scripts: Arc<Mutex<HashMap<&'static str, Script>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    owners: Arc<Mutex<HashMap<&'static str, ClientId>>>,
    addresses: Option<Addresses>,
}

/// The addresses of the services.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub registry: SocketAddr,
    pub job_token_auth: SocketAddr,
}

/// The messages of a streamed answer.
pub type MessageStream<M> = BoxStream<'static, Result<M, Status>>;

/// A streamed answer. Without a script it has one empty message.
pub struct StreamedAnswer<M>(pub MessageStream<M>);

impl<M: Default + Send + 'static> Default for StreamedAnswer<M> {
    fn default() -> Self {
        Self(stream::iter([Ok(M::default())]).boxed())
    }
}

/// A recorded call.
struct Call {
    method: &'static str,
    request: AnyMessage,
    context: CallContext,
}

impl Fake {
    /// Creates services that do not listen.
    pub fn offline() -> Self {
        Self {
            keys: super::keys(),
            shutdown: CancellationToken::new(),
            scripts: Arc::default(),
            calls: Arc::default(),
            owners: Arc::default(),
            addresses: None,
        }
    }

    /// Starts services that accept every user token as one of the administrator `root`.
    pub async fn start() -> Self {
        let mut fake = Self::offline();
        fake.names("authenticate_user_token", "user", 1);
        fake.on("authenticate_user_token", |_: AuthenticateUserTokenRequest| async { Ok(root()) });
        let registry = fake
            .server(Process::RunnerRegistry)
            .add_service(RunnerTokenServiceServer::new(fake.clone()))
            .add_service(RunnerServiceServer::new(fake.clone()))
            .add_service(ProjectServiceServer::new(fake.clone()))
            .add_service(UserServiceServer::new(fake.clone()));
        let job_token_auth = fake
            .server(Process::JobTokenAuth)
            .add_service(AuthorizationServiceServer::new(fake.clone()))
            .add_service(AuthenticationLogServiceServer::new(fake.clone()))
            .add_service(JobServiceServer::new(fake.clone()));
        let registry = fake.serve(registry).await;
        let job_token_auth = fake.serve(job_token_auth).await;
        fake.addresses = Some(Addresses { registry, job_token_auth });
        fake
    }

    fn server(&self, process: Process) -> GrpcServer {
        GrpcServer::new(process, ServerConfig::default(), self.keys.clone(), Clock::system())
    }

    async fn serve(&self, server: GrpcServer) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.serve(listener, self.shutdown.clone()));
        address
    }

    /// Returns the addresses of the services.
    pub fn addresses(&self) -> Addresses {
        self.addresses.expect("services that serve")
    }

    /// Scripts a method from now on. Without a script it answers the empty message.
    pub fn on<Q, A, F>(&self, method: &'static str, answer: impl Fn(Q) -> F + Send + Sync + 'static)
    where
        Q: 'static,
        A: Send + 'static,
        F: Future<Output = Result<A, Status>> + Send + 'static,
    {
        let script: Script = Arc::new(move |request: AnyMessage| {
            let answering = answer(*request.downcast::<Q>().expect("the method's request"));
            Box::pin(async move { answering.await.map(|answer| Box::new(answer) as AnyMessage) })
        });
        self.scripts.lock().unwrap().insert(method, script);
    }

    /// Scripts a method to give always the same answer.
    pub fn answers<Q, A>(&self, method: &'static str, answer: A)
    where
        Q: 'static,
        A: Clone + Send + Sync + 'static,
    {
        self.on(method, move |_: Q| {
            let answer = answer.clone();
            async move { Ok(answer) }
        });
    }

    /// Scripts a method to refuse always.
    pub fn refuses<Q, A>(&self, method: &'static str, refusal: impl Into<Status>)
    where
        Q: 'static,
        A: Send + 'static,
    {
        let status = refusal.into();
        self.on(method, move |_: Q| {
            let status = status.clone();
            async move { Err::<A, _>(status) }
        });
    }

    /// Scripts a method to fail this many times with `error`, and then to give the empty answer.
    pub fn fails_first<Q, A>(&self, method: &'static str, failures: usize, error: impl Into<Status>)
    where
        Q: 'static,
        A: Default + Send + 'static,
    {
        let status = error.into();
        let calls = AtomicUsize::new(0);
        self.on(method, move |_: Q| {
            let fails = calls.fetch_add(1, Ordering::SeqCst) < failures;
            let result = if fails { Err(status.clone()) } else { Ok(A::default()) };
            async move { result }
        });
    }

    /// Lets a method name the owner of the credential from now on, whatever its answer is.
    pub fn names(&self, method: &'static str, kind: &str, id: i64) {
        self.owners.lock().unwrap().insert(method, ClientId::new(kind, id));
    }

    /// Returns the calls of a method so far.
    pub fn calls<Q: Clone + 'static>(&self, method: &'static str) -> Vec<(Q, CallContext)> {
        let calls = self.calls.lock().unwrap();
        let of_method = calls.iter().filter(|call| call.method == method);
        of_method
            .map(|call| (call.request.downcast_ref::<Q>().expect("its request").clone(), call.context.clone()))
            .collect()
    }

    /// Returns the number of calls so far, without the exchange of user tokens.
    pub fn count(&self) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| call.method != "authenticate_user_token").count()
    }

    async fn respond<Q, A>(&self, method: &'static str, request: Request<Q>) -> Result<Response<A>, Status>
    where
        Q: Clone + Send + 'static,
        A: Default + 'static,
    {
        let context = access::context(&request)?.clone();
        if let Some(owner) = self.owners.lock().unwrap().get(method) {
            ResolvedClient::of(&request)?.set(owner.clone());
        }
        let message = request.into_inner();
        self.calls.lock().unwrap().push(Call { method, request: Box::new(message.clone()), context });
        let script = self.scripts.lock().unwrap().get(method).cloned();
        let Some(script) = script else { return Ok(Response::new(A::default())) };
        let answer = script(Box::new(message)).await?;
        Ok(Response::new(*answer.downcast::<A>().expect("the method's answer")))
    }
}

/// Returns the default answer of the registry about a user token.
pub fn root() -> AuthenticateUserTokenResponse {
    AuthenticateUserTokenResponse {
        user_id: 1,
        username: "root".into(),
        admin: true,
        scopes: vec![TokenScope::Api.into()],
        expires_at: None,
    }
}

macro_rules! scripted {
    ($service:ident: $($method:ident($request:ty) -> $answer:ty;)+ $(=> $stream:ident: $streamed:ident($asked:ty) -> $piece:ty;)*) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$answer>, Status> {
                self.respond(stringify!($method), request).await
            })+
            $(type $stream = MessageStream<$piece>;
            async fn $streamed(&self, request: Request<$asked>) -> Result<Response<Self::$stream>, Status> {
                let answer: Response<StreamedAnswer<$piece>> = self.respond(stringify!($streamed), request).await?;
                Ok(answer.map(|StreamedAnswer(messages)| messages))
            })*
        }
    };
}

scripted! { RunnerTokenService:
    register_runner(RegisterRunnerRequest) -> RegisterRunnerResponse;
    verify_runner(VerifyRunnerRequest) -> VerifyRunnerResponse;
    reset_authentication_token(ResetAuthenticationTokenRequest) -> ResetAuthenticationTokenResponse;
    unregister_runner(UnregisterRunnerRequest) -> UnregisterRunnerResponse;
    unregister_runner_manager(UnregisterRunnerManagerRequest) -> UnregisterRunnerManagerResponse;
    request_job(RequestJobRequest) -> RequestJobResponse;
}

scripted! { RunnerService:
    create_runner(CreateRunnerRequest) -> CreateRunnerResponse;
    list_runners(ListRunnersRequest) -> ListRunnersResponse;
    list_all_runners(ListAllRunnersRequest) -> ListAllRunnersResponse;
    get_runner(GetRunnerRequest) -> GetRunnerResponse;
    update_runner(UpdateRunnerRequest) -> UpdateRunnerResponse;
    delete_runner(DeleteRunnerRequest) -> DeleteRunnerResponse;
    list_runner_managers(ListRunnerManagersRequest) -> ListRunnerManagersResponse;
    list_runner_token_events(ListRunnerTokenEventsRequest) -> ListRunnerTokenEventsResponse;
    reset_runner_authentication_token(ResetRunnerAuthenticationTokenRequest) -> ResetRunnerAuthenticationTokenResponse;
    list_project_runners(ListProjectRunnersRequest) -> ListProjectRunnersResponse;
    assign_runner(AssignRunnerRequest) -> AssignRunnerResponse;
    unassign_runner(UnassignRunnerRequest) -> UnassignRunnerResponse;
    list_group_runners(ListGroupRunnersRequest) -> ListGroupRunnersResponse;
}

scripted! { ProjectService:
    list_projects(ListProjectsRequest) -> ListProjectsResponse;
    get_project(GetProjectRequest) -> GetProjectResponse;
    create_project(CreateProjectRequest) -> CreateProjectResponse;
    update_project(UpdateProjectRequest) -> UpdateProjectResponse;
    delete_project(DeleteProjectRequest) -> DeleteProjectResponse;
}

scripted! { UserService:
    get_current_user(GetCurrentUserRequest) -> GetCurrentUserResponse;
    list_users(ListUsersRequest) -> ListUsersResponse;
    get_user(GetUserRequest) -> GetUserResponse;
    create_user(CreateUserRequest) -> CreateUserResponse;
    update_user(UpdateUserRequest) -> UpdateUserResponse;
    delete_user(DeleteUserRequest) -> DeleteUserResponse;
    create_personal_access_token(CreatePersonalAccessTokenRequest) -> CreatePersonalAccessTokenResponse;
    authenticate_user_token(AuthenticateUserTokenRequest) -> AuthenticateUserTokenResponse;
}

scripted! { AuthorizationService:
    authorize(AuthorizeRequest) -> AuthorizeResponse;
    flush(FlushRequest) -> FlushResponse;
    discard(DiscardRequest) -> DiscardResponse;
}

scripted! { JobService:
    issue_job_token(IssueJobTokenRequest) -> IssueJobTokenResponse;
    start_job(StartJobRequest) -> StartJobResponse;
    finish_job(FinishJobRequest) -> FinishJobResponse;
    list_jobs(ListJobsRequest) -> ListJobsResponse;
    get_current_job(GetCurrentJobRequest) -> GetCurrentJobResponse;
    list_signing_keys(ListSigningKeysRequest) -> ListSigningKeysResponse;
}

scripted! { AuthenticationLogService:
    list_authentication_log(ListAuthenticationLogRequest) -> ListAuthenticationLogResponse;
    list_access_events(ListAccessEventsRequest) -> ListAccessEventsResponse;
    dry_run_allowlist(DryRunAllowlistRequest) -> DryRunAllowlistResponse;
    autopopulate_allowlist(AutopopulateAllowlistRequest) -> AutopopulateAllowlistResponse;
    => StreamAuthenticationLogCsvStream: stream_authentication_log_csv(StreamAuthenticationLogCsvRequest) -> StreamAuthenticationLogCsvResponse;
    => StreamAuthenticationLogJsonLinesStream: stream_authentication_log_json_lines(StreamAuthenticationLogJsonLinesRequest) -> StreamAuthenticationLogJsonLinesResponse;
    => StreamAccessEventsJsonLinesStream: stream_access_events_json_lines(StreamAccessEventsJsonLinesRequest) -> StreamAccessEventsJsonLinesResponse;
}

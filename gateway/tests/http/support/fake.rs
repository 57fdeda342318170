//! The services behind the gateway: they answer as the test says, and remember what they were asked. They stand behind
//! the real server of the chassis, so that identities are signed and verified.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use chassis::access::{self, CallContext};
use chassis::clock::Clock;
use chassis::identity::IdentityKeys;
use chassis::server::{GrpcServer, ServerConfig};
use futures::stream::{self, BoxStream, StreamExt as _};
use proto::paddock::contract::v1::{Process, TokenScope};
use proto::paddock::directory::v1::project_service_server::{ProjectService, ProjectServiceServer};
use proto::paddock::directory::v1::user_service_server::{UserService, UserServiceServer};
use proto::paddock::directory::v1::*;
use proto::paddock::job_token::v1::authentication_log_service_server::{
    AuthenticationLogService, AuthenticationLogServiceServer,
};
use proto::paddock::job_token::v1::authorization_service_server::{AuthorizationService, AuthorizationServiceServer};
use proto::paddock::job_token::v1::job_service_server::{JobService, JobServiceServer};
use proto::paddock::job_token::v1::*;
use proto::paddock::runner::v1::runner_service_server::{RunnerService, RunnerServiceServer};
use proto::paddock::runner::v1::runner_token_service_server::{RunnerTokenService, RunnerTokenServiceServer};
use proto::paddock::runner::v1::*;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

type Boxed = Box<dyn Any + Send>;
type Playing = Pin<Box<dyn Future<Output = Result<Boxed, Status>> + Send>>;
type Script = Arc<dyn Fn(Boxed) -> Playing + Send + Sync>;

/// Both services.
#[derive(Clone)]
pub struct Fake {
    pub keys: IdentityKeys,
    pub shutdown: CancellationToken,
    scripts: Arc<Mutex<HashMap<&'static str, Script>>>,
    calls: Arc<Mutex<Vec<Recorded>>>,
    addresses: Option<Addresses>,
}

/// Where the services serve.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub registry: SocketAddr,
    pub job_token_auth: SocketAddr,
}

/// The messages of an answer that is a stream.
pub type Pieces<M> = BoxStream<'static, Result<M, Status>>;

/// Such an answer; without a script it has one empty message.
pub struct Scripted<M>(pub Pieces<M>);

impl<M: Default + Send + 'static> Default for Scripted<M> {
    fn default() -> Self {
        Self(stream::iter([Ok(M::default())]).boxed())
    }
}

/// A call that came.
struct Recorded {
    method: &'static str,
    request: Boxed,
    context: CallContext,
}

impl Fake {
    /// Services that serve nowhere.
    pub fn silent() -> Self {
        Self {
            keys: super::keys(),
            shutdown: CancellationToken::new(),
            scripts: Arc::default(),
            calls: Arc::default(),
            addresses: None,
        }
    }

    /// Services that serve, and know every user token as that of the administrator `root`.
    pub async fn start() -> Self {
        let mut fake = Self::silent();
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
        let (registry, job_token_auth) = (fake.serve(registry).await, fake.serve(job_token_auth).await);
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

    /// Where they serve.
    pub fn addresses(&self) -> Addresses {
        self.addresses.expect("services that serve")
    }

    /// Says what a method answers from now on; without it, it answers the empty message.
    pub fn on<Q, A, F>(&self, method: &'static str, play: impl Fn(Q) -> F + Send + Sync + 'static)
    where
        Q: 'static,
        A: Send + 'static,
        F: Future<Output = Result<A, Status>> + Send + 'static,
    {
        let script = move |request: Boxed| -> Playing {
            let playing = play(*request.downcast::<Q>().expect("the method's request"));
            Box::pin(async move { playing.await.map(|answer| Box::new(answer) as Boxed) })
        };
        self.scripts.lock().unwrap().insert(method, Arc::new(script));
    }

    /// Says what a method always answers.
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

    /// Says how a method always refuses.
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

    /// The calls of a method so far.
    pub fn calls<Q: Clone + 'static>(&self, method: &'static str) -> Vec<(Q, CallContext)> {
        let calls = self.calls.lock().unwrap();
        let of_method = calls.iter().filter(|call| call.method == method);
        of_method
            .map(|call| (call.request.downcast_ref::<Q>().expect("its request").clone(), call.context.clone()))
            .collect()
    }

    /// How many calls came, of any method but the exchange of user tokens.
    pub fn count(&self) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| call.method != "authenticate_user_token").count()
    }

    async fn play<Q, A>(&self, method: &'static str, request: Request<Q>) -> Result<Response<A>, Status>
    where
        Q: Clone + Send + 'static,
        A: Default + 'static,
    {
        let context = access::context(&request)?.clone();
        let message = request.into_inner();
        self.calls.lock().unwrap().push(Recorded { method, request: Box::new(message.clone()), context });
        let script = self.scripts.lock().unwrap().get(method).cloned();
        let Some(script) = script else { return Ok(Response::new(A::default())) };
        let answer = script(Box::new(message)).await?;
        Ok(Response::new(*answer.downcast::<A>().expect("the method's answer")))
    }
}

/// What the registry says of a user token by default.
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
                self.play(stringify!($method), request).await
            })+
            $(type $stream = Pieces<$piece>;
            async fn $streamed(&self, request: Request<$asked>) -> Result<Response<Self::$stream>, Status> {
                let pieces: Response<Scripted<$piece>> = self.play(stringify!($streamed), request).await?;
                Ok(pieces.map(|Scripted(pieces)| pieces))
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

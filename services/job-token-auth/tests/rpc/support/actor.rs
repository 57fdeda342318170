use chassis::{access::CallContext, client::PeerChannel};
use proto::paddock::job_token::v1::{
    authentication_log_service_client::AuthenticationLogServiceClient,
    authorization_service_client::AuthorizationServiceClient, job_service_client::JobServiceClient,
    scope_service_client::ScopeServiceClient,
};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
};

/// A caller. All of its clients sign their calls as this caller.
#[derive(Clone)]
pub struct Actor {
    channel: PeerChannel,
    context: CallContext,
}

/// Adds the context of the actor to every call.
#[derive(Clone)]
pub struct AddContext(CallContext);

impl Interceptor for AddContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.extensions_mut().insert(self.0.clone());
        Ok(request)
    }
}

/// The channel of an actor.
pub type ActorChannel = InterceptedService<PeerChannel, AddContext>;

impl Actor {
    pub fn new(channel: PeerChannel, context: CallContext) -> Self {
        Self { channel, context }
    }

    fn channel(&self) -> ActorChannel {
        InterceptedService::new(self.channel.clone(), AddContext(self.context.clone()))
    }

    pub fn jobs(&self) -> JobServiceClient<ActorChannel> {
        JobServiceClient::new(self.channel())
    }

    pub fn authorization(&self) -> AuthorizationServiceClient<ActorChannel> {
        AuthorizationServiceClient::new(self.channel())
    }

    pub fn scope(&self) -> ScopeServiceClient<ActorChannel> {
        ScopeServiceClient::new(self.channel())
    }

    pub fn log(&self) -> AuthenticationLogServiceClient<ActorChannel> {
        AuthenticationLogServiceClient::new(self.channel())
    }
}

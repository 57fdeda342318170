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

/// Somebody who calls. Every client that it hands out signs its calls as this caller.
#[derive(Clone)]
pub struct Actor {
    channel: PeerChannel,
    context: CallContext,
}

/// Gives every call the context of the actor.
#[derive(Clone)]
pub struct Speak(CallContext);

impl Interceptor for Speak {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.extensions_mut().insert(self.0.clone());
        Ok(request)
    }
}

/// What carries the calls of an actor.
pub type Voice = InterceptedService<PeerChannel, Speak>;

impl Actor {
    pub fn new(channel: PeerChannel, context: CallContext) -> Self {
        Self { channel, context }
    }

    fn voice(&self) -> Voice {
        InterceptedService::new(self.channel.clone(), Speak(self.context.clone()))
    }

    pub fn jobs(&self) -> JobServiceClient<Voice> {
        JobServiceClient::new(self.voice())
    }

    pub fn authorization(&self) -> AuthorizationServiceClient<Voice> {
        AuthorizationServiceClient::new(self.voice())
    }

    pub fn scope(&self) -> ScopeServiceClient<Voice> {
        ScopeServiceClient::new(self.voice())
    }

    pub fn log(&self) -> AuthenticationLogServiceClient<Voice> {
        AuthenticationLogServiceClient::new(self.voice())
    }
}

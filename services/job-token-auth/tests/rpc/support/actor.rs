use chassis::{
    access::CallContext,
    client::PeerChannel,
    testing::caller::{self, CallerChannel},
};
use proto::paddock::job_token::v1::{
    authentication_log_service_client::AuthenticationLogServiceClient,
    authorization_service_client::AuthorizationServiceClient, job_service_client::JobServiceClient,
    scope_service_client::ScopeServiceClient,
};

/// A caller. All of its clients sign their calls as this caller.
#[derive(Clone)]
pub struct Actor {
    channel: PeerChannel,
    context: CallContext,
}

impl Actor {
    pub fn new(channel: PeerChannel, context: CallContext) -> Self {
        Self { channel, context }
    }

    fn channel(&self) -> CallerChannel {
        caller::channel(&self.channel, &self.context)
    }

    pub fn jobs(&self) -> JobServiceClient<CallerChannel> {
        JobServiceClient::new(self.channel())
    }

    pub fn authorization(&self) -> AuthorizationServiceClient<CallerChannel> {
        AuthorizationServiceClient::new(self.channel())
    }

    pub fn scope(&self) -> ScopeServiceClient<CallerChannel> {
        ScopeServiceClient::new(self.channel())
    }

    pub fn log(&self) -> AuthenticationLogServiceClient<CallerChannel> {
        AuthenticationLogServiceClient::new(self.channel())
    }
}

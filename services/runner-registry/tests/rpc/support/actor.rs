use chassis::{
    access::{CallContext, Caller},
    client::PeerChannel,
};
use proto::paddock::{
    directory::v1::{
        directory_service_client::DirectoryServiceClient, group_service_client::GroupServiceClient,
        instance_service_client::InstanceServiceClient, member_service_client::MemberServiceClient,
        project_service_client::ProjectServiceClient, user_service_client::UserServiceClient,
    },
    runner::v1::{runner_service_client::RunnerServiceClient, runner_token_service_client::RunnerTokenServiceClient},
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

    /// The id of an actor that is a user.
    pub fn user_id(&self) -> i64 {
        match &self.context.caller {
            Caller::User(user) => user.id,
            other => panic!("{other:?} is no user"),
        }
    }

    pub fn users(&self) -> UserServiceClient<Voice> {
        UserServiceClient::new(self.voice())
    }

    pub fn groups(&self) -> GroupServiceClient<Voice> {
        GroupServiceClient::new(self.voice())
    }

    pub fn projects(&self) -> ProjectServiceClient<Voice> {
        ProjectServiceClient::new(self.voice())
    }

    pub fn members(&self) -> MemberServiceClient<Voice> {
        MemberServiceClient::new(self.voice())
    }

    pub fn directory(&self) -> DirectoryServiceClient<Voice> {
        DirectoryServiceClient::new(self.voice())
    }

    pub fn instance(&self) -> InstanceServiceClient<Voice> {
        InstanceServiceClient::new(self.voice())
    }

    pub fn runners(&self) -> RunnerServiceClient<Voice> {
        RunnerServiceClient::new(self.voice())
    }

    pub fn runner_tokens(&self) -> RunnerTokenServiceClient<Voice> {
        RunnerTokenServiceClient::new(self.voice())
    }
}

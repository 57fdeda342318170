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

/// A caller. Every client that it hands out signs its calls as this caller.
#[derive(Clone)]
pub struct Actor {
    channel: PeerChannel,
    context: CallContext,
}

/// Gives every call the context of the actor.
#[derive(Clone)]
pub struct AddContext(CallContext);

impl Interceptor for AddContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.extensions_mut().insert(self.0.clone());
        Ok(request)
    }
}

/// The channel of an actor.
pub type ActorService = InterceptedService<PeerChannel, AddContext>;

impl Actor {
    pub fn new(channel: PeerChannel, context: CallContext) -> Self {
        Self { channel, context }
    }

    fn service(&self) -> ActorService {
        InterceptedService::new(self.channel.clone(), AddContext(self.context.clone()))
    }

    /// The id of an actor that is a user.
    pub fn user_id(&self) -> i64 {
        match &self.context.caller {
            Caller::User(user) => user.id,
            other => panic!("{other:?} is not a user"),
        }
    }

    pub fn users(&self) -> UserServiceClient<ActorService> {
        UserServiceClient::new(self.service())
    }

    pub fn groups(&self) -> GroupServiceClient<ActorService> {
        GroupServiceClient::new(self.service())
    }

    pub fn projects(&self) -> ProjectServiceClient<ActorService> {
        ProjectServiceClient::new(self.service())
    }

    pub fn members(&self) -> MemberServiceClient<ActorService> {
        MemberServiceClient::new(self.service())
    }

    pub fn directory(&self) -> DirectoryServiceClient<ActorService> {
        DirectoryServiceClient::new(self.service())
    }

    pub fn instance(&self) -> InstanceServiceClient<ActorService> {
        InstanceServiceClient::new(self.service())
    }

    pub fn runners(&self) -> RunnerServiceClient<ActorService> {
        RunnerServiceClient::new(self.service())
    }

    pub fn runner_tokens(&self) -> RunnerTokenServiceClient<ActorService> {
        RunnerTokenServiceClient::new(self.service())
    }
}

use chassis::{
    access::{CallContext, Caller},
    client::PeerChannel,
    testing::caller::{self, CallerChannel},
};
use proto::paddock::{
    directory::v1::{
        directory_service_client::DirectoryServiceClient, group_service_client::GroupServiceClient,
        instance_service_client::InstanceServiceClient, member_service_client::MemberServiceClient,
        project_service_client::ProjectServiceClient, user_service_client::UserServiceClient,
    },
    runner::v1::{runner_service_client::RunnerServiceClient, runner_token_service_client::RunnerTokenServiceClient},
};

/// A caller. Every client that it hands out signs its calls as this caller.
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

    /// The id of an actor that is a user.
    pub fn user_id(&self) -> i64 {
        match &self.context.caller {
            Caller::User(user) => user.id,
            other => panic!("{other:?} is not a user"),
        }
    }

    pub fn users(&self) -> UserServiceClient<CallerChannel> {
        UserServiceClient::new(self.channel())
    }

    pub fn groups(&self) -> GroupServiceClient<CallerChannel> {
        GroupServiceClient::new(self.channel())
    }

    pub fn projects(&self) -> ProjectServiceClient<CallerChannel> {
        ProjectServiceClient::new(self.channel())
    }

    pub fn members(&self) -> MemberServiceClient<CallerChannel> {
        MemberServiceClient::new(self.channel())
    }

    pub fn directory(&self) -> DirectoryServiceClient<CallerChannel> {
        DirectoryServiceClient::new(self.channel())
    }

    pub fn instance(&self) -> InstanceServiceClient<CallerChannel> {
        InstanceServiceClient::new(self.channel())
    }

    pub fn runners(&self) -> RunnerServiceClient<CallerChannel> {
        RunnerServiceClient::new(self.channel())
    }

    pub fn runner_tokens(&self) -> RunnerTokenServiceClient<CallerChannel> {
        RunnerTokenServiceClient::new(self.channel())
    }
}

//! The real service on a free port, on each of the two databases, with a clock that the test sets, and clients that
//! call as a given caller.
//!
//! A test is written once, inside `both_databases!`, and takes `registry: &Registry`. It arranges through the service
//! (`registry.user("alice")`, `registry.root().groups()`), or in the tables where the contract has no method
//! (`registry.database`).

mod actor;
mod service;

use std::path::PathBuf;

use chassis::{
    access::{CallContext, Caller, User},
    client::{ClientConfig, PeerChannel},
    clock::Clock,
    config,
    db::{self, DatabaseLocation},
    identity::IdentityKeys,
    testing::postgres,
};
use prost_types::FieldMask;
use proto::{
    paddock::{
        contract::v1::{CredentialKind, Process, TokenScope},
        directory::v1::{CreateGroupRequest, CreateProjectRequest, CreateUserRequest, Group, Project},
    },
    role::Role,
};
use runner_registry::{
    Config,
    config::{DEFAULTS, ProcessConfig},
    entity::{member, user},
    migration::Migrator,
};
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    DatabaseConnection, EntityTrait as _,
};
use tempfile::TempDir;
use time::macros::datetime;

use service::{Environment, Service};

pub use actor::Actor;
pub use chassis::testing::answer::Answer;

/// Expands each test into two, one for each database. `with |config| …;` before the tests changes the settings of the
/// service.
macro_rules! both_databases {
    ($(async fn $name:ident($registry:ident) $body:block)*) => {
        $crate::support::both_databases! { with |_config| {}; $(async fn $name($registry) $body)* }
    };
    (with $change:expr; $(async fn $name:ident($registry:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn scenario($registry: &$crate::support::Registry) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let registry = $crate::support::Registry::on_sqlite($change).await;
                scenario(&registry).await;
                registry.finish().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let Some(registry) = $crate::support::Registry::on_postgres($change).await else { return };
                scenario(&registry).await;
                registry.finish().await;
            }
        }
    )*};
}
pub(crate) use both_databases;

/// The time at which every test begins.
pub const START: time::OffsetDateTime = datetime!(2026-01-15 12:00:00 UTC);

/// A running service.
pub struct Registry {
    /// A second connection to the database of the service.
    pub database: DatabaseConnection,
    /// The clock of the service and of its clients.
    pub clock: Clock,
    environment: Environment,
    service: Service,
    root_id: i64,
    _folder: TempDir,
}

/// The changes that a test makes to the default settings.
pub type Change = fn(&mut Config);

impl Registry {
    /// Starts the service on a SQLite file.
    pub async fn on_sqlite(change: Change) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = DatabaseLocation::Sqlite(folder.path().join("registry.sqlite"));
        Self::start(location, folder, change).await
    }

    /// Starts the service on a new Postgres database; none if there is no server.
    pub async fn on_postgres(change: Change) -> Option<Self> {
        let location = postgres::new_database::<Migrator>("runner_registry").await?;
        Some(Self::start(location, tempfile::tempdir().unwrap(), change).await)
    }

    async fn start(location: DatabaseLocation, folder: TempDir, change: Change) -> Self {
        let clock = Clock::manual(START);
        let database = db::connect(&location, 5).await.unwrap();
        assert!(runner_registry::bootstrap_root(&database, &clock, |_| Ok(())).await.unwrap());
        let root_id = user::Entity::find().one(&database).await.unwrap().unwrap().id;
        let keys = IdentityKeys::generate().unwrap();
        let environment = Environment { location, keys, seal_key: vec![7; 32], clock: clock.clone() };
        let service = Service::start(&environment, settings(change)).await;
        Self { database, clock, environment, service, root_id, _folder: folder }
    }

    /// Stops the service, which must end without an error, and removes its database.
    pub async fn finish(mut self) {
        self.service.stop().await;
        self.drop_database().await;
        self.database.close().await.unwrap();
    }

    /// Kills the service in whatever it does. `restart` starts it again.
    pub async fn kill(&mut self) {
        self.service.kill().await;
    }

    /// Starts the service again on the same database. Clients that were made before do not reach it.
    pub async fn restart(&mut self, change: impl FnOnce(&mut Config)) {
        self.service = Service::start(&self.environment, settings(change)).await;
    }

    /// Removes a Postgres database while the service uses it. A SQLite file is deleted with its folder.
    pub async fn drop_database(&self) {
        postgres::drop_database(&self.environment.location).await;
    }

    /// A client that calls as this caller.
    pub fn speaking_as(&self, caller: Caller) -> Actor {
        let config = ClientConfig { endpoint: format!("http://{}", self.service.address), deadline_ms: 30_000 };
        let speaker = Process::Gateway;
        let audience = Process::RunnerRegistry;
        let channel =
            PeerChannel::new(&config, speaker, audience, self.environment.keys.clone(), self.clock.clone()).unwrap();
        let context = CallContext {
            caller,
            request_id: "test-request".to_owned(),
            peer_address: Some("192.0.2.7".parse().unwrap()),
            user_agent: Some("gitlab-runner 18.4.0".to_owned()),
        };
        Actor::new(channel, context)
    }

    /// The first administrator.
    pub fn root(&self) -> Actor {
        self.as_user(self.root_id, "root", true)
    }

    /// A caller with a runner token.
    pub fn runner(&self) -> Actor {
        self.speaking_as(Caller::Bearer(CredentialKind::RunnerToken))
    }

    /// The gateway, for itself.
    pub fn process(&self) -> Actor {
        self.speaking_as(Caller::Process(Process::Gateway))
    }

    /// A user who exists, with a token of every scope.
    pub fn as_user(&self, id: i64, username: &str, admin: bool) -> Actor {
        let scopes = TokenScope::ALL.to_vec();
        self.speaking_as(Caller::User(User { id, username: username.to_owned(), admin, scopes }))
    }

    /// A new user who is not an administrator.
    pub async fn user(&self, username: &str) -> Actor {
        let request = CreateUserRequest {
            email: format!("{username}@example.com"),
            name: format!("{username} the user"),
            username: username.to_owned(),
            admin: None,
        };
        let user = self.root().users().create_user(request).await.answer().user.unwrap();
        self.as_user(user.id, username, false)
    }

    /// A new private group that root owns, below another one or at the top.
    pub async fn group(&self, path: &str, parent: Option<&Group>) -> Group {
        let request = CreateGroupRequest {
            name: path.to_uppercase(),
            path: path.to_owned(),
            parent_id: parent.map(|parent| parent.id),
            ..Default::default()
        };
        self.root().groups().create_group(request).await.answer().group.unwrap()
    }

    /// A new private project that root owns, in a group.
    pub async fn project(&self, path: &str, group: &Group) -> Project {
        let request = CreateProjectRequest {
            name: Some(path.to_uppercase()),
            path: Some(path.to_owned()),
            namespace_id: Some(group.id),
            ..Default::default()
        };
        self.root().projects().create_project(request).await.answer().project.unwrap()
    }

    /// Gives a user a role in a group.
    pub async fn join_group(&self, actor: &Actor, group: &Group, role: Role) {
        self.join(actor.user_id(), Some(group.id), None, role).await;
    }

    /// Gives a user a role in a project.
    pub async fn join_project(&self, actor: &Actor, project: &Project, role: Role) {
        self.join(actor.user_id(), None, Some(project.id), role).await;
    }

    async fn join(&self, user_id: i64, group_id: Option<i64>, project_id: Option<i64>, role: Role) {
        let row = member::ActiveModel {
            id: NotSet,
            user_id: Set(user_id),
            group_id: Set(group_id),
            project_id: Set(project_id),
            access_level: Set(role.number()),
        };
        row.insert(&self.database).await.unwrap();
    }
}

/// The documented default settings, which must be valid, with a change.
fn settings(change: impl FnOnce(&mut Config)) -> ProcessConfig {
    let defaults = [chassis::config::DEFAULTS, DEFAULTS];
    let mut settings: ProcessConfig = config::load(&defaults, None::<PathBuf>.as_deref()).unwrap();
    change(&mut settings.runner_registry);
    settings
}

/// The mask of an update.
pub fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

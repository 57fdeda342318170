//! One file per table. The steps in `migration` create the tables; the entities describe the same columns for queries.

pub mod application_settings;
pub mod group;
pub mod group_ancestor;
pub mod member;
pub mod personal_access_token;
pub mod project;
pub mod removed_runner_token;
pub mod route;
pub mod runner;
pub mod runner_manager;
pub mod runner_project;
pub mod runner_token;
pub mod runner_token_event;
pub mod user;
mod visibility;

pub use visibility::Visibility;

/// A JSON array of strings in one column: the tags of a runner, the scopes of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, sea_orm::FromJsonQueryResult)]
pub struct StringList(pub Vec<String>);

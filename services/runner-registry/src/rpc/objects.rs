//! From the `:id` of a request to the group or project that it means, with the rank and role of the caller. Every
//! handler finds its object here, so that callers cannot tell an invisible object from one that does not exist.

use chassis::access::User;
use sea_orm::DatabaseConnection;

use crate::{
    directory::{paths::ObjectId, permission::Standing},
    entity::{group, project},
    error::{Error, Result},
    store,
};

/// An object that the caller sees.
#[derive(Debug)]
pub struct Seen<M> {
    /// The object.
    pub model: M,
    /// The rank and role of the caller.
    pub standing: Standing,
}

impl<M> Seen<M> {
    /// The object, if the rule holds.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if it does not.
    pub fn check(self, rule: fn(Standing) -> bool) -> Result<M> {
        if rule(self.standing) { Ok(self.model) } else { Err(Error::AccessDenied) }
    }

    /// The object that something is created in, if the rule holds.
    ///
    /// # Errors
    /// [`Error::InsufficientPermissions`] if it does not.
    pub fn check_creation(self, rule: fn(Standing) -> bool) -> Result<M> {
        if rule(self.standing) { Ok(self.model) } else { Err(Error::InsufficientPermissions) }
    }
}

/// The group that an id or a full path means.
///
/// # Errors
/// [`Error::GroupNotFound`] if there is none that the caller sees.
pub async fn group(db: &DatabaseConnection, user: &User, id: &str) -> Result<Seen<group::Model>> {
    let id = ObjectId::parse(id).ok_or(Error::GroupNotFound)?;
    seen_group(db, user, &id).await
}

/// The group with the number.
///
/// # Errors
/// [`Error::GroupNotFound`] if there is none that the caller sees.
pub async fn group_by_number(db: &DatabaseConnection, user: &User, id: i64) -> Result<Seen<group::Model>> {
    seen_group(db, user, &ObjectId::Number(id)).await
}

/// The project that an id or a full path means.
///
/// # Errors
/// [`Error::ProjectNotFound`] if there is none that the caller sees.
pub async fn project(db: &DatabaseConnection, user: &User, id: &str) -> Result<Seen<project::Model>> {
    let id = ObjectId::parse(id).ok_or(Error::ProjectNotFound)?;
    seen_project(db, user, &id).await
}

/// The project with the number.
///
/// # Errors
/// [`Error::ProjectNotFound`] if there is none that the caller sees.
pub async fn project_by_number(db: &DatabaseConnection, user: &User, id: i64) -> Result<Seen<project::Model>> {
    seen_project(db, user, &ObjectId::Number(id)).await
}

async fn seen_group(db: &DatabaseConnection, user: &User, id: &ObjectId) -> Result<Seen<group::Model>> {
    let group = store::groups::find(db, id).await?.ok_or(Error::GroupNotFound)?;
    let role = store::roles::role_in_group(db, user.id, group.id).await?;
    let standing = Standing { admin: user.admin, role };
    if standing.may_see(group.visibility) { Ok(Seen { model: group, standing }) } else { Err(Error::GroupNotFound) }
}

async fn seen_project(db: &DatabaseConnection, user: &User, id: &ObjectId) -> Result<Seen<project::Model>> {
    let project = store::projects::find(db, id).await?.ok_or(Error::ProjectNotFound)?;
    let role = store::roles::role_in_project(db, user.id, &project).await?;
    let standing = Standing { admin: user.admin, role };
    if standing.may_see(project.visibility) {
        Ok(Seen { model: project, standing })
    } else {
        Err(Error::ProjectNotFound)
    }
}

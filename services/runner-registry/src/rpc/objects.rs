//! From the `:id` of a request to the group or project that it means, with the rank and role of the caller. Every
//! handler finds its object here, so that callers cannot tell an invisible object from one that does not exist.

use chassis::access::User;
use sea_orm::DatabaseConnection;

use crate::{
    directory::{paths::ObjectId, permission::Permissions},
    entity::{group, project},
    error::{Error, Result},
    store,
};

/// An object that the caller sees.
#[derive(Debug)]
pub struct VisibleObject<M> {
    /// The object.
    pub model: M,
    /// The rank and role of the caller.
    pub permissions: Permissions,
}

impl<M> VisibleObject<M> {
    /// The object, if the rule holds.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if it does not.
    pub fn check(self, rule: fn(Permissions) -> bool) -> Result<M> {
        if rule(self.permissions) { Ok(self.model) } else { Err(Error::AccessDenied) }
    }

    /// The object that something is created in, if the rule holds.
    ///
    /// # Errors
    /// [`Error::InsufficientPermissions`] if it does not.
    pub fn check_creation(self, rule: fn(Permissions) -> bool) -> Result<M> {
        if rule(self.permissions) { Ok(self.model) } else { Err(Error::InsufficientPermissions) }
    }
}

/// The group that an id or a full path means.
///
/// # Errors
/// [`Error::GroupNotFound`] if there is none that the caller sees.
pub async fn group(db: &DatabaseConnection, user: &User, id: &str) -> Result<VisibleObject<group::Model>> {
    let id = ObjectId::parse(id).ok_or(Error::GroupNotFound)?;
    seen_group(db, user, &id).await
}

/// The group with the number.
///
/// # Errors
/// [`Error::GroupNotFound`] if there is none that the caller sees.
pub async fn group_by_number(db: &DatabaseConnection, user: &User, id: i64) -> Result<VisibleObject<group::Model>> {
    seen_group(db, user, &ObjectId::Number(id)).await
}

/// The project that an id or a full path means.
///
/// # Errors
/// [`Error::ProjectNotFound`] if there is none that the caller sees.
pub async fn project(db: &DatabaseConnection, user: &User, id: &str) -> Result<VisibleObject<project::Model>> {
    let id = ObjectId::parse(id).ok_or(Error::ProjectNotFound)?;
    seen_project(db, user, &id).await
}

/// The project with the number.
///
/// # Errors
/// [`Error::ProjectNotFound`] if there is none that the caller sees.
pub async fn project_by_number(db: &DatabaseConnection, user: &User, id: i64) -> Result<VisibleObject<project::Model>> {
    seen_project(db, user, &ObjectId::Number(id)).await
}

async fn seen_group(db: &DatabaseConnection, user: &User, id: &ObjectId) -> Result<VisibleObject<group::Model>> {
    let group = store::groups::find(db, id).await?.ok_or(Error::GroupNotFound)?;
    let role = store::roles::role_in_group(db, user.id, group.id).await?;
    let permissions = Permissions { admin: user.admin, role };
    if permissions.may_see(group.visibility) {
        Ok(VisibleObject { model: group, permissions })
    } else {
        Err(Error::GroupNotFound)
    }
}

async fn seen_project(db: &DatabaseConnection, user: &User, id: &ObjectId) -> Result<VisibleObject<project::Model>> {
    let project = store::projects::find(db, id).await?.ok_or(Error::ProjectNotFound)?;
    let role = store::roles::role_in_project(db, user.id, &project).await?;
    let permissions = Permissions { admin: user.admin, role };
    if permissions.may_see(project.visibility) {
        Ok(VisibleObject { model: project, permissions })
    } else {
        Err(Error::ProjectNotFound)
    }
}

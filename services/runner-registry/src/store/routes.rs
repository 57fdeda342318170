//! The one table of paths. A path is taken by writing it: of two callers who want the same one at the same moment, the
//! primary key refuses the second.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter as _,
    QuerySelect as _,
    sea_query::{BinOper, Expr, ExprTrait as _, Func, Query, SelectStatement},
};

use crate::{
    directory::paths::{self, ObjectId},
    entity::{group, group_ancestor, project, route},
    error::{Error, Result},
};

/// Who has a path.
#[derive(Clone, Copy, Debug)]
pub enum PathOwner {
    /// The personal namespace of a user.
    User(i64),
    /// A group.
    Group(i64),
    /// A project.
    Project(i64),
}

/// Takes a path. The field is the one that the path came in.
///
/// # Errors
/// A failed validation if it is taken or too long.
pub async fn take(tx: &DatabaseTransaction, full_path: &str, owner: PathOwner, field: &'static str) -> Result<()> {
    check_length(full_path.len(), field)?;
    let (user_id, group_id, project_id) = match owner {
        PathOwner::User(id) => (Some(id), None, None),
        PathOwner::Group(id) => (None, Some(id), None),
        PathOwner::Project(id) => (None, None, Some(id)),
    };
    let row = route::ActiveModel {
        path_key: Set(paths::key(full_path)),
        user_id: Set(user_id),
        group_id: Set(group_id),
        project_id: Set(project_id),
    };
    route::Entity::insert(row).exec_without_returning(tx).await.map_err(|error| path_taken_error(error, field))?;
    Ok(())
}

/// Gives the owner another path, and everything below it. The caller holds the locks that keep new paths from being
/// taken below it in the meantime.
///
/// # Errors
/// A failed validation if the path is taken, or would make one too long.
pub async fn rename(
    tx: &DatabaseTransaction,
    old: &str,
    new: &str,
    owner: PathOwner,
    field: &'static str,
) -> Result<()> {
    let affected = AffectedRows::of(owner);
    let longest = longest_path_length(tx, &affected).await?.max(old.len());
    check_length(longest - old.len() + new.len(), field)?;
    let path_key = with_new_start(old, &paths::key(new), route::Column::PathKey.into_expr());
    route::Entity::update_many()
        .col_expr(route::Column::PathKey, path_key)
        .filter(affected.routes)
        .exec(tx)
        .await
        .map_err(|error| path_taken_error(error, field))?;
    let full_path = with_new_start(old, new, group::Column::FullPath.into_expr());
    group::Entity::update_many().col_expr(group::Column::FullPath, full_path).filter(affected.groups).exec(tx).await?;
    let full_path = with_new_start(old, new, project::Column::FullPath.into_expr());
    project::Entity::update_many()
        .col_expr(project::Column::FullPath, full_path)
        .filter(affected.projects)
        .exec(tx)
        .await?;
    Ok(())
}

/// The path in the column with `new` in place of its start `old`.
fn with_new_start(old: &str, new: &str, column: Expr) -> Expr {
    // Both databases count characters from 1; paths are ASCII.
    let rest = i32::try_from(old.len() + 1).unwrap_or(i32::MAX);
    Expr::val(new).binary(BinOper::Custom("||"), Func::cust("substr").arg(column).arg(rest))
}

/// The rows whose path is that of the owner, or starts with it.
struct AffectedRows {
    routes: Condition,
    groups: Expr,
    projects: Expr,
}

impl AffectedRows {
    fn of(owner: PathOwner) -> Self {
        let (groups, projects, own_routes) = match owner {
            PathOwner::User(id) => (no_row(), project::Column::OwnerId.eq(id), route::Column::UserId.eq(id)),
            PathOwner::Project(id) => (no_row(), project::Column::Id.eq(id), route::Column::ProjectId.eq(id)),
            PathOwner::Group(id) => (
                group::Column::Id.in_subquery(descendants(id)),
                project::Column::GroupId.in_subquery(descendants(id)),
                route::Column::GroupId.in_subquery(descendants(id)),
            ),
        };
        let project_ids =
            Query::select().column(project::Column::Id).from(project::Entity).and_where(projects.clone()).to_owned();
        let routes = Condition::any().add(own_routes).add(route::Column::ProjectId.in_subquery(project_ids));
        Self { routes, groups, projects }
    }
}

fn no_row() -> Expr {
    Expr::val(1).eq(0)
}

/// The row with an id or a full path. `held_by` is the column of routes that refers to rows of this kind.
pub async fn find<E: EntityTrait>(
    db: &impl ConnectionTrait,
    id: &ObjectId,
    id_column: E::Column,
    held_by: route::Column,
) -> Result<Option<E::Model>> {
    let is_wanted = match id {
        ObjectId::Number(number) => id_column.eq(*number),
        ObjectId::Path(path_key) => {
            let held = Query::select()
                .column(held_by)
                .from(route::Entity)
                .and_where(route::Column::PathKey.eq(path_key))
                .to_owned();
            id_column.in_subquery(held)
        }
    };
    Ok(E::find().filter(is_wanted).one(db).await?)
}

/// The ids of a group and of all groups below it.
pub fn descendants(group_id: i64) -> SelectStatement {
    Query::select()
        .column(group_ancestor::Column::GroupId)
        .from(group_ancestor::Entity)
        .and_where(group_ancestor::Column::AncestorId.eq(group_id))
        .to_owned()
}

/// Returns the length of the longest affected path.
async fn longest_path_length(tx: &DatabaseTransaction, affected: &AffectedRows) -> Result<usize> {
    let longest = Expr::from(Func::max(Func::cust("length").arg(Expr::col(route::Column::PathKey))));
    let query = route::Entity::find().filter(affected.routes.clone()).select_only().expr_as(longest, "length");
    let length: Option<Option<i32>> = query.into_tuple().one(tx).await?;
    Ok(length.flatten().and_then(|length| usize::try_from(length).ok()).unwrap_or(0))
}

/// Checks the length of a full path for the field that it came in.
///
/// # Errors
/// A failed validation.
pub fn check_length(length: usize, field: &'static str) -> Result<()> {
    paths::check_length(length).map_err(|text| Error::invalid(field, text))
}

fn path_taken_error(error: DbErr, field: &'static str) -> Error {
    Error::on_unique(error, Error::invalid(field, "has already been taken"))
}

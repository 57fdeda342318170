//! The one table of paths. A path is taken by writing it: two callers who want the same one at the same moment meet at
//! its primary key, and one of them is told that it is taken.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter as _, QuerySelect as _,
    sea_query::{BinOper, Expr, ExprTrait as _, Func, Query, SelectStatement},
};

use crate::{
    directory::paths,
    entity::{group, group_ancestor, project, route},
    error::{Error, Result},
};

/// Who has a path.
#[derive(Clone, Copy, Debug)]
pub enum Holder {
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
pub async fn take(tx: &DatabaseTransaction, full_path: &str, holder: Holder, field: &'static str) -> Result<()> {
    check_length(full_path.len(), field)?;
    let (user_id, group_id, project_id) = match holder {
        Holder::User(id) => (Some(id), None, None),
        Holder::Group(id) => (None, Some(id), None),
        Holder::Project(id) => (None, None, Some(id)),
    };
    let row = route::ActiveModel {
        path_key: Set(paths::key(full_path)),
        user_id: Set(user_id),
        group_id: Set(group_id),
        project_id: Set(project_id),
    };
    route::Entity::insert(row).exec_without_returning(tx).await.map_err(|error| taken(error, field))?;
    Ok(())
}

/// Gives the holder another path, and everything below it. The caller has locked whatever could get a path below it in
/// the meantime.
///
/// # Errors
/// A failed validation if the path is taken, or would make one too long.
pub async fn rename(tx: &DatabaseTransaction, old: &str, new: &str, holder: Holder, field: &'static str) -> Result<()> {
    let below = Below::of(holder);
    let longest = longest(tx, &below).await?.max(old.len());
    check_length(longest - old.len() + new.len(), field)?;
    let moved = |new: &str, column: Expr| {
        // Both databases count characters from 1; paths are ASCII.
        let rest = i32::try_from(old.len() + 1).unwrap_or(i32::MAX);
        Expr::val(new).binary(BinOper::Custom("||"), Func::cust("substr").arg(column).arg(rest))
    };
    let key = moved(&paths::key(new), route::Column::PathKey.into_expr());
    route::Entity::update_many()
        .col_expr(route::Column::PathKey, key)
        .filter(below.routes)
        .exec(tx)
        .await
        .map_err(|error| taken(error, field))?;
    let full_path = moved(new, group::Column::FullPath.into_expr());
    group::Entity::update_many().col_expr(group::Column::FullPath, full_path).filter(below.groups).exec(tx).await?;
    let full_path = moved(new, project::Column::FullPath.into_expr());
    project::Entity::update_many()
        .col_expr(project::Column::FullPath, full_path)
        .filter(below.projects)
        .exec(tx)
        .await?;
    Ok(())
}

/// The rows that carry the path of a holder, at the start of their own or as their own.
struct Below {
    routes: Condition,
    groups: Condition,
    projects: Condition,
}

impl Below {
    fn of(holder: Holder) -> Self {
        let none = || Condition::any().add(Expr::val(1).eq(0));
        let (groups, projects, itself) = match holder {
            Holder::User(id) => {
                (none(), Condition::all().add(project::Column::OwnerId.eq(id)), route::Column::UserId.eq(id))
            }
            Holder::Project(id) => {
                (none(), Condition::all().add(project::Column::Id.eq(id)), route::Column::ProjectId.eq(id))
            }
            Holder::Group(id) => (
                Condition::all().add(group::Column::Id.in_subquery(descendants(id))),
                Condition::all().add(project::Column::GroupId.in_subquery(descendants(id))),
                route::Column::GroupId.in_subquery(descendants(id)),
            ),
        };
        let project_ids =
            Query::select().column(project::Column::Id).from(project::Entity).cond_where(projects.clone()).to_owned();
        let routes = Condition::any().add(itself).add(route::Column::ProjectId.in_subquery(project_ids));
        Self { routes, groups, projects }
    }
}

/// The id in this column of the route with the path, for use in a query.
pub fn held(column: route::Column, path_key: &str) -> SelectStatement {
    Query::select().column(column).from(route::Entity).and_where(route::Column::PathKey.eq(path_key)).to_owned()
}

/// The ids of a group and of all groups below it.
pub fn descendants(group_id: i64) -> SelectStatement {
    Query::select()
        .column(group_ancestor::Column::GroupId)
        .from(group_ancestor::Entity)
        .and_where(group_ancestor::Column::AncestorId.eq(group_id))
        .to_owned()
}

async fn longest(tx: &DatabaseTransaction, below: &Below) -> Result<usize> {
    let length = || Expr::from(Func::max(Func::cust("length").arg(Expr::col(route::Column::PathKey))));
    let query = route::Entity::find().filter(below.routes.clone()).select_only().expr_as(length(), "length");
    let length: Option<Option<i32>> = query.into_tuple().one(tx).await?;
    Ok(length.flatten().and_then(|length| usize::try_from(length).ok()).unwrap_or(0))
}

fn check_length(length: usize, field: &'static str) -> Result<()> {
    paths::check_length(length).map_err(|text| Error::invalid(field, text))
}

fn taken(error: DbErr, field: &'static str) -> Error {
    Error::on_unique(error, Error::invalid(field, "has already been taken"))
}

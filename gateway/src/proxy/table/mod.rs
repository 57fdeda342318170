//! The table of protected routes: what job tokens reach behind the gateway, and what each route promises. It is read
//! from TOML at start. A table with a mistake keeps the gateway from starting.

mod file;
pub mod route;

use std::sync::Arc;

use http::Method;

use self::{file::File, route::ProtectedRoute};
use super::{
    path as strict_path,
    upstream::{MAX_IDLE, Upstream, UpstreamSettings},
};
use crate::{
    guard::GuardedRoute,
    path::{self, Malformed},
    rest::routes::Routes,
    routing::{DuplicateRoute, Lookup, RouteMatch, VerbRouter},
};

/// The table that is shipped.
const SHIPPED: &str = include_str!("../../../protected_routes.default.toml");

/// Why the table cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{table}: {problem}")]
pub struct TableError {
    table: String,
    problem: String,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    router: VerbRouter<Arc<ProtectedRoute>>,
    count: usize,
    left_out: usize,
    upstreams: Vec<Arc<Upstream>>,
}

impl Table {
    /// Reads the table, or the shipped one if `file` is empty. `upstream` is the address of the default upstream.
    /// Without it, the routes that lead there are left out. `settings` apply to every upstream as far as the table does
    /// not change them.
    ///
    /// # Errors
    /// Names the line or the route with the mistake.
    pub fn load(
        file: &str,
        upstream: &str,
        settings: &UpstreamSettings,
        contract: &Routes,
    ) -> Result<Self, TableError> {
        let read = if file.is_empty() {
            Ok(SHIPPED.to_owned())
        } else {
            std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))
        };
        let table = read.and_then(|text| Self::parse(&text, upstream, settings, contract));
        table.map_err(|problem| {
            let table = if file.is_empty() { "the shipped table of protected routes" } else { file };
            TableError { table: table.to_owned(), problem }
        })
    }

    fn parse(text: &str, default_url: &str, settings: &UpstreamSettings, contract: &Routes) -> Result<Self, String> {
        let mut file = File::parse(text)?;
        let upstreams = file.upstreams(default_url, settings)?;
        let mut router = VerbRouter::builder();
        let mut count = 0;
        let mut left_out = 0;
        for entry in file.routes {
            let line = 1 + text[..entry.span().start].matches('\n').count();
            let entry = entry.into_inner();
            let position = format!("line {line}: {} {}", entry.method, entry.path);
            let built = entry.build(GuardedRoute::protected(count), &upstreams, contract);
            let (template, route) = built.map_err(|problem| format!("{position}: {problem}"))?;
            let Some(route) = route else {
                left_out += 1;
                continue;
            };
            count += 1;
            let added = router.add(&template, route.verb.clone(), Arc::new(route));
            added.map_err(|DuplicateRoute| format!("{position}: the route stands in the table twice"))?;
        }
        let upstreams = upstreams.into_values().flatten().collect();
        Ok(Self { router: router.build()?, count, left_out, upstreams })
    }

    /// Returns the number of routes.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns the number of routes that are left out because the default upstream has no address.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Lowers the limits of the upstreams so that all together need at most this many open files, if that is possible.
    /// Returns how many they can need.
    pub fn limit_files(&self, files: usize) -> usize {
        let idle = self.upstreams.len() * MAX_IDLE;
        let available = files.saturating_sub(idle);
        let configured = self.connection_limit();
        if available < configured {
            tracing::warn!(
                most = available,
                wished = configured,
                "fewer connections to upstreams than wished: raise the limit of open files"
            );
            for upstream in &self.upstreams {
                upstream.slots().lower_limit(upstream.slots().limit() * available / configured);
            }
        }
        self.connection_limit() + idle
    }

    /// Returns the number of connections that all upstreams together may have in use.
    fn connection_limit(&self) -> usize {
        self.upstreams.iter().map(|upstream| upstream.slots().limit()).sum()
    }

    /// Finds the route of a verb and a raw path, and the projects that the path names.
    pub fn find(&self, verb: &Method, raw_path: &str) -> Lookup<(Arc<ProtectedRoute>, Vec<String>)> {
        self.router.find(verb, raw_path).try_map(|found| with_projects(&found, raw_path))
    }
}

/// Reads the projects in a path, under rules that leave no upstream another way to read it.
fn with_projects(
    found: &RouteMatch<'_, '_, Arc<ProtectedRoute>>,
    raw_path: &str,
) -> Result<(Arc<ProtectedRoute>, Vec<String>), Malformed> {
    strict_path::check(raw_path)?;
    let mut projects = Vec::with_capacity(found.route.projects.len());
    for index in &found.route.projects {
        let raw = found.values().nth(*index).ok_or(Malformed)?;
        let project = path::decode(raw)?;
        if !strict_path::is_project(&project) {
            return Err(Malformed);
        }
        projects.push(project.into_owned());
    }
    Ok((found.route.clone(), projects))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

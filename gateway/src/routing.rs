//! Routing by path and verb, for both kinds of routes: those of the contract and the protected ones. It reads path
//! templates, finds what serves a request, and answers which verbs a path has.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderValue, Method};

use crate::path::{self, Malformed};

/// The names under which logs, metrics and captures know a route.
#[derive(Debug)]
pub struct RouteLabel {
    /// The path template, as the route declares it.
    pub template: Arc<str>,
    /// Verb and template.
    pub caller_id: String,
}

/// A path template with its variables.
#[derive(Debug)]
pub struct PathTemplate {
    /// The template as it was written.
    pub text: String,
    /// The template with numbers for the names of its variables: `/a/{v0}`. Templates that match the same paths share
    /// it.
    pub shape: String,
    /// The names of the variables, in order.
    pub variables: Vec<String>,
    /// A path that the template matches.
    pub sample: String,
    /// Whether the last variable takes the rest of the path.
    pub has_tail: bool,
}

/// The result of a look-up.
#[derive(Debug)]
pub enum Lookup<T> {
    /// The route.
    Found(T),
    /// The request asks which verbs the path has.
    Options(HeaderValue),
    /// The path has only other verbs.
    NotAllowed(HeaderValue),
    /// There is no such path.
    NotFound,
    /// The path cannot be read.
    Malformed,
}

/// A route that matches, with the raw values of its variables.
#[derive(Debug)]
pub struct RouteMatch<'r, 'p, T> {
    /// The route.
    pub route: &'r T,
    values: matchit::Params<'r, 'p>,
}

/// Finds a route by verb and path.
#[derive(Debug)]
pub struct VerbRouter<T> {
    paths: matchit::Router<VerbRoutes<T>>,
}

/// Collects the routes of a router.
#[derive(Debug)]
pub struct VerbRouterBuilder<T> {
    by_shape: BTreeMap<String, PathRoutes<T>>,
}

/// The routes of one path while they are collected.
#[derive(Debug)]
struct PathRoutes<T> {
    /// The template of the first one.
    template: String,
    routes: Vec<(Method, T)>,
}

/// The error for a second route with the same path and verb.
#[derive(Debug)]
pub struct DuplicateRoute;

/// The routes of one path.
#[derive(Debug)]
struct VerbRoutes<T> {
    routes: Vec<(Method, T)>,
    allow: HeaderValue,
}

impl RouteLabel {
    /// Returns the label of a route with this verb and template.
    pub fn new(verb: &str, template: &str) -> Self {
        Self { template: template.into(), caller_id: format!("{verb} {template}") }
    }
}

impl PathTemplate {
    /// Reads a template. A segment is text, a variable `{name}`, or at the end a variable `{*name}` that takes the rest
    /// of the path.
    ///
    /// # Errors
    /// Names the segment that is none of these, or repeats a variable.
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut parsed = Self {
            text: template.to_owned(),
            shape: String::new(),
            variables: Vec::new(),
            sample: String::new(),
            has_tail: false,
        };
        let segments = template.strip_prefix('/').ok_or("path must start with a slash")?;
        for segment in segments.split('/') {
            if parsed.has_tail {
                return Err("path: a tail {*name} must be the last segment".to_owned());
            }
            let variable = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let is_valid = match variable {
                Some(name) => parsed.push_variable(name),
                None => parsed.push_text(segment),
            };
            if !is_valid {
                return Err(format!("path: {segment:?} is neither a text nor {{name}} nor {{*name}}"));
            }
        }
        Ok(parsed)
    }

    fn push_text(&mut self, segment: &str) -> bool {
        if segment.is_empty() || segment == "." || segment == ".." || !segment.bytes().all(is_plain) {
            return false;
        }
        for text in [&mut self.shape, &mut self.sample] {
            text.push('/');
            text.push_str(segment);
        }
        true
    }

    fn push_variable(&mut self, name: &str) -> bool {
        let (star, name) = match name.strip_prefix('*') {
            Some(name) => ("*", name),
            None => ("", name),
        };
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || self.variables.iter().any(|known| known == name) {
            return false;
        }
        self.shape.push_str(&format!("/{{{star}v{}}}", self.variables.len()));
        self.sample.push_str("/0");
        self.variables.push(name.to_owned());
        self.has_tail = !star.is_empty();
        true
    }
}

/// Reports whether a byte is allowed in the text of a template.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte)
}

impl<T> Lookup<T> {
    /// Converts the route that was found.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Lookup<U> {
        self.try_map(|found| Ok(convert(found)))
    }

    /// Converts the route that was found. A route that cannot be converted makes the path a malformed one.
    pub fn try_map<U>(self, convert: impl FnOnce(T) -> Result<U, Malformed>) -> Lookup<U> {
        match self {
            Self::Found(found) => convert(found).map_or(Lookup::Malformed, Lookup::Found),
            Self::Options(verbs) => Lookup::Options(verbs),
            Self::NotAllowed(verbs) => Lookup::NotAllowed(verbs),
            Self::NotFound => Lookup::NotFound,
            Self::Malformed => Lookup::Malformed,
        }
    }
}

impl<T> RouteMatch<'_, '_, T> {
    /// Returns the raw values of the variables, in order.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(_, value)| value)
    }
}

impl<T> VerbRouter<T> {
    /// Starts an empty router.
    pub fn builder() -> VerbRouterBuilder<T> {
        VerbRouterBuilder { by_shape: BTreeMap::new() }
    }

    /// Finds the route of a verb and a raw path. A path without its own HEAD route serves HEAD as GET.
    pub fn find<'r, 'p>(&'r self, verb: &Method, raw_path: &'p str) -> Lookup<RouteMatch<'r, 'p, T>> {
        let Ok(path) = path::check(raw_path) else { return Lookup::Malformed };
        let Ok(matched) = self.paths.at(path) else { return Lookup::NotFound };
        let verbs = matched.value;
        if verb == Method::OPTIONS {
            return Lookup::Options(verbs.allow.clone());
        }
        let mut route = verbs.route_for_verb(verb);
        if route.is_none() && verb == Method::HEAD {
            route = verbs.route_for_verb(&Method::GET);
        }
        match route {
            Some(route) => Lookup::Found(RouteMatch { route, values: matched.params }),
            None => Lookup::NotAllowed(verbs.allow.clone()),
        }
    }
}

impl<T> VerbRoutes<T> {
    fn route_for_verb(&self, verb: &Method) -> Option<&T> {
        self.routes.iter().find(|(known, _)| known == verb).map(|(_, route)| route)
    }
}

impl<T> VerbRouterBuilder<T> {
    /// Adds a route.
    ///
    /// # Errors
    /// Fails if the path has a route with this verb already.
    pub fn add(&mut self, template: &PathTemplate, verb: Method, route: T) -> Result<(), DuplicateRoute> {
        let path = self.by_shape.entry(template.shape.clone());
        let path = path.or_insert_with(|| PathRoutes { template: template.text.clone(), routes: Vec::new() });
        if path.routes.iter().any(|(known, _)| *known == verb) {
            return Err(DuplicateRoute);
        }
        path.routes.push((verb, route));
        Ok(())
    }

    /// Builds the router.
    ///
    /// # Errors
    /// Names the path that matches the same requests as another one.
    pub fn build(self) -> Result<VerbRouter<T>, String> {
        let mut paths = matchit::Router::new();
        for (shape, PathRoutes { template, routes }) in self.by_shape {
            let allow = allow_header(&routes)?;
            let inserted = paths.insert(shape, VerbRoutes { routes, allow });
            inserted.map_err(|error| format!("{template}: {error}"))?;
        }
        Ok(VerbRouter { paths })
    }
}

/// Returns the value of the `Allow` header: the verbs of the path in alphabetical order, then those that every path
/// has.
fn allow_header<T>(routes: &[(Method, T)]) -> Result<HeaderValue, String> {
    let mut verbs: Vec<_> = routes.iter().map(|(verb, _)| verb.as_str()).collect();
    verbs.sort_unstable();
    if verbs.contains(&"GET") && !verbs.contains(&"HEAD") {
        verbs.push("HEAD");
    }
    verbs.push("OPTIONS");
    HeaderValue::try_from(verbs.join(", ")).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn router(routes: &[(&str, &str)]) -> Result<VerbRouter<String>, String> {
        let mut builder = VerbRouter::builder();
        for (verb, template) in routes {
            let route = format!("{verb} {template}");
            builder
                .add(&PathTemplate::parse(template)?, verb.parse().unwrap(), route)
                .map_err(|DuplicateRoute| "duplicate".to_owned())?;
        }
        builder.build()
    }

    fn find(router: &VerbRouter<String>, verb: &str, path: &str) -> String {
        match router.find(&verb.parse().unwrap(), path) {
            Lookup::Found(found) => format!("{} {:?}", found.route, found.values().collect::<Vec<_>>()),
            Lookup::Options(verbs) => format!("options {}", verbs.to_str().unwrap()),
            Lookup::NotAllowed(verbs) => format!("allow {}", verbs.to_str().unwrap()),
            Lookup::NotFound => "not found".to_owned(),
            Lookup::Malformed => "malformed".to_owned(),
        }
    }

    #[test]
    fn a_template_has_text_variables_and_at_its_end_a_tail() {
        let template = PathTemplate::parse("/a/{id}/b@1.x/{*rest}").unwrap();
        assert_eq!(template.shape, "/a/{v0}/b@1.x/{*v1}");
        assert_eq!(template.variables, ["id", "rest"]);
        assert_eq!(template.sample, "/a/0/b@1.x/0");
        assert!(template.has_tail);
        for text in
            ["a", "/a/{id=x/*}", "/a/{id}.csv", "/a:verb", "/a//b", "/**", "/a/{a.b}", "/{a}/{a}", "/{*a}/b", "/.."]
        {
            assert!(PathTemplate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn verbs_and_paths_lead_to_their_routes() {
        let router = router(&[("GET", "/a/{id}"), ("DELETE", "/a/{key}"), ("HEAD", "/b"), ("GET", "/b")]).unwrap();
        for (verb, path, expected) in [
            ("GET", "/a/x%2Fy/", "GET /a/{id} [\"x%2Fy\"]"),
            ("HEAD", "/a/1", "GET /a/{id} [\"1\"]"),
            ("HEAD", "/b", "HEAD /b []"),
            ("DELETE", "/a/1", "DELETE /a/{key} [\"1\"]"),
            ("PUT", "/a/1", "allow DELETE, GET, HEAD, OPTIONS"),
            ("OPTIONS", "/b", "options GET, HEAD, OPTIONS"),
            ("GET", "/c", "not found"),
            ("GET", "/a/..", "malformed"),
        ] {
            assert_eq!(find(&router, verb, path), expected, "{verb} {path}");
        }
    }

    #[test]
    fn routes_that_match_the_same_requests_are_refused() {
        assert_eq!(router(&[("GET", "/a/{id}"), ("GET", "/a/{key}")]).unwrap_err(), "duplicate");
        assert!(router(&[("GET", "/a/{id}"), ("GET", "/a/{*rest}")]).unwrap_err().contains("conflict"));
    }
}

//! The table of protected routes: what job tokens reach behind the gateway, and what each route promises. It is read
//! from TOML at start, and whatever in it makes no sense keeps the gateway from starting.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use proto::paddock::job_token::v1::{CaptureMode, JobTokenPolicy};
use serde::Deserialize;
use toml::Spanned;

use super::upstream::{MAX_IDLE, MOST_CONNECTIONS, Protocol, Terms, Upstream};
use crate::credentials::CredentialPlan;
use crate::path as paths;
use crate::routes::{Endpoint, Lookup, Routes};

use super::path;

/// The table that is shipped.
const SHIPPED: &str = include_str!("../../protected_routes.default.toml");

/// The upstream that takes its address from `gateway.upstream`.
const DEFAULT_UPSTREAM: &str = "default";

/// The verbs that a route can have. Others have a meaning to proxies themselves, or none.
const VERBS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Why the table cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{table}: {problem}")]
pub struct TableError {
    table: String,
    problem: String,
}

/// Everything that is known of a protected route before a request comes.
#[derive(Debug)]
pub struct ProtectedRoute {
    /// The verb.
    pub verb: Method,
    /// The path template.
    pub template: Arc<str>,
    /// Verb and template, as logs and captures name the route.
    pub caller_id: String,
    /// The variables of the template that name projects, by their places.
    pub projects: Vec<usize>,
    /// The policies that it requires.
    pub policies: Vec<JobTokenPolicy>,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// What it promises about the record of an access.
    pub mode: CaptureMode,
    /// Where the job token may stand.
    pub credential: CredentialPlan,
    /// Whether the upstream sees the credentials of the client.
    pub forwards_credential: bool,
    /// Whether the job token may stand in a form.
    pub forms: bool,
    /// Whether the upstream sees the cookies of the client.
    pub cookies: bool,
    /// The protocol that the client may change to, as the Upgrade header names it.
    pub upgrade: Option<String>,
}

impl ProtectedRoute {
    /// Whether it takes nothing but policies to read. A route without policies is for entries that grant everything.
    pub fn only_reads(&self) -> bool {
        let reads = |policy: &JobTokenPolicy| policy.as_str_name().starts_with("JOB_TOKEN_POLICY_READ_");
        !self.policies.is_empty() && self.policies.iter().all(reads)
    }

    /// Whether a body is what it is for.
    pub fn writes(&self) -> bool {
        [Method::POST, Method::PUT, Method::PATCH].contains(&self.verb) && !self.only_reads()
    }
}

/// The table.
#[derive(Debug)]
pub struct Table {
    paths: matchit::Router<PathEntry>,
    count: usize,
    left_out: usize,
    upstreams: Vec<Arc<Upstream>>,
}

#[derive(Debug)]
struct PathEntry {
    routes: Vec<Arc<ProtectedRoute>>,
    allow: HeaderValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    upstreams: BTreeMap<String, UpstreamEntry>,
    #[serde(default)]
    routes: Vec<Spanned<RouteEntry>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpstreamEntry {
    url: String,
    protocol: Protocol,
    max_connections: Option<usize>,
    ca_file: String,
    strip_headers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteEntry {
    method: String,
    path: String,
    projects: Vec<String>,
    policies: Vec<String>,
    #[serde(default = "default_upstream")]
    upstream: String,
    #[serde(default)]
    capture: Capture,
    #[serde(default)]
    credential: Credential,
    #[serde(default)]
    basic: bool,
    #[serde(default)]
    forms: bool,
    #[serde(default)]
    cookies: bool,
    upgrade: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Capture {
    #[default]
    Strict,
    Spool,
    BestEffort,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Credential {
    #[default]
    Strip,
    Forward,
}

fn default_upstream() -> String {
    DEFAULT_UPSTREAM.to_owned()
}

impl Table {
    /// Reads the table: the shipped one if `file` is empty. `upstream` is the address of the default upstream; without it,
    /// the routes that lead there are left out. `terms` hold for every upstream of which the table says nothing else.
    ///
    /// # Errors
    /// With the line or the route that makes no sense.
    pub fn load(file: &str, upstream: &str, terms: &Terms, contract: &Routes) -> Result<Self, TableError> {
        let fail = |problem: String| {
            let table = if file.is_empty() { "the shipped table of protected routes" } else { file };
            TableError { table: table.to_owned(), problem }
        };
        let text = if file.is_empty() {
            SHIPPED.to_owned()
        } else {
            std::fs::read_to_string(file).map_err(|error| fail(format!("cannot be read: {error}")))?
        };
        Self::parse(&text, upstream, terms, contract).map_err(fail)
    }

    fn parse(text: &str, default_url: &str, terms: &Terms, contract: &Routes) -> Result<Self, String> {
        let mut file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        file.upstreams.entry(default_upstream()).or_default();
        let upstreams = upstreams(file.upstreams, default_url, terms)?;
        let mut shapes: BTreeMap<String, Vec<Arc<ProtectedRoute>>> = BTreeMap::new();
        let mut left_out = 0;
        for entry in file.routes {
            let line = 1 + text[..entry.span().start].matches('\n').count();
            let entry = entry.into_inner();
            let place = format!("line {line}: {} {}", entry.method, entry.path);
            let refuse = |problem: String| format!("{place}: {problem}");
            let (shape, route) = route(entry, &upstreams, contract).map_err(refuse)?;
            let Some(route) = route else {
                left_out += 1;
                continue;
            };
            let routes = shapes.entry(shape).or_default();
            if routes.iter().any(|known| known.verb == route.verb) {
                return Err(refuse("the route stands in the table twice".to_owned()));
            }
            routes.push(Arc::new(route));
        }
        let mut table = Self {
            paths: matchit::Router::new(),
            count: shapes.values().map(Vec::len).sum(),
            left_out,
            upstreams: upstreams.into_values().flatten().collect(),
        };
        for (shape, routes) in shapes {
            let place = routes.first().map(|route| route.caller_id.clone()).unwrap_or_default();
            let entry = PathEntry { allow: allow(&routes), routes };
            table.paths.insert(shape, entry).map_err(|error| format!("{place}: {error}"))?;
        }
        Ok(table)
    }

    /// How many routes it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// How many routes are left out because the default upstream has no address.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Lets all upstreams together need no more than so many open files, if there are that many, and tells how many they can
    /// need.
    pub fn limit_files(&self, most: usize) -> usize {
        let limits = || self.upstreams.iter().map(|upstream| upstream.limit()).sum::<usize>();
        let (idle, wished) = (self.upstreams.len() * MAX_IDLE, limits());
        let most = most.saturating_sub(idle);
        if most < wished {
            tracing::warn!(most, wished, "fewer connections to upstreams than wished: raise the limit of open files");
            self.upstreams.iter().for_each(|upstream| upstream.lower_limit(upstream.limit() * most / wished));
        }
        limits() + idle
    }

    /// Finds the route of a verb and a raw path, and the projects that it names. HEAD is served as GET.
    pub fn find(&self, verb: &Method, raw_path: &str) -> Lookup {
        let Ok(checked) = paths::check(raw_path) else { return Lookup::Malformed };
        let Ok(matched) = self.paths.at(checked) else { return Lookup::NotFound };
        let entry = matched.value;
        if verb == Method::OPTIONS {
            return Lookup::Options(entry.allow.clone());
        }
        let of = |wanted: &Method| entry.routes.iter().find(|route| route.verb == *wanted);
        let get = || if verb == Method::HEAD { of(&Method::GET) } else { None };
        let Some(route) = of(verb).or_else(get) else { return Lookup::NotAllowed(entry.allow.clone()) };
        if path::check(raw_path).is_err() {
            return Lookup::Malformed;
        }
        let values: Vec<_> = matched.params.iter().map(|(_, raw)| raw).collect();
        let decoded = route.projects.iter().map(|place| paths::decode(values.get(*place)?).ok());
        let projects = decoded.map(|project| project.map(String::from).filter(|project| path::is_project(project)));
        match projects.collect() {
            Some(projects) => Lookup::Found(Endpoint::Protected(route.clone()), projects),
            None => Lookup::Malformed,
        }
    }
}

fn upstreams(
    entries: BTreeMap<String, UpstreamEntry>,
    default_url: &str,
    terms: &Terms,
) -> Result<BTreeMap<String, Option<Arc<Upstream>>>, String> {
    let mut upstreams = BTreeMap::new();
    for (name, entry) in entries {
        let is_default = name == DEFAULT_UPSTREAM;
        let url = if is_default && entry.url.is_empty() { default_url } else { &entry.url };
        let upstream = if is_default && url.is_empty() {
            None
        } else {
            let place = |problem: String| format!("upstreams.{name}: {problem}");
            let max_connections = entry.max_connections.unwrap_or(terms.max_connections);
            if !(1..=MOST_CONNECTIONS).contains(&max_connections) {
                return Err(place(format!("max_connections must be between 1 and {MOST_CONNECTIONS}")));
            }
            let header = |name: &String| {
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| place(format!("strip_headers: {name:?} is no header")))
            };
            let strip_headers = entry.strip_headers.iter().map(header).collect::<Result<_, _>>()?;
            let (protocol, ca_file) = (entry.protocol, entry.ca_file);
            let terms = Terms { protocol, max_connections, ca_file, strip_headers, ..terms.clone() };
            Some(Arc::new(Upstream::new(&name, url, &terms).map_err(place)?))
        };
        upstreams.insert(name, upstream);
    }
    Ok(upstreams)
}

/// The form of the route's path that routes with other names for their variables share, and the route; none if its
/// upstream has no address.
fn route(
    entry: RouteEntry,
    upstreams: &BTreeMap<String, Option<Arc<Upstream>>>,
    contract: &Routes,
) -> Result<(String, Option<ProtectedRoute>), String> {
    let verb = VERBS.into_iter().find(|verb| verb.as_str() == entry.method);
    let verb = verb.ok_or("method must be GET, HEAD, POST, PUT, PATCH or DELETE")?;
    let Template { shape, names, sample, has_tail } = Template::parse(&entry.path)?;
    if let Lookup::Found(..) = contract.find(&verb, &sample) {
        return Err("the gateway serves this route itself".to_owned());
    }
    let place = |name: &String| {
        names.iter().position(|known| known == name).ok_or_else(|| format!("projects: the path has no {{{name}}}"))
    };
    let projects = entry.projects.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    if projects.is_empty() {
        return Err("projects must name at least one variable of the path".to_owned());
    }
    if has_tail && projects.contains(&(names.len() - 1)) {
        return Err("projects: a project is one segment, not a tail".to_owned());
    }
    let policies = entry.policies.iter().map(|name| policy(name)).collect::<Result<Vec<_>, _>>()?;
    let upstream = upstreams.get(&entry.upstream).ok_or_else(|| format!("no upstream is called {}", entry.upstream))?;
    let is_token =
        |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if entry.upgrade.as_ref().is_some_and(|protocol| !is_token(protocol)) {
        return Err("upgrade must be the name of one protocol, for example websocket".to_owned());
    }
    let credential = CredentialPlan::protected(entry.basic).map_err(|error| error.to_string())?;
    let route = upstream.clone().map(|upstream| ProtectedRoute {
        caller_id: format!("{verb} {}", entry.path),
        template: entry.path.into(),
        verb,
        projects,
        policies,
        upstream,
        mode: match entry.capture {
            Capture::Strict => CaptureMode::Strict,
            Capture::Spool => CaptureMode::Spool,
            Capture::BestEffort => CaptureMode::BestEffort,
        },
        credential,
        forwards_credential: entry.credential == Credential::Forward,
        forms: entry.forms,
        cookies: entry.cookies,
        upgrade: entry.upgrade,
    });
    if entry.forms && !route.as_ref().is_none_or(ProtectedRoute::writes) {
        return Err(
            "forms: only a route with POST, PUT or PATCH that requires more than reading takes forms".to_owned()
        );
    }
    Ok((shape, route))
}

/// The policy of this name in REST: `read_jobs`.
fn policy(name: &str) -> Result<JobTokenPolicy, String> {
    let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    let policy = JobTokenPolicy::from_str_name(&format!("JOB_TOKEN_POLICY_{}", name.to_ascii_uppercase()));
    let policy = policy.filter(|policy| is_lower && *policy != JobTokenPolicy::Unspecified);
    policy.ok_or_else(|| format!("no policy is called {name}"))
}

fn allow(routes: &[Arc<ProtectedRoute>]) -> HeaderValue {
    let mut names: Vec<_> = routes.iter().map(|route| route.verb.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.sort_unstable();
    names.dedup();
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// A path template, taken apart.
struct Template {
    /// With numbers for the names of its variables.
    shape: String,
    /// The names of its variables.
    names: Vec<String>,
    /// Some path that it matches.
    sample: String,
    has_tail: bool,
}

impl Template {
    fn parse(template: &str) -> Result<Self, String> {
        let mut parsed = Self { shape: String::new(), names: Vec::new(), sample: String::new(), has_tail: false };
        let segments = template.strip_prefix('/').ok_or("path must start with a slash")?;
        for segment in segments.split('/') {
            if parsed.has_tail {
                return Err("path: a tail {*name} must be the last segment".to_owned());
            }
            parsed
                .push(segment)
                .ok_or_else(|| format!("path: {segment:?} is neither a text nor {{name}} nor {{*name}}"))?;
        }
        Ok(parsed)
    }

    fn push(&mut self, segment: &str) -> Option<()> {
        let variable = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let (star, name) = match variable {
            Some(name) => (if name.starts_with('*') { "*" } else { "" }, name.trim_start_matches('*')),
            None => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte);
                let is_dots = matches!(segment, "." | "..");
                (!segment.is_empty() && !is_dots && segment.bytes().all(is_plain)).then_some(())?;
                self.shape.push('/');
                self.shape.push_str(segment);
                self.sample.push('/');
                self.sample.push_str(segment);
                return Some(());
            }
        };
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (is_name && !self.names.iter().any(|known| known == name)).then_some(())?;
        self.shape.push_str(&format!("/{{{star}v{}}}", self.names.len()));
        self.sample.push_str("/0");
        self.names.push(name.to_owned());
        self.has_tail = !star.is_empty();
        Some(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "table/tests.rs"]
mod tests;

//! The file with the table of protected routes, in TOML: its form, and how it becomes upstreams and routes.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, Method};
use proto::paddock::job_token::v1::{CaptureMode, JobTokenPolicy};
use serde::Deserialize;
use toml::Spanned;

use super::route::ProtectedRoute;
use crate::{
    credential::plan::CredentialPlan,
    guard::GuardedRoute,
    proxy::upstream::{MAX_CONNECTIONS, Protocol, Upstream, UpstreamSettings},
    rest::routes::Routes,
    routing::{Lookup, PathTemplate, RouteLabel},
};

/// The upstream that takes its address from `gateway.upstream`.
const DEFAULT_UPSTREAM: &str = "default";

/// The verbs that a route can have. Others have a meaning to proxies themselves, or none.
const VERBS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The upstreams by name; none for the default one without an address.
pub type Upstreams = BTreeMap<String, Option<Arc<Upstream>>>;

/// The content of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    upstreams: BTreeMap<String, UpstreamEntry>,
    /// The routes, with their positions in the file.
    #[serde(default)]
    pub routes: Vec<Spanned<RouteEntry>>,
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

/// A route as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteEntry {
    /// The verb.
    pub method: String,
    /// The path template.
    pub path: String,
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

impl File {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Says where the text has another form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        file.upstreams.entry(default_upstream()).or_default();
        Ok(file)
    }

    /// Builds the upstreams. `default_url` is the address of the default one, `settings` are those that the file does
    /// not change.
    ///
    /// # Errors
    /// Names the upstream and the setting that cannot be used.
    pub fn upstreams(&mut self, default_url: &str, settings: &UpstreamSettings) -> Result<Upstreams, String> {
        let mut upstreams = BTreeMap::new();
        for (name, entry) in std::mem::take(&mut self.upstreams) {
            let is_default = name == DEFAULT_UPSTREAM;
            let url = if is_default && entry.url.is_empty() { default_url.to_owned() } else { entry.url.clone() };
            let upstream = if is_default && url.is_empty() {
                None
            } else {
                let upstream = entry.build(&name, &url, settings);
                Some(Arc::new(upstream.map_err(|problem| format!("upstreams.{name}: {problem}"))?))
            };
            upstreams.insert(name, upstream);
        }
        Ok(upstreams)
    }
}

impl UpstreamEntry {
    fn build(self, name: &str, url: &str, settings: &UpstreamSettings) -> Result<Upstream, String> {
        let max_connections = self.max_connections.unwrap_or(settings.max_connections);
        if !(1..=MAX_CONNECTIONS).contains(&max_connections) {
            return Err(format!("max_connections must be between 1 and {MAX_CONNECTIONS}"));
        }
        let mut strip_headers = Vec::new();
        for name in &self.strip_headers {
            let header = HeaderName::from_bytes(name.as_bytes());
            strip_headers.push(header.map_err(|_| format!("strip_headers: {name:?} is no header"))?);
        }
        let settings = UpstreamSettings {
            protocol: self.protocol,
            max_connections,
            ca_file: self.ca_file,
            strip_headers,
            ..settings.clone()
        };
        Upstream::new(name, url, &settings)
    }
}

impl RouteEntry {
    /// Builds the route and its path template. `guarded` is what the guard counts its calls under. There is no route if its upstream has no address.
    ///
    /// # Errors
    /// Names the part of the entry that cannot be served.
    pub fn build(
        self,
        guarded: GuardedRoute,
        upstreams: &Upstreams,
        contract: &Routes,
    ) -> Result<(PathTemplate, Option<ProtectedRoute>), String> {
        let verb = VERBS.into_iter().find(|verb| verb.as_str() == self.method);
        let verb = verb.ok_or("method must be GET, HEAD, POST, PUT, PATCH or DELETE")?;
        let template = PathTemplate::parse(&self.path)?;
        if let Lookup::Found(_) = contract.find(&verb, &template.sample) {
            return Err("the gateway serves this route itself".to_owned());
        }
        let projects = self.project_variables(&template)?;
        let policies = self.policies.iter().map(|name| find_policy(name)).collect::<Result<Vec<_>, _>>()?;
        let upstream = upstreams.get(&self.upstream);
        let upstream = upstream.ok_or_else(|| format!("no upstream is called {}", self.upstream))?;
        if self.upgrade.as_ref().is_some_and(|protocol| !is_protocol_name(protocol)) {
            return Err("upgrade must be the name of one protocol, for example websocket".to_owned());
        }
        let credential = CredentialPlan::protected(self.basic).map_err(|error| error.to_string())?;
        let Some(upstream) = upstream.clone() else { return Ok((template, None)) };
        let route = ProtectedRoute {
            label: Arc::new(RouteLabel::new(verb.as_str(), &self.path)),
            verb,
            projects,
            policies,
            upstream,
            mode: match self.capture {
                Capture::Strict => CaptureMode::Strict,
                Capture::Spool => CaptureMode::Spool,
                Capture::BestEffort => CaptureMode::BestEffort,
            },
            guarded,
            credential,
            forwards_credential: self.credential == Credential::Forward,
            forms: self.forms,
            forwards_cookies: self.cookies,
            upgrade: self.upgrade,
        };
        if route.forms && !route.writes() {
            return Err(
                "forms: only a route with POST, PUT or PATCH that requires more than reading takes forms".to_owned()
            );
        }
        Ok((template, Some(route)))
    }

    /// Returns the indices of the variables that name projects.
    fn project_variables(&self, template: &PathTemplate) -> Result<Vec<usize>, String> {
        let mut projects = Vec::new();
        for name in &self.projects {
            let index = template.variables.iter().position(|variable| variable == name);
            projects.push(index.ok_or_else(|| format!("projects: the path has no {{{name}}}"))?);
        }
        if projects.is_empty() {
            return Err("projects must name at least one variable of the path".to_owned());
        }
        if template.has_tail && projects.contains(&(template.variables.len() - 1)) {
            return Err("projects: a project is one segment, not a tail".to_owned());
        }
        Ok(projects)
    }
}

fn is_protocol_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns the policy with this name in REST: `read_jobs`.
fn find_policy(name: &str) -> Result<JobTokenPolicy, String> {
    let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    let policy = JobTokenPolicy::from_str_name(&format!("JOB_TOKEN_POLICY_{}", name.to_ascii_uppercase()));
    let policy = policy.filter(|policy| is_lower && *policy != JobTokenPolicy::Unspecified);
    policy.ok_or_else(|| format!("no policy is called {name}"))
}

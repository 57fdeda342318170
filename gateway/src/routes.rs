//! The route table: from verb and raw path to what serves them. It is made from the contract at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use prost_reflect::MethodDescriptor;
use proto::contract::MethodSpec;

use crate::call::CallPlan;
use crate::contract::{Binding, ContractError, Descriptors, grpc_path};
use crate::credentials::CredentialPlan;
use crate::input::plan::InputPlan;
use crate::output::plan::{Body, OutputPlan};
use crate::path;
use crate::proxy::table::ProtectedRoute;

/// Everything that is known of a route before a request comes.
#[derive(Debug)]
pub struct Route {
    /// The row of the access table.
    pub method: &'static MethodSpec,
    /// The method.
    pub descriptor: MethodDescriptor,
    /// The verb.
    pub verb: Method,
    /// The path template, as in the contract.
    pub template: Arc<str>,
    /// Verb and template, as logs name the route.
    pub caller_id: String,
    /// The parameters that the template's variables fill, in order, as places in the input plan.
    pub variables: Vec<usize>,
    /// The credential that it takes.
    pub credential: Option<CredentialPlan>,
    /// How the request is read.
    pub input: InputPlan,
    /// The call.
    pub call: CallPlan,
    /// How the answer is written.
    pub output: OutputPlan,
}

/// What serves a path with a verb.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A method of a service.
    Call(Arc<Route>),
    /// One of the gateway's own pages.
    Own(OwnPage),
    /// A protected route; the values are the projects that it names.
    Protected(Arc<ProtectedRoute>),
}

/// A page that the gateway answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPage {
    /// Whether the process lives.
    Liveness,
    /// Whether it can serve.
    Readiness,
    /// What it is.
    Health,
    /// The OpenAPI document.
    OpenApi,
}

impl OwnPage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Liveness, Self::Readiness, Self::Health, Self::OpenApi];

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Liveness => "/-/liveness",
            Self::Readiness => "/-/readiness",
            Self::Health => "/-/health",
            Self::OpenApi => "/-/openapi.json",
        }
    }
}

/// What a request's verb and path lead to.
#[derive(Debug)]
pub enum Lookup {
    /// This, with the decoded values of the template's variables.
    Found(Endpoint, Vec<String>),
    /// The question which verbs the path has.
    Options(HeaderValue),
    /// A path that has other verbs.
    NotAllowed(HeaderValue),
    /// No such path.
    NotFound,
    /// A path that cannot be read.
    Malformed,
}

/// The route table.
#[derive(Debug)]
pub struct Routes {
    paths: matchit::Router<PathEntry>,
    all: Vec<Arc<Route>>,
}

#[derive(Debug)]
struct PathEntry {
    verbs: Vec<(Method, Endpoint)>,
    allow: HeaderValue,
}

impl Routes {
    /// Makes the table of the contract.
    ///
    /// # Errors
    /// If the contract asks for what the gateway does not serve.
    pub fn load() -> Result<Self, ContractError> {
        let descriptors = Descriptors::load()?;
        let mut all = Vec::new();
        let mut shapes: BTreeMap<String, Vec<(Method, Endpoint)>> = BTreeMap::new();
        for (method, spec) in descriptors.methods()? {
            for binding in descriptors.bindings(&method)? {
                let (shape, route) = route(&descriptors, &method, spec, &binding)?;
                let route = Arc::new(route);
                shapes.entry(shape).or_default().push((route.verb.clone(), Endpoint::Call(route.clone())));
                all.push(route);
            }
        }
        for page in OwnPage::ALL {
            shapes.entry(page.path().to_owned()).or_default().push((Method::GET, Endpoint::Own(page)));
        }
        let mut paths = matchit::Router::new();
        for (shape, verbs) in shapes {
            let entry = PathEntry { allow: allow(&shape, &verbs)?, verbs };
            paths.insert(&shape, entry).map_err(|error| ContractError::new(format!("{shape}: {error}")))?;
        }
        Ok(Self { paths, all })
    }

    /// Every route of the contract.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.all
    }

    /// Finds what serves a verb and a raw path. HEAD is served as GET.
    pub fn find(&self, verb: &Method, raw_path: &str) -> Lookup {
        let Ok(path) = path::check(raw_path) else { return Lookup::Malformed };
        let Ok(matched) = self.paths.at(path) else { return Lookup::NotFound };
        let entry = matched.value;
        if verb == Method::OPTIONS {
            return Lookup::Options(entry.allow.clone());
        }
        let wanted = if verb == Method::HEAD { &Method::GET } else { verb };
        let Some((_, endpoint)) = entry.verbs.iter().find(|(known, _)| known == wanted) else {
            return Lookup::NotAllowed(entry.allow.clone());
        };
        let values = matched.params.iter().map(|(_, raw)| path::decode(raw).map(std::borrow::Cow::into_owned));
        match values.collect() {
            Ok(values) => Lookup::Found(endpoint.clone(), values),
            Err(path::Malformed) => Lookup::Malformed,
        }
    }
}

fn route(
    descriptors: &Descriptors,
    method: &MethodDescriptor,
    spec: &'static MethodSpec,
    binding: &Binding,
) -> Result<(String, Route), ContractError> {
    let refuse = |what: &str| ContractError::new(format!("{}: {what}", spec.path));
    let input = InputPlan::new(descriptors, &method.input(), spec.accepts)?;
    let credential = CredentialPlan::new(spec)?;
    let (shape, names) = template(&binding.template).ok_or_else(|| refuse("the path template is not served"))?;
    let place = |name: &String| input.message.find(name).ok_or_else(|| refuse("a variable of the path is no field"));
    let route = Route {
        method: spec,
        descriptor: method.clone(),
        verb: binding.verb.parse().map_err(|_| refuse("no such verb"))?,
        caller_id: format!("{} {}", binding.verb, binding.template),
        template: binding.template.as_str().into(),
        variables: names.iter().map(place).collect::<Result<_, _>>()?,
        credential,
        input,
        call: CallPlan {
            path: PathAndQuery::try_from(grpc_path(method)).map_err(|_| refuse("no path"))?,
            output: method.output(),
            idempotent: spec.idempotent,
            streams: method.is_server_streaming(),
        },
        output: OutputPlan::new(descriptors, &method.output(), binding.response_body.as_deref(), spec.success)?,
    };
    if route.call.streams && !matches!(route.output.body, Body::Document(_)) {
        return Err(refuse("a stream of answers has no REST form but a file"));
    }
    Ok((shape, route))
}

/// The form of a template that routes with other names for their variables share, and the names: `/a/{0}/b` and
/// `["id"]`. Only whole segments can be variables.
fn template(template: &str) -> Option<(String, Vec<String>)> {
    let mut names = Vec::new();
    let mut shape = String::new();
    for segment in template.strip_prefix('/')?.split('/') {
        shape.push('/');
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                shape.push_str(&format!("{{v{}}}", names.len()));
                names.push(name.to_owned());
            }
            None if !segment.is_empty() && !segment.contains(['{', '}', '*', ':']) => shape.push_str(segment),
            _ => return None,
        }
    }
    Some((shape, names))
}

fn allow(shape: &str, verbs: &[(Method, Endpoint)]) -> Result<HeaderValue, ContractError> {
    let mut names: Vec<_> = verbs.iter().map(|(verb, _)| verb.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| matches!(pair, [left, right] if left == right)) {
        return Err(ContractError::new(format!("{shape}: two methods have the same verb")));
    }
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    HeaderValue::try_from(names.join(", ")).map_err(|error| ContractError::new(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

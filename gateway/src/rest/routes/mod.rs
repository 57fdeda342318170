//! The route table of the contract: what serves a verb and a raw path. It is built once, at start.

use std::sync::Arc;

use http::{Method, uri::PathAndQuery};
use prost_reflect::MethodDescriptor;
use proto::contract::MethodSpec;

use super::call::CallPlan;
use crate::{
    contract::{Binding, ContractError, Descriptors, grpc_path},
    credential::plan::CredentialPlan,
    guard::GuardedRoute,
    input::plan::InputPlan,
    output::plan::{BodyPlan, OutputPlan},
    path,
    routing::{DuplicateRoute, Lookup, PathTemplate, RouteLabel, RouteMatch, VerbRouter, VerbRouterBuilder},
};

/// A route of the contract, with the plans for its requests.
#[derive(Debug)]
pub struct Route {
    /// The row of the access table.
    pub method: &'static MethodSpec,
    /// The method.
    pub descriptor: MethodDescriptor,
    /// The verb.
    pub verb: Method,
    /// The names of the route in logs and metrics.
    pub label: Arc<RouteLabel>,
    /// The parameters that the template's variables fill, in order, as indices in the input plan.
    pub variables: Vec<usize>,
    /// The credential that it takes.
    pub credential: Option<CredentialPlan>,
    /// What the guard counts its calls under.
    pub guarded: GuardedRoute,
    /// How to read the request.
    pub input: InputPlan,
    /// The call.
    pub call: CallPlan,
    /// How to write the response.
    pub output: OutputPlan,
}

/// What serves a path with a verb.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A method of a service.
    Call(Arc<Route>),
    /// A page of the gateway itself, with its label.
    OwnPage(OwnPage, Arc<RouteLabel>),
}

/// A page that the gateway serves without a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPage {
    /// Whether the process is alive.
    Liveness,
    /// Whether it can serve.
    Readiness,
    /// Its version and its contract.
    Health,
    /// The OpenAPI document.
    OpenApi,
}

impl OwnPage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Liveness, Self::Readiness, Self::Health, Self::OpenApi];

    /// Returns its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Liveness => "/-/liveness",
            Self::Readiness => "/-/readiness",
            Self::Health => "/-/health",
            Self::OpenApi => "/-/openapi.json",
        }
    }
}

/// The route table.
#[derive(Debug)]
pub struct Routes {
    router: VerbRouter<Endpoint>,
    all: Vec<Arc<Route>>,
}

impl Routes {
    /// Builds the table of the contract.
    ///
    /// # Errors
    /// Fails if the contract asks for something that the gateway does not serve.
    pub fn load() -> Result<Self, ContractError> {
        let descriptors = Descriptors::load()?;
        let mut all = Vec::new();
        let mut router = VerbRouter::builder();
        for (method, spec) in descriptors.methods()? {
            for binding in descriptors.bindings(&method)? {
                let (template, route) = build_route(&descriptors, &method, spec, &binding)?;
                let route = Arc::new(route);
                add_route(&mut router, &template, route.verb.clone(), Endpoint::Call(route.clone()))?;
                all.push(route);
            }
        }
        for page in OwnPage::ALL {
            let template = PathTemplate::parse(page.path()).map_err(ContractError::new)?;
            let label = Arc::new(RouteLabel::new("GET", page.path()));
            add_route(&mut router, &template, Method::GET, Endpoint::OwnPage(page, label))?;
        }
        Ok(Self { router: router.build().map_err(ContractError::new)?, all })
    }

    /// Returns every route of the contract.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.all
    }

    /// Finds what serves a verb and a raw path, and the decoded values of the template's variables.
    pub fn find(&self, verb: &Method, raw_path: &str) -> Lookup<(Endpoint, Vec<String>)> {
        self.router.find(verb, raw_path).try_map(decode_values)
    }
}

fn decode_values(found: RouteMatch<'_, '_, Endpoint>) -> Result<(Endpoint, Vec<String>), path::Malformed> {
    let values = found.values().map(|raw| path::decode(raw).map(String::from));
    Ok((found.route.clone(), values.collect::<Result<_, _>>()?))
}

fn add_route(
    router: &mut VerbRouterBuilder<Endpoint>,
    template: &PathTemplate,
    verb: Method,
    endpoint: Endpoint,
) -> Result<(), ContractError> {
    router
        .add(template, verb, endpoint)
        .map_err(|DuplicateRoute| ContractError::new(format!("{}: two methods have the same verb", template.text)))
}

/// Builds the route of a binding, and the template of its path.
fn build_route(
    descriptors: &Descriptors,
    method: &MethodDescriptor,
    spec: &'static MethodSpec,
    binding: &Binding,
) -> Result<(PathTemplate, Route), ContractError> {
    let template = PathTemplate::parse(&binding.template).map_err(|problem| not_served(spec, &problem))?;
    if template.has_tail {
        return Err(not_served(spec, "a variable of the path must be one segment"));
    }
    let input = InputPlan::new(descriptors, &method.input(), spec.accepts)?;
    let mut variables = Vec::new();
    for name in &template.variables {
        let index = input.message.find(name);
        variables.push(index.ok_or_else(|| not_served(spec, "a variable of the path is not a field"))?);
    }
    let route = Route {
        method: spec,
        descriptor: method.clone(),
        verb: binding.verb.parse().map_err(|_| not_served(spec, "no such verb"))?,
        label: Arc::new(RouteLabel::new(&binding.verb, &binding.template)),
        variables,
        credential: CredentialPlan::new(spec)?,
        guarded: GuardedRoute::method(spec),
        input,
        call: CallPlan {
            path: PathAndQuery::try_from(grpc_path(method)).map_err(|_| not_served(spec, "no path"))?,
            output: method.output(),
            idempotent: spec.idempotent,
            streams: method.is_server_streaming(),
        },
        output: OutputPlan::new(descriptors, &method.output(), binding.response_body.as_deref(), spec.success)?,
    };
    if route.call.streams && !matches!(route.output.body, BodyPlan::Document(_)) {
        return Err(not_served(spec, "a stream of responses has no REST form except a file"));
    }
    Ok((template, route))
}

fn not_served(spec: &MethodSpec, problem: &str) -> ContractError {
    ContractError::new(format!("{}: {problem}", spec.path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

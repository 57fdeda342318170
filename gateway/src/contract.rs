//! Reads the REST side of the contract from the compiled `.proto` files: the bindings of methods, the options of
//! fields, and the names of enumerations. Everything here runs once, at start.
//!
//! This is not a part of `rest/`, which is above it: requests, responses and credentials are planned from here too.

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, MethodDescriptor, ReflectMessage as _,
};
use proto::{
    contract::MethodSpec,
    json::{PlanError, descriptor_pool},
    paddock::contract::v1::FieldContract,
};

/// Why the contract cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the contract cannot be served: {0}")]
pub struct ContractError(String);

impl ContractError {
    /// Returns an error with this text: what is wrong, and with what.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<PlanError> for ContractError {
    fn from(error: PlanError) -> Self {
        Self::new(error.to_string())
    }
}

/// The REST binding of a method, beyond verb and path.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    /// The verb, upper case.
    pub verb: String,
    /// The path template.
    pub template: String,
    /// The field of the answer that is the whole body.
    pub response_body: Option<String>,
}

/// The compiled `.proto` files with the options that the gateway reads.
#[derive(Debug)]
pub struct Descriptors {
    pool: DescriptorPool,
    http: ExtensionDescriptor,
    field: ExtensionDescriptor,
}

impl Descriptors {
    /// Reads the descriptors that this program was built with.
    ///
    /// # Errors
    /// Fails if they cannot be decoded or lack an option.
    pub fn load() -> Result<Self, ContractError> {
        let pool = descriptor_pool()?;
        let http = find_extension(&pool, "google.api.http")?;
        let field = find_extension(&pool, "paddock.contract.v1.field")?;
        Ok(Self { pool, http, field })
    }

    /// Returns the methods that have a REST binding, with their rows of the access table.
    ///
    /// # Errors
    /// Fails if a method with a binding has no row.
    pub fn methods(&self) -> Result<Vec<(MethodDescriptor, &'static MethodSpec)>, ContractError> {
        let mut found = Vec::new();
        for method in self.pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            if !method.options().has_extension(&self.http) {
                continue;
            }
            let path = grpc_path(&method);
            let spec =
                proto::contract::method(&path).ok_or_else(|| ContractError::new(format!("no row for {path}")))?;
            found.push((method, spec));
        }
        Ok(found)
    }

    /// Returns the bindings of a method: the first one and the additional ones.
    ///
    /// # Errors
    /// Fails if a binding uses a part of `google.api.http` that the gateway does not serve.
    pub fn bindings(&self, method: &MethodDescriptor) -> Result<Vec<Binding>, ContractError> {
        let options = method.options();
        let rule = options.get_extension(&self.http);
        let rule = rule.as_message().ok_or_else(|| ContractError::new("google.api.http is not a message"))?;
        let mut bindings = vec![read_binding(rule, method)?];
        if let Some(additional) = rule.get_field_by_name("additional_bindings") {
            for rule in additional.as_list().unwrap_or_default().iter().filter_map(|rule| rule.as_message()) {
                bindings.push(read_binding(rule, method)?);
            }
        }
        Ok(bindings)
    }

    /// Returns the options of a field, or the default without any.
    ///
    /// # Errors
    /// Fails if the option cannot be read.
    pub fn field(&self, field: &FieldDescriptor) -> Result<FieldContract, ContractError> {
        let options = field.options();
        if !options.has_extension(&self.field) {
            return Ok(FieldContract::default());
        }
        let value = options.get_extension(&self.field);
        let message = value.as_message().ok_or_else(|| ContractError::new("the field option is not a message"))?;
        message.transcode_to().map_err(|error| ContractError::new(format!("{}: {error}", field.full_name())))
    }
}

fn find_extension(pool: &DescriptorPool, name: &str) -> Result<ExtensionDescriptor, ContractError> {
    pool.get_extension_by_name(name).ok_or_else(|| ContractError::new(format!("no option {name}")))
}

/// Returns the gRPC path of a method: `/package.Service/Method`.
pub fn grpc_path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// Reads a rule of `google.api.http`, which must be one that the gateway serves.
fn read_binding(rule: &DynamicMessage, method: &MethodDescriptor) -> Result<Binding, ContractError> {
    if method.is_client_streaming() {
        return Err(not_served(method, "a stream of requests has no REST form"));
    }
    if !matches!(string_field(rule, "body").as_str(), "" | "*") {
        return Err(not_served(method, "a body that is one field is not served"));
    }
    let verbs = ["get", "put", "post", "delete", "patch"];
    let Some(verb) = verbs.into_iter().find(|verb| !string_field(rule, verb).is_empty()) else {
        return Err(not_served(method, "custom verbs are not served"));
    };
    let response_body = Some(string_field(rule, "response_body")).filter(|name| !name.is_empty());
    Ok(Binding { verb: verb.to_ascii_uppercase(), template: string_field(rule, verb), response_body })
}

fn not_served(method: &MethodDescriptor, problem: &str) -> ContractError {
    ContractError::new(format!("{}: {problem}", method.full_name()))
}

fn string_field(message: &DynamicMessage, field: &str) -> String {
    let known = message.descriptor().get_field_by_name(field).is_some();
    let value = if known { message.get_field_by_name(field) } else { None };
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proto::contract::METHODS;

    use super::*;

    #[test]
    fn the_bindings_are_those_of_the_table() {
        let descriptors = Descriptors::load().unwrap();
        let mut found: Vec<_> = Vec::new();
        for (method, spec) in descriptors.methods().unwrap() {
            let first = descriptors.bindings(&method).unwrap().remove(0);
            assert_eq!(spec.rest, Some((first.verb.as_str(), first.template.as_str())), "{}", spec.path);
            found.push(spec.path);
        }
        found.sort_unstable();
        let expected: Vec<_> =
            METHODS.iter().filter(|method| method.rest.is_some()).map(|method| method.path).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn options_of_fields_are_read() {
        let descriptors = Descriptors::load().unwrap();
        let message = descriptors.pool.get_message_by_name("paddock.runner.v1.ListRunnersRequest").unwrap();
        let page = descriptors.field(&message.get_field_by_name("page").unwrap()).unwrap();
        assert_eq!((page.minimum, page.maximum, page.required), (1, i64::from(i32::MAX), false));
        let scope = descriptors.field(&message.get_field_by_name("scope").unwrap()).unwrap();
        assert_eq!(scope, FieldContract::default());
    }
}

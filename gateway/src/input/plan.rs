//! The plan of a request message, made at start: its parameters, their types, and the rules of each.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use proto::{contract::Place, json::enum_names, paddock::contract::v1::CredentialKind};

use crate::contract::{ContractError, Descriptors};

/// The deepest nesting of messages. The contract has two levels; the limit stops a message that contains itself.
const MAX_LEVELS: usize = 8;

/// The most parameters of a request. Sets of them are kept as the bits of one word.
const MAX_FIELDS: usize = 64;

/// The name of the field that lists the parameters that were sent.
const UPDATE_MASK: &str = "update_mask";

/// A request message.
#[derive(Debug)]
pub struct InputPlan {
    /// The parameters.
    pub message: MessagePlan,
    /// The field that is filled with the names of the parameters that were sent.
    pub update_mask: Option<FieldDescriptor>,
    /// The field that takes the credential.
    pub credential: Option<FieldDescriptor>,
    /// Whether a request without that credential is refused as one without a parameter.
    pub credential_required: bool,
    /// The parameters that carry credentials.
    pub carriers: Vec<&'static str>,
}

/// A message and its parameters.
#[derive(Debug)]
pub struct MessagePlan {
    /// The message.
    pub descriptor: MessageDescriptor,
    /// The parameters, in the order of their declaration.
    pub fields: Vec<FieldPlan>,
    /// The names of the parameters, sorted, with their indices in `fields`.
    names: Vec<(String, usize)>,
}

/// A parameter.
#[derive(Debug)]
pub struct FieldPlan {
    /// The field.
    pub descriptor: FieldDescriptor,
    /// The name in REST.
    pub name: String,
    /// The type of its value, or of its elements.
    pub shape: Shape,
    /// Whether it is a list.
    pub repeated: bool,
    /// Whether a request without it is refused.
    pub required: bool,
    /// The least and the greatest number.
    pub bounds: Option<(i64, i64)>,
}

/// The type of a parameter.
#[derive(Debug)]
pub enum Shape {
    /// True or false.
    Bool,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// 32 bits, unsigned.
    Uint32,
    /// 64 bits, unsigned.
    Uint64,
    /// Text.
    Text,
    /// One of these names, each with its number.
    Enum(Vec<(String, i32)>),
    /// Parameters inside.
    Message(Box<MessagePlan>),
}

impl InputPlan {
    /// Plans a request message of a method that accepts these credentials.
    ///
    /// # Errors
    /// Fails if the message has a field that no REST request can fill.
    pub fn new(
        descriptors: &Descriptors,
        message: &MessageDescriptor,
        accepts: &[CredentialKind],
    ) -> Result<Self, ContractError> {
        let carriers = accepts.iter().filter_map(|kind| kind.spec()).flat_map(|spec| spec.carriers);
        let carriers = carriers.filter_map(|carrier| match carrier.place {
            Place::Parameter(name) => Some(name),
            Place::Header(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
        });
        let mut plan = Self {
            message: MessagePlan { descriptor: message.clone(), fields: Vec::new(), names: Vec::new() },
            update_mask: None,
            credential: None,
            credential_required: false,
            carriers: carriers.collect(),
        };
        for field in message.fields() {
            let contract = descriptors.field(&field)?;
            if field.name() == UPDATE_MASK {
                plan.update_mask = Some(field);
            } else if contract.credential() != CredentialKind::Unspecified {
                plan.credential = Some(field);
                plan.credential_required = contract.required;
            } else {
                plan.message.fields.push(FieldPlan::new(descriptors, field, 0)?);
            }
        }
        if plan.message.fields.len() > MAX_FIELDS {
            return Err(ContractError::new(format!("{}: more than {MAX_FIELDS} fields", message.full_name())));
        }
        plan.message.index_names();
        Ok(plan)
    }

    /// Reports whether the parameter carries a credential.
    pub fn is_carrier(&self, name: &str) -> bool {
        self.carriers.contains(&name)
    }
}

impl MessagePlan {
    fn new(descriptors: &Descriptors, descriptor: MessageDescriptor, level: usize) -> Result<Self, ContractError> {
        if level > MAX_LEVELS {
            return Err(ContractError::new(format!("{}: nested too deeply", descriptor.full_name())));
        }
        let fields = descriptor.fields().map(|field| FieldPlan::new(descriptors, field, level));
        let mut plan = Self { fields: fields.collect::<Result<_, _>>()?, descriptor, names: Vec::new() };
        plan.index_names();
        Ok(plan)
    }

    fn index_names(&mut self) {
        self.names = self.fields.iter().enumerate().map(|(index, field)| (field.name.clone(), index)).collect();
        self.names.sort();
    }

    /// Returns the index of a parameter in `fields`.
    pub fn find(&self, name: &str) -> Option<usize> {
        let found = self.names.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        self.names.get(found).map(|(_, index)| *index)
    }
}

impl FieldPlan {
    fn new(descriptors: &Descriptors, field: FieldDescriptor, level: usize) -> Result<Self, ContractError> {
        let contract = descriptors.field(&field)?;
        let bounded = contract.minimum != 0 || contract.maximum != 0;
        let shape = Shape::new(descriptors, &field, level)?;
        if field.is_map() || (field.is_list() && matches!(shape, Shape::Message(_))) {
            return Err(ContractError::new(format!("{}: no REST request can fill it", field.full_name())));
        }
        Ok(Self {
            name: field.name().to_owned(),
            shape,
            repeated: field.is_list(),
            required: contract.required,
            bounds: bounded.then_some((contract.minimum, contract.maximum)),
            descriptor: field,
        })
    }
}

impl Shape {
    fn new(descriptors: &Descriptors, field: &FieldDescriptor, level: usize) -> Result<Self, ContractError> {
        Ok(match field.kind() {
            Kind::Bool => Self::Bool,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Self::Int32,
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Self::Int64,
            Kind::Uint32 | Kind::Fixed32 => Self::Uint32,
            Kind::Uint64 | Kind::Fixed64 => Self::Uint64,
            Kind::String => Self::Text,
            Kind::Enum(descriptor) => Self::Enum(enum_names(&descriptor)),
            Kind::Message(descriptor) => Self::Message(Box::new(MessagePlan::new(descriptors, descriptor, level + 1)?)),
            Kind::Float | Kind::Double | Kind::Bytes => {
                return Err(ContractError::new(format!("{}: no REST request can fill it", field.full_name())));
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn plan(method_name: &str) -> InputPlan {
        let descriptors = Descriptors::load().unwrap();
        let methods = descriptors.methods().unwrap();
        let (method, spec) = methods.into_iter().find(|(method, _)| method.name() == method_name).unwrap();
        InputPlan::new(&descriptors, &method.input(), spec.accepts).unwrap()
    }

    fn field<'p>(message: &'p MessagePlan, name: &str) -> &'p FieldPlan {
        &message.fields[message.find(name).unwrap()]
    }

    #[test]
    fn every_request_of_the_contract_can_be_planned() {
        let descriptors = Descriptors::load().unwrap();
        for (method, spec) in descriptors.methods().unwrap() {
            InputPlan::new(&descriptors, &method.input(), spec.accepts).unwrap();
        }
    }

    #[test]
    fn a_parameter_knows_its_type_and_needs() {
        let message = plan("CreateRunner").message;
        assert!(field(&message, "runner_type").required && !field(&message, "description").required);
        assert!(field(&message, "tag_list").repeated);
        let Shape::Enum(names) = &field(&message, "runner_type").shape else { panic!("an enumeration") };
        assert_eq!(names, &[("instance_type".into(), 1), ("group_type".into(), 2), ("project_type".into(), 3)]);
        assert_eq!(message.find("nothing"), None);
    }

    #[test]
    fn a_field_that_the_gateway_fills_is_not_a_parameter() {
        let update = plan("UpdateRunner");
        assert!(update.update_mask.is_some() && update.message.find(UPDATE_MASK).is_none());
        let verify = plan("VerifyRunner");
        let credential = verify.credential.as_ref().unwrap();
        assert!(verify.credential_required && verify.message.find(credential.name()).is_none());
        assert!(verify.is_carrier(credential.name()));
    }
}

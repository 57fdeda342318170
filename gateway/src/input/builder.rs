//! Collects a request message from the sources of its parameters: the path, the body and the query, in this order. The
//! first source that names a parameter decides it.

use prost_reflect::{DynamicMessage, Value};

use super::{
    coerce::{self, Flaw, Scalar},
    plan::{FieldPlan, InputPlan, MessagePlan, Shape},
};
use crate::credential::token::Token;

/// A flaw of a parameter, under its name in REST: `info[name]` for one inside another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The name.
    pub name: String,
    /// The flaw.
    pub flaw: Flaw,
}

/// A parameter as one source has it.
#[derive(Debug)]
pub enum Parsed {
    /// It is there and empty.
    Unset,
    /// It has this value.
    Value(Value),
    /// It has a value that does not fit.
    Flawed(Flaw),
    /// Something inside it does not fit, which is noted already.
    FlawedInside,
}

impl From<Result<Option<Value>, Flaw>> for Parsed {
    fn from(result: Result<Option<Value>, Flaw>) -> Self {
        match result {
            Ok(Some(value)) => Self::Value(value),
            Ok(None) => Self::Unset,
            Err(flaw) => Self::Flawed(flaw),
        }
    }
}

/// A request message that is being collected.
#[derive(Debug)]
pub struct MessageBuilder<'p> {
    plan: &'p InputPlan,
    message: DynamicMessage,
    /// The parameters, as bits, that an earlier source named.
    decided: u64,
    /// The parameters that the source being read named.
    named: u64,
    /// The parameters that body or query decided.
    sent: u64,
    /// The parameters that have a value.
    filled: u64,
    /// The values that do not fit.
    pub problems: Vec<Problem>,
    /// The credentials in parameters.
    pub tokens: Vec<Token>,
}

impl<'p> MessageBuilder<'p> {
    /// Starts an empty message.
    pub fn new(plan: &'p InputPlan) -> Self {
        let message = DynamicMessage::new(plan.message.descriptor.clone());
        Self { plan, message, decided: 0, named: 0, sent: 0, filled: 0, problems: Vec::new(), tokens: Vec::new() }
    }

    /// Returns the plan of the message.
    pub fn plan(&self) -> &'p InputPlan {
        self.plan
    }

    /// Sets a parameter from the path.
    pub fn set_from_path(&mut self, index: usize, text: &str) {
        let Some(field) = self.plan.message.fields.get(index) else { return };
        self.decided |= 1 << index;
        self.set_parsed(index, field, coerce::single_value(field, Scalar::Text(text)).into());
    }

    /// Ends the reading of body or query: the parameters that it named are decided.
    pub fn end_source(&mut self) {
        self.decided |= self.named;
        self.sent |= self.named;
        self.named = 0;
    }

    /// Returns the parameter, unless an earlier source has decided it.
    pub fn undecided_field(&self, index: usize) -> Option<&'p FieldPlan> {
        if self.decided & (1 << index) == 0 { self.plan.message.fields.get(index) } else { None }
    }

    /// Sets a parameter from body or query. Within one source the last value counts.
    pub fn set(&mut self, index: usize, field: &FieldPlan, parsed: Parsed) {
        if self.named & (1 << index) != 0 {
            self.message.clear_field(&field.descriptor);
            self.filled &= !(1 << index);
            self.problems.retain(|problem| problem.name != field.name);
        }
        self.named |= 1 << index;
        self.set_parsed(index, field, parsed);
    }

    /// Sets a parameter from a query or form, where lists and messages come in several pairs. `inner` are the names in
    /// brackets: `["name"]` for `info[name]`, `[""]` for `tag_list[]`.
    pub fn set_from_pair(&mut self, index: usize, field: &'p FieldPlan, inner: &[&str], text: &str) {
        if !field.repeated && inner.is_empty() {
            return self.set(index, field, coerce::single_value(field, Scalar::Text(text)).into());
        }
        self.named |= 1 << index;
        match set_pair(&mut self.message, field, inner, text) {
            Ok(()) => self.filled |= 1 << index,
            Err((name, flaw)) => self.note(&name, flaw),
        }
    }

    /// Notes the flaw of a parameter, once for each name: a body can repeat a name a hundred thousand times.
    pub fn note(&mut self, name: &str, flaw: Flaw) {
        if !self.problems.iter().any(|problem| problem.name == name) {
            self.problems.push(Problem { name: name.to_owned(), flaw });
        }
    }

    fn set_parsed(&mut self, index: usize, field: &FieldPlan, parsed: Parsed) {
        let flaw = match parsed {
            Parsed::Unset | Parsed::FlawedInside => return,
            Parsed::Flawed(flaw) => flaw,
            Parsed::Value(value) => match self.message.try_set_field(&field.descriptor, value) {
                Ok(()) => return self.filled |= 1 << index,
                Err(_) => Flaw::Invalid,
            },
        };
        self.note(&field.name, flaw);
    }

    /// Ends the message: notes the parameters that are missing, and lists those that were sent.
    pub fn finish(mut self, has_credential: bool) -> (DynamicMessage, Vec<Problem>) {
        if let Some(field) = self.plan.credential.as_ref().filter(|_| self.plan.credential_required && !has_credential)
        {
            self.note(field.name(), Flaw::Missing);
        }
        for (index, field) in self.plan.message.fields.iter().enumerate() {
            if field.required && self.filled & (1 << index) == 0 {
                self.note(&field.name, Flaw::Missing);
            }
        }
        self.fill_update_mask();
        (self.message, self.problems)
    }

    fn fill_update_mask(&mut self) {
        let Some(mask) = &self.plan.update_mask else { return };
        let fields = self.plan.message.fields.iter().enumerate();
        let sent = fields.filter(|(index, _)| self.sent & (1 << index) != 0);
        let paths = Value::List(sent.map(|(_, field)| Value::String(field.name.clone())).collect());
        if let Some(message) = self.message.get_field_mut(mask).as_message_mut() {
            message.set_field_by_name("paths", paths);
        }
    }
}

/// Sets one pair of a query or form. An error names the parameter as REST writes it.
fn set_pair(message: &mut DynamicMessage, field: &FieldPlan, inner: &[&str], text: &str) -> Result<(), (String, Flaw)> {
    let Some((name, rest)) = inner.split_first().filter(|_| !field.repeated) else {
        return set_value(message, field, inner, text).map_err(|flaw| (field.name.clone(), flaw));
    };
    let Shape::Message(plan) = &field.shape else { return Err((field.name.clone(), Flaw::Invalid)) };
    let Some(inside) = message.get_field_mut(&field.descriptor).as_message_mut() else {
        return Err((field.name.clone(), Flaw::Invalid));
    };
    set_pair_in_message(inside, plan, name, rest, text).map_err(|(name, flaw)| (nested_name(&field.name, &name), flaw))
}

/// Adds to a list, or sets a single value.
fn set_value(message: &mut DynamicMessage, field: &FieldPlan, inner: &[&str], text: &str) -> Result<(), Flaw> {
    if field.repeated {
        let list = message.get_field_mut(&field.descriptor).as_list_mut();
        return match list {
            Some(list) if inner.len() <= 1 => coerce::list_elements(field, Scalar::Text(text), list),
            _ => Err(Flaw::Invalid),
        };
    }
    match coerce::single_value(field, Scalar::Text(text))? {
        Some(value) => message.try_set_field(&field.descriptor, value).map_err(|_| Flaw::Invalid),
        None => {
            message.clear_field(&field.descriptor);
            Ok(())
        }
    }
}

fn set_pair_in_message(
    message: &mut DynamicMessage,
    plan: &MessagePlan,
    name: &str,
    rest: &[&str],
    text: &str,
) -> Result<(), (String, Flaw)> {
    match plan.find(name).and_then(|index| plan.fields.get(index)) {
        Some(field) => set_pair(message, field, rest, text),
        None => Ok(()),
    }
}

/// Returns the name in REST of a parameter inside another: `info` and `config[gpus]` make `info[config][gpus]`.
pub fn nested_name(outer: &str, inner: &str) -> String {
    match inner.split_once('[') {
        Some((first, rest)) => format!("{outer}[{first}][{rest}"),
        None => format!("{outer}[{inner}]"),
    }
}

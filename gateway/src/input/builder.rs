//! Collects a request message from the places that parameters stand in. The first place that names a parameter decides
//! it: the path before the body, the body before the query.

use prost_reflect::{DynamicMessage, Value};

use super::coerce::{self, Flaw, Scalar};
use super::plan::{FieldPlan, InputPlan, MessagePlan, Shape};

/// A credential as it was sent. It never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for sending it on or hashing it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// What is wrong with a parameter, by its name in REST: `info[name]` for one inside another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The name.
    pub name: String,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What one place says of a parameter.
#[derive(Debug)]
pub enum Parsed {
    /// It is there and empty.
    Unset,
    /// It has this value.
    Value(Value),
    /// It has a value that does not fit.
    Flawed(Flaw),
    /// Something inside it does not fit; that is noted already.
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
pub struct Builder<'p> {
    plan: &'p InputPlan,
    message: DynamicMessage,
    /// The parameters, as bits, that an earlier place named.
    decided: u64,
    /// The parameters that the place being read named.
    named: u64,
    /// The parameters that body or query decided.
    sent: u64,
    /// The parameters that have a value.
    filled: u64,
    /// What does not fit.
    pub problems: Vec<Problem>,
    /// The credentials that stood in parameters.
    pub tokens: Vec<Token>,
}

impl<'p> Builder<'p> {
    /// An empty message.
    pub fn new(plan: &'p InputPlan) -> Self {
        let message = DynamicMessage::new(plan.message.descriptor.clone());
        Self { plan, message, decided: 0, named: 0, sent: 0, filled: 0, problems: Vec::new(), tokens: Vec::new() }
    }

    /// What the message holds.
    pub fn plan(&self) -> &'p InputPlan {
        self.plan
    }

    /// Sets a parameter from the path.
    pub fn set_from_path(&mut self, place: usize, text: &str) {
        let Some(field) = self.plan.message.fields.get(place) else { return };
        self.decided |= 1 << place;
        self.put(place, field, coerce::single(field, Scalar::Text(text)).into());
    }

    /// Ends the reading of body or query: what it named is decided.
    pub fn end_of_place(&mut self) {
        self.decided |= self.named;
        self.sent |= self.named;
        self.named = 0;
    }

    /// The parameter of this name, unless an earlier place has decided it.
    pub fn open(&self, place: usize) -> Option<&'p FieldPlan> {
        if self.decided & (1 << place) == 0 { self.plan.message.fields.get(place) } else { None }
    }

    /// Sets a parameter from body or query. Within one place the last value counts.
    pub fn set(&mut self, place: usize, field: &FieldPlan, parsed: Parsed) {
        if self.named & (1 << place) != 0 {
            self.message.clear_field(&field.descriptor);
            self.filled &= !(1 << place);
            self.problems.retain(|problem| problem.name != field.name);
        }
        self.named |= 1 << place;
        self.put(place, field, parsed);
    }

    /// Sets a parameter from a query or form, where lists and messages come in several pairs. `inner` are the names in
    /// brackets: `["name"]` for `info[name]`, `[""]` for `tag_list[]`.
    pub fn set_from_pair(&mut self, place: usize, field: &'p FieldPlan, inner: &[&str], text: &str) {
        if !field.repeated && inner.is_empty() {
            return self.set(place, field, coerce::single(field, Scalar::Text(text)).into());
        }
        self.named |= 1 << place;
        match pair_into(&mut self.message, field, inner, text) {
            Ok(()) => self.filled |= 1 << place,
            Err((name, flaw)) => self.note(&name, flaw),
        }
    }

    /// Notes what is wrong with a parameter, once for each name: a body can repeat a name a hundred thousand times.
    pub fn note(&mut self, name: &str, flaw: Flaw) {
        if !self.problems.iter().any(|problem| problem.name == name) {
            self.problems.push(Problem { name: name.to_owned(), flaw });
        }
    }

    fn put(&mut self, place: usize, field: &FieldPlan, parsed: Parsed) {
        let flaw = match parsed {
            Parsed::Unset | Parsed::FlawedInside => return,
            Parsed::Flawed(flaw) => flaw,
            Parsed::Value(value) => match self.message.try_set_field(&field.descriptor, value) {
                Ok(()) => return self.filled |= 1 << place,
                Err(_) => Flaw::Invalid,
            },
        };
        self.note(&field.name, flaw);
    }

    /// Ends the collecting: notes what is missing, and lists what was sent.
    pub fn finish(mut self, has_credential: bool) -> (DynamicMessage, Vec<Problem>) {
        if let Some(field) = self.plan.credential.as_ref().filter(|_| self.plan.credential_required && !has_credential)
        {
            self.note(field.name(), Flaw::Missing);
        }
        for (place, field) in self.plan.message.fields.iter().enumerate() {
            if field.required && self.filled & (1 << place) == 0 {
                self.note(&field.name, Flaw::Missing);
            }
        }
        self.fill_update_mask();
        (self.message, self.problems)
    }

    fn fill_update_mask(&mut self) {
        let Some(mask) = &self.plan.update_mask else { return };
        let fields = self.plan.message.fields.iter().enumerate();
        let sent = fields.filter(|(place, _)| self.sent & (1 << place) != 0);
        let paths = Value::List(sent.map(|(_, field)| Value::String(field.name.clone())).collect());
        if let Some(message) = self.message.get_field_mut(mask).as_message_mut() {
            message.set_field_by_name("paths", paths);
        }
    }
}

/// Sets one pair of a query or form. An error names the parameter as REST writes it.
fn pair_into(
    message: &mut DynamicMessage,
    field: &FieldPlan,
    inner: &[&str],
    text: &str,
) -> Result<(), (String, Flaw)> {
    let flawed = |flaw| (field.name.clone(), flaw);
    if field.repeated {
        let list = message.get_field_mut(&field.descriptor).as_list_mut();
        return match (list, inner.len()) {
            (Some(list), 0 | 1) => coerce::elements(field, Scalar::Text(text), list).map_err(flawed),
            _ => Err(flawed(Flaw::Invalid)),
        };
    }
    match (&field.shape, inner.split_first()) {
        (Shape::Message(plan), Some((name, rest))) => {
            let inside = message.get_field_mut(&field.descriptor).as_message_mut();
            let inside = inside.ok_or_else(|| flawed(Flaw::Invalid))?;
            pair_into_message(inside, plan, name, rest, text)
                .map_err(|(name, flaw)| (inside_of(&field.name, &name), flaw))
        }
        (_, Some(_)) => Err(flawed(Flaw::Invalid)),
        (_, None) => match coerce::single(field, Scalar::Text(text)).map_err(flawed)? {
            Some(value) => message.try_set_field(&field.descriptor, value).map_err(|_| flawed(Flaw::Invalid)),
            None => {
                message.clear_field(&field.descriptor);
                Ok(())
            }
        },
    }
}

fn pair_into_message(
    message: &mut DynamicMessage,
    plan: &MessagePlan,
    name: &str,
    rest: &[&str],
    text: &str,
) -> Result<(), (String, Flaw)> {
    match plan.find(name).and_then(|place| plan.fields.get(place)) {
        Some(field) => pair_into(message, field, rest, text),
        None => Ok(()),
    }
}

/// The name in REST of a parameter inside another: `info` and `config[gpus]` make `info[config][gpus]`.
pub fn inside_of(outer: &str, inner: &str) -> String {
    match inner.split_once('[') {
        Some((first, rest)) => format!("{outer}[{first}][{rest}"),
        None => format!("{outer}[{inner}]"),
    }
}

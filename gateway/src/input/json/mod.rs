//! Reads JSON bodies directly into the request message, in one pass and without a tree in between.
//!
//! A repeated key is refused at every depth, also where the content is ignored: two readers could disagree on which one
//! counts.

mod values;

use prost_reflect::DynamicMessage;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use self::values::{ElementValue, Ignored, KeySeed, Keys, ScalarSeed, next_depth};
use super::{
    builder::{MessageBuilder, Parsed, Problem, nested_name},
    coerce::{self, Flaw, Scalar},
    plan::{FieldPlan, MessagePlan, Shape},
};
use crate::credential::token::Token;

/// Reads a body. An empty one and `null` have no parameters.
///
/// # Errors
/// Returns the position where the body cannot be read, and nothing of its content.
pub fn read(body: &[u8], builder: &mut MessageBuilder<'_>) -> Result<(), String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let result = Root(builder).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    // Only the position is kept, because the text of the error may quote the body.
    result.map_err(|error| format!("line {}, column {}", error.line(), error.column()))
}

/// The body as a whole.
struct Root<'b, 'p>(&'b mut MessageBuilder<'p>);

impl<'de> DeserializeSeed<'de> for Root<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Root<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let builder = self.0;
        let mut keys = Keys::default();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let plan = builder.plan();
            if plan.is_carrier(&key) {
                read_token(&key, map.next_value_seed(ScalarSeed { depth: 1 })?, builder);
            } else if let Some(index) = plan.message.find(&key)
                && let Some(field) = builder.undecided_field(index)
            {
                let parsed = map.next_value_seed(FieldSeed { field, problems: &mut builder.problems, depth: 1 })?;
                builder.set(index, field, parsed);
            } else {
                map.next_value_seed(Ignored { depth: 1 })?;
            }
            keys.push(key);
        }
        keys.end()
    }
}

fn read_token(name: &str, value: ElementValue, builder: &mut MessageBuilder<'_>) {
    match value {
        ElementValue::Null => {}
        ElementValue::Text(text) => builder.tokens.push(Token::new(text)),
        ElementValue::Nested => builder.note(name, Flaw::Invalid),
    }
}

/// The value of one parameter.
struct FieldSeed<'b, 'p> {
    field: &'p FieldPlan,
    problems: &'b mut Vec<Problem>,
    depth: usize,
}

impl FieldSeed<'_, '_> {
    fn parse_scalar(self, scalar: Scalar<'_>) -> Parsed {
        if !self.field.repeated {
            return coerce::single_value(self.field, scalar).into();
        }
        let mut list = Vec::new();
        match coerce::list_elements(self.field, scalar, &mut list) {
            Ok(()) => Parsed::Value(prost_reflect::Value::List(list)),
            Err(flaw) => Parsed::Flawed(flaw),
        }
    }
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_, '_> {
    type Value = Parsed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_, '_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Unset)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
        Ok(self.parse_scalar(Scalar::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Parsed, E> {
        Ok(self.parse_scalar(Scalar::Signed(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Parsed, E> {
        Ok(self.parse_scalar(i64::try_from(value).map_or(Scalar::Unsigned(value), Scalar::Signed)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Parsed, E> {
        Ok(self.parse_scalar(Scalar::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(self.parse_scalar(Scalar::Text(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parsed, A::Error> {
        let depth = next_depth(self.depth)?;
        let mut list = Vec::new();
        let mut flaw = if self.field.repeated { None } else { Some(Flaw::Invalid) };
        while let Some(element) = seq.next_element_seed(ScalarSeed { depth })? {
            let read = match element {
                ElementValue::Null => Ok(()),
                ElementValue::Text(text) if flaw.is_none() => {
                    coerce::list_elements(self.field, Scalar::Text(&text), &mut list)
                }
                ElementValue::Text(_) | ElementValue::Nested => Err(Flaw::Invalid),
            };
            flaw = flaw.or(read.err());
        }
        Ok(flaw.map_or(Parsed::Value(prost_reflect::Value::List(list)), Parsed::Flawed))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Parsed, A::Error> {
        let depth = next_depth(self.depth)?;
        match &self.field.shape {
            Shape::Message(plan) if !self.field.repeated => {
                read_message(plan, &self.field.name, map, self.problems, depth)
            }
            _ => Ignored { depth }.visit_map(map).map(|()| Parsed::Flawed(Flaw::Invalid)),
        }
    }
}

fn read_message<'de, A: MapAccess<'de>>(
    plan: &MessagePlan,
    name: &str,
    mut map: A,
    problems: &mut Vec<Problem>,
    depth: usize,
) -> Result<Parsed, A::Error> {
    let mut message = DynamicMessage::new(plan.descriptor.clone());
    let mut keys = Keys::default();
    let before = problems.len();
    while let Some(key) = map.next_key_seed(KeySeed)? {
        let Some(field) = plan.find(&key).and_then(|index| plan.fields.get(index)) else {
            map.next_value_seed(Ignored { depth })?;
            keys.push(key);
            continue;
        };
        let inner_before = problems.len();
        let flaw = match map.next_value_seed(FieldSeed { field, problems, depth })? {
            Parsed::Value(value) => message.try_set_field(&field.descriptor, value).err().map(|_| Flaw::Invalid),
            Parsed::Flawed(flaw) => Some(flaw),
            Parsed::Unset | Parsed::FlawedInside => None,
        };
        problems.extend(flaw.map(|flaw| Problem { name: field.name.clone(), flaw }));
        for problem in problems.iter_mut().skip(inner_before) {
            problem.name = nested_name(name, &problem.name);
        }
        keys.push(key);
    }
    keys.end()?;
    let fits = problems.len() == before;
    Ok(if fits { Parsed::Value(prost_reflect::Value::Message(message)) } else { Parsed::FlawedInside })
}

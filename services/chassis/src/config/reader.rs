//! Reads merged settings into their types. Where a value does not fit, it says which setting it is and what is allowed there,
//! in words that are not those of the program.

use std::fmt::{self, Display};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IntoDeserializer as _, MapAccess, Visitor, value::SeqDeserializer},
    forward_to_deserialize_any,
};
use toml::{Table, Value, map};

/// A value that a setting does not take.
#[derive(Debug)]
pub struct Mistake {
    /// The setting.
    pub setting: String,
    /// What is wrong with its value.
    pub problem: String,
}

impl Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl std::error::Error for Mistake {}

impl Error for Mistake {
    fn custom<T: Display>(problem: T) -> Self {
        Self { setting: String::new(), problem: problem.to_string() }
    }
}

/// A section, or the value of a setting.
pub enum Reader<'a> {
    Section(&'a Table),
    Value(&'a Value),
}

impl<'a> Reader<'a> {
    /// All settings.
    pub fn new(settings: &'a Table) -> Self {
        Self::Section(settings)
    }

    fn of(value: &'a Value) -> Self {
        match value {
            Value::Table(section) => Self::Section(section),
            other => Self::Value(other),
        }
    }

    /// A whole number that is neither too small nor too large for its type.
    fn whole<V: Visitor<'a>>(self, visitor: V, most: u64) -> Result<V::Value, Mistake> {
        if let Self::Value(Value::Integer(number)) = self
            && !u64::try_from(*number).is_ok_and(|number| number <= most)
        {
            let limit = if most == u64::MAX { "on".to_owned() } else { format!("to {most}") };
            return Err(Mistake::custom(format!("must be a whole number from 0 {limit}")));
        }
        self.deserialize_any(visitor)
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Section(section) => visitor.visit_map(Settings { rest: section.iter(), at: None }),
            Self::Value(Value::Table(section)) => visitor.visit_map(Settings { rest: section.iter(), at: None }),
            Self::Value(Value::String(text)) => visitor.visit_str(text),
            Self::Value(Value::Integer(number)) => visitor.visit_i64(*number),
            Self::Value(Value::Float(number)) => visitor.visit_f64(*number),
            Self::Value(Value::Boolean(truth)) => visitor.visit_bool(*truth),
            Self::Value(Value::Datetime(time)) => visitor.visit_string(time.to_string()),
            Self::Value(Value::Array(values)) => visitor.visit_seq(SeqDeserializer::new(values.iter().map(Reader::of))),
        }
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.whole(visitor, u16::MAX.into())
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.whole(visitor, u32::MAX.into())
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.whole(visitor, u64::MAX)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self {
            Self::Value(Value::String(text)) if variants.contains(&text.as_str()) => {
                visitor.visit_enum(text.as_str().into_deserializer())
            }
            _ => {
                let allowed: Vec<_> = variants.iter().map(|variant| format!("{variant:?}")).collect();
                Err(Mistake::custom(format!("must be {}", allowed.join(" or "))))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl<'de> serde::de::IntoDeserializer<'de, Mistake> for Reader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The settings of a section, one after the other.
struct Settings<'a> {
    rest: map::Iter<'a, String, Value>,
    at: Option<(&'a String, &'a Value)>,
}

impl<'de> MapAccess<'de> for Settings<'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        self.at = self.rest.next();
        self.at.map(|(name, _)| seed.deserialize(name.as_str().into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let (name, value) = self.at.ok_or_else(|| Mistake::custom("has no value"))?;
        seed.deserialize(Reader::of(value)).map_err(|Mistake { setting, problem }| {
            let setting = if setting.is_empty() { name.clone() } else { format!("{name}.{setting}") };
            Mistake { setting, problem }
        })
    }
}

//! Reads merged settings into their types. A value that its type does not take is noted with what is allowed, in the
//! operator's words, and its default is read instead; the crate `config` would stop there and name a Rust type.

use std::{cell::RefCell, collections::BTreeMap};

use config::{ConfigError, Value, ValueKind};
use serde::{
    Deserializer,
    de::{IntoDeserializer, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};

/// A setting or a section.
pub struct Reader<'a> {
    /// The full name.
    setting: String,
    value: &'a Value,
    default: &'a Value,
    /// Each setting whose value was refused, with what is allowed.
    refused: &'a RefCell<Vec<(String, String)>>,
}

impl<'a> Reader<'a> {
    /// Reads all settings.
    pub fn new(settings: &'a Value, defaults: &'a Value, refused: &'a RefCell<Vec<(String, String)>>) -> Self {
        Self { setting: String::new(), value: settings, default: defaults, refused }
    }

    fn refuse(&mut self, allowed: String) {
        self.refused.borrow_mut().push((self.setting.clone(), allowed));
        self.value = self.default;
    }

    /// Refuses a whole number that is negative or greater than `most`.
    fn require_unsigned(mut self, most: u64) -> Self {
        let ValueKind::I64(number) = self.value.kind else { return self };
        if !u64::try_from(number).is_ok_and(|number| number <= most) {
            let limit = if most == u64::MAX { "on".to_owned() } else { format!("to {most}") };
            self.refuse(format!("must be a whole number from 0 {limit}"));
        }
        self
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        let ValueKind::Table(section) = &self.value.kind else {
            let value = self.value.clone().deserialize_any(visitor);
            return value.map_err(|error| ConfigError::Message(format!("{}: {error}", self.setting)));
        };
        let prefix = if self.setting.is_empty() { self.setting } else { self.setting + "." };
        // The crate keeps sections as hash maps; mistakes are reported in the order of the names.
        let section: BTreeMap<_, _> = section.iter().collect();
        let settings = section.into_iter().map(|(name, value)| {
            let setting = format!("{prefix}{name}");
            let default = match &self.default.kind {
                ValueKind::Table(defaults) => defaults.get(name).unwrap_or(value),
                _ => value,
            };
            (name.as_str(), Reader { setting, value, default, refused: self.refused })
        });
        visitor.visit_map(MapDeserializer::new(settings))
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.require_unsigned(u16::MAX.into()).deserialize_any(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.require_unsigned(u32::MAX.into()).deserialize_any(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.require_unsigned(u64::MAX).deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        if !matches!(&self.value.kind, ValueKind::String(text) if variants.contains(&text.as_str())) {
            let allowed: Vec<_> = variants.iter().map(|variant| format!("{variant:?}")).collect();
            self.refuse(format!("must be {}", allowed.join(" or ")));
        }
        self.value.clone().deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ConfigError> for Reader<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

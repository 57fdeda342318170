//! Reads merged settings into their types. Where a value does not fit, the error holds the setting and says what is allowed in
//! the operator's words; the crate `config` would name Rust types.

use config::{ConfigError, Value, ValueKind};
use serde::{
    Deserializer,
    de::{IntoDeserializer, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};

use super::gate::sorted;

/// A setting or a section, with its full name.
pub struct Reader {
    setting: String,
    value: Value,
}

impl Reader {
    /// Reads all settings.
    pub fn new(settings: Value) -> Self {
        Self { setting: String::new(), value: settings }
    }

    /// Refuses a whole number that is negative or greater than `most`.
    fn require_unsigned(&self, most: u64) -> Result<(), ConfigError> {
        match self.value.kind {
            ValueKind::I64(number) if u64::try_from(number).is_err() || number as u64 > most => {
                let limit = if most == u64::MAX { "on".to_owned() } else { format!("to {most}") };
                Err(refusal(&self.setting, ConfigError::Message(format!("must be a whole number from 0 {limit}"))))
            }
            _ => Ok(()),
        }
    }
}

/// Adds the setting to an error, so that it can be reported by the operator's name.
fn refusal(setting: &str, error: ConfigError) -> ConfigError {
    ConfigError::At { error: Box::new(error), origin: None, key: Some(setting.to_owned()) }
}

impl<'de> Deserializer<'de> for Reader {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        let Self { setting, value } = self;
        let ValueKind::Table(section) = value.kind else {
            return value.deserialize_any(visitor).map_err(|error| refusal(&setting, error));
        };
        let prefix = if setting.is_empty() { setting } else { setting + "." };
        let settings = sorted(section).into_iter().map(|(name, value)| {
            let setting = format!("{prefix}{name}");
            (name, Self { setting, value })
        });
        visitor.visit_map(MapDeserializer::new(settings))
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.require_unsigned(u16::MAX.into())?;
        self.deserialize_any(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.require_unsigned(u32::MAX.into())?;
        self.deserialize_any(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.require_unsigned(u64::MAX)?;
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        if matches!(&self.value.kind, ValueKind::String(text) if variants.contains(&text.as_str())) {
            return self.value.deserialize_enum(name, variants, visitor);
        }
        let allowed: Vec<_> = variants.iter().map(|variant| format!("{variant:?}")).collect();
        Err(refusal(&self.setting, ConfigError::Message(format!("must be {}", allowed.join(" or ")))))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ConfigError> for Reader {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

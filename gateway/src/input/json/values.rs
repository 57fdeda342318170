//! The parts of JSON that do not depend on the type of a parameter: keys, single values as text, and ignored values.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The deepest nesting of objects and lists.
const MAX_DEPTH: usize = 32;

/// The keys of one object.
#[derive(Default)]
pub struct Keys<'de>(Vec<Cow<'de, str>>);

impl<'de> Keys<'de> {
    /// Adds a key.
    pub fn push(&mut self, key: Cow<'de, str>) {
        self.0.push(key);
    }

    /// Ends the object. Sorting costs the same for any keys, so that a client cannot choose slow ones.
    ///
    /// # Errors
    /// Fails if a key is repeated.
    pub fn end<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.0.sort_unstable();
        let twice = self.0.windows(2).any(|pair| matches!(pair, [left, right] if left == right));
        if twice { Err(E::custom("a key stands twice")) } else { Ok(()) }
    }
}

/// Reads a key, borrowed from the body unless it contains an escape.
pub struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// A value where a credential or a list element is expected.
pub enum ElementValue {
    /// `null`.
    Null,
    /// A single value.
    Text(String),
    /// A list or an object.
    Nested,
}

/// Reads a single value as text.
pub struct ScalarSeed {
    /// The number of objects and lists around it.
    pub depth: usize,
}

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = ElementValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ElementValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = ElementValue;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<ElementValue, E> {
        Ok(ElementValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<ElementValue, E> {
        Ok(ElementValue::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<ElementValue, E> {
        Ok(ElementValue::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<ElementValue, E> {
        Ok(ElementValue::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<ElementValue, E> {
        Ok(ElementValue::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<ElementValue, E> {
        Ok(ElementValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ElementValue, A::Error> {
        Ignored { depth: self.depth }.visit_seq(seq).map(|()| ElementValue::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ElementValue, A::Error> {
        Ignored { depth: self.depth }.visit_map(map).map(|()| ElementValue::Nested)
    }
}

/// Skips a value that belongs to no parameter, under the same rules as others.
pub struct Ignored {
    /// The number of objects and lists around it.
    pub depth: usize,
}

impl<'de> DeserializeSeed<'de> for Ignored {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Ignored {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let depth = next_depth(self.depth)?;
        while seq.next_element_seed(Ignored { depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth = next_depth(self.depth)?;
        let mut keys = Keys::default();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            map.next_value_seed(Ignored { depth })?;
            keys.push(key);
        }
        keys.end()
    }
}

/// Returns the depth of the next level.
///
/// # Errors
/// Fails if that is too deep.
pub fn next_depth<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(E::custom("nested too deeply")) }
}

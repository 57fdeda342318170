//! The parts of JSON that no parameter's type decides: keys, single values as text, and what nobody asked for.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Objects and lists inside each other, at most.
const MAX_DEPTH: usize = 32;

/// The keys of one object.
#[derive(Default)]
pub struct Keys<'de>(Vec<Cow<'de, str>>);

impl<'de> Keys<'de> {
    /// Adds a key.
    pub fn push(&mut self, key: Cow<'de, str>) {
        self.0.push(key);
    }

    /// Ends the object. Sorting costs the same whatever the keys are, so that nobody can choose slow ones.
    ///
    /// # Errors
    /// If a key stands twice.
    pub fn end<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.0.sort_unstable();
        let twice = self.0.windows(2).any(|pair| matches!(pair, [left, right] if left == right));
        if twice { Err(E::custom("a key stands twice")) } else { Ok(()) }
    }
}

/// A key, borrowed from the body unless it holds an escape.
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

/// What stands where a credential or a list element is expected.
pub enum Carried {
    /// `null`.
    Nothing,
    /// A single value.
    Text(String),
    /// A list or an object.
    Other,
}

/// A single value, as text.
pub struct ScalarSeed {
    /// How many objects and lists it stands in.
    pub depth: usize,
}

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Carried;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Carried, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Carried;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Carried, E> {
        Ok(Carried::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Carried, E> {
        Ok(Carried::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Carried, E> {
        Ok(Carried::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Carried, E> {
        Ok(Carried::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Carried, E> {
        Ok(Carried::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Carried, E> {
        Ok(Carried::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Carried, A::Error> {
        Ignored { depth: self.depth }.visit_seq(seq).map(|()| Carried::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Carried, A::Error> {
        Ignored { depth: self.depth }.visit_map(map).map(|()| Carried::Other)
    }
}

/// A value that nobody asked for. It is still read with the same care.
pub struct Ignored {
    /// How many objects and lists it stands in.
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
        let depth = deeper(self.depth)?;
        while seq.next_element_seed(Ignored { depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth = deeper(self.depth)?;
        let mut keys = Keys::default();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            map.next_value_seed(Ignored { depth })?;
            keys.push(key);
        }
        keys.end()
    }
}

/// The depth one level further down.
///
/// # Errors
/// If that is too deep.
pub fn deeper<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(E::custom("nested too deeply")) }
}

//! The fields that an update changes: those that the mask lists; without a mask, those that are set.

use prost_types::FieldMask;

/// The fields that an update lists. Fields that the message does not have are ignored.
pub struct Mask(Option<Vec<String>>);

impl Mask {
    /// The mask of a request.
    pub fn new(mask: Option<FieldMask>) -> Self {
        Self(mask.map(|mask| mask.paths))
    }

    /// The new value of a field that can be empty: none is a field that is to be cleared.
    pub fn clearable<T>(&self, field: &str, value: Option<T>) -> Option<Option<T>> {
        match &self.0 {
            None => value.map(Some),
            Some(listed) => listed.iter().any(|path| path == field).then_some(value),
        }
    }

    /// The new value of a field that always has one: cleared means its default.
    pub fn value<T: Default>(&self, field: &str, value: Option<T>) -> Option<T> {
        self.value_or(field, value, T::default())
    }

    /// As [`value`](Self::value), with another default.
    pub fn value_or<T>(&self, field: &str, value: Option<T>, default: T) -> Option<T> {
        self.clearable(field, value).map(|value| value.unwrap_or(default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: Option<&[&str]>) -> Mask {
        Mask::new(paths.map(|paths| FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }))
    }

    #[test]
    fn the_mask_decides_and_without_one_the_presence() {
        type Case = (Option<&'static [&'static str]>, Option<i64>, Option<Option<i64>>);
        let cases: [Case; 6] = [
            (None, None, None),
            (None, Some(1), Some(Some(1))),
            (Some(&[]), Some(1), None),
            (Some(&["other", "unknown"]), Some(1), None),
            (Some(&["field"]), Some(1), Some(Some(1))),
            (Some(&["other", "field"]), None, Some(None)),
        ];
        for (paths, value, expected) in cases {
            assert_eq!(mask(paths).clearable("field", value), expected, "{paths:?} {value:?}");
        }
        assert_eq!(mask(Some(&["field"])).value::<bool>("field", None), Some(false));
        assert_eq!(mask(Some(&["field"])).value_or("field", None, 7), Some(7));
        assert_eq!(mask(None).value::<bool>("field", None), None);
    }
}

//! Converts single values, as clients write them, into values of a parameter's type.
//!
//! GitLab's API is built with Grape, and clients rely on what it lets pass: "1" for true, "123" for a number, a comma
//! list for a list. Source: <https://docs.gitlab.com/api/rest/>,
//! <https://github.com/ruby-grape/grape#parameter-validation-and-coercion>.

use prost_reflect::Value;

use super::plan::{FieldPlan, Shape};

/// The most elements of a list. The services have lower limits with better messages; this one keeps a small body from
/// becoming a large message before the client is authenticated.
const MAX_ELEMENTS: usize = 256;

/// A flaw of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It is required and was not sent.
    Missing,
    /// It has the wrong type.
    Invalid,
    /// It has the right type and a value outside its list or bounds.
    NotAValidValue,
}

impl Flaw {
    /// Returns the text that follows the name of the parameter in a refusal.
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "is missing",
            Self::Invalid => "is invalid",
            Self::NotAValidValue => "does not have a valid value",
        }
    }
}

/// A single value of a request.
#[derive(Debug, Clone, Copy)]
pub enum Scalar<'a> {
    /// A JSON truth value.
    Bool(bool),
    /// A JSON number that is whole and signed.
    Signed(i64),
    /// A JSON number that is whole and too large for a signed one.
    Unsigned(u64),
    /// A JSON number with a fraction or an exponent.
    Float(f64),
    /// Text: a JSON string, or any value of a query or form.
    Text(&'a str),
}

/// Reads a value for a parameter that is not a list. `None` means that the parameter counts as sent and empty.
///
/// # Errors
/// Returns the flaw of the value.
pub fn single_value(field: &FieldPlan, scalar: Scalar<'_>) -> Result<Option<Value>, Flaw> {
    if is_blank(scalar) && !matches!(field.shape, Shape::Text | Shape::Enum(_)) {
        return Ok(None);
    }
    let value = match &field.shape {
        Shape::Bool => Value::Bool(to_boolean(scalar)?),
        Shape::Int32 => Value::I32(i32::try_from(to_integer(scalar)?).map_err(|_| Flaw::Invalid)?),
        Shape::Int64 => Value::I64(i64::try_from(to_integer(scalar)?).map_err(|_| Flaw::Invalid)?),
        Shape::Uint32 => Value::U32(u32::try_from(to_integer(scalar)?).map_err(|_| Flaw::Invalid)?),
        Shape::Uint64 => Value::U64(u64::try_from(to_integer(scalar)?).map_err(|_| Flaw::Invalid)?),
        Shape::Text => Value::String(to_text(scalar)?),
        Shape::Enum(names) => Value::EnumNumber(enum_number(names, &to_text(scalar)?)?),
        Shape::Message(_) => return Err(Flaw::Invalid),
    };
    check_bounds(field, &value)?;
    Ok(Some(value))
}

/// Reads one element, or a comma list of elements, and appends to the list.
///
/// # Errors
/// Returns the flaw of the first element that has one.
pub fn list_elements(field: &FieldPlan, scalar: Scalar<'_>, list: &mut Vec<Value>) -> Result<(), Flaw> {
    let Scalar::Text(text) = scalar else { return push_element(field, scalar, list) };
    let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.try_for_each(|part| push_element(field, Scalar::Text(part), list))
}

/// Appends the value to the list, which holds at most [`MAX_ELEMENTS`].
fn push_element(field: &FieldPlan, scalar: Scalar<'_>, list: &mut Vec<Value>) -> Result<(), Flaw> {
    list.extend(single_value(field, scalar)?);
    if list.len() <= MAX_ELEMENTS { Ok(()) } else { Err(Flaw::Invalid) }
}

fn is_blank(scalar: Scalar<'_>) -> bool {
    matches!(scalar, Scalar::Text(text) if text.trim().is_empty())
}

fn to_boolean(scalar: Scalar<'_>) -> Result<bool, Flaw> {
    match scalar {
        Scalar::Bool(value) => Ok(value),
        Scalar::Signed(1) => Ok(true),
        Scalar::Signed(0) => Ok(false),
        Scalar::Text(
            "1" | "t" | "T" | "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON",
        ) => Ok(true),
        Scalar::Text(
            "0" | "f" | "F" | "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF",
        ) => Ok(false),
        Scalar::Signed(_) | Scalar::Unsigned(_) | Scalar::Float(_) | Scalar::Text(_) => Err(Flaw::Invalid),
    }
}

fn to_integer(scalar: Scalar<'_>) -> Result<i128, Flaw> {
    match scalar {
        Scalar::Signed(value) => Ok(i128::from(value)),
        Scalar::Unsigned(value) => Ok(i128::from(value)),
        // Clients in languages with one number type write 3600.0; up to 2^53 that names exactly one integer.
        #[allow(clippy::cast_possible_truncation)] // bounded in the guard
        Scalar::Float(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => Ok(value as i128),
        Scalar::Text(text) => text.trim().parse().map_err(|_| Flaw::Invalid),
        Scalar::Float(_) | Scalar::Bool(_) => Err(Flaw::Invalid),
    }
}

fn to_text(scalar: Scalar<'_>) -> Result<String, Flaw> {
    match scalar {
        // Postgres cannot store NUL.
        Scalar::Text(text) if text.contains('\0') => Err(Flaw::Invalid),
        Scalar::Text(text) => Ok(text.to_owned()),
        Scalar::Bool(value) => Ok(value.to_string()),
        Scalar::Signed(value) => Ok(value.to_string()),
        Scalar::Unsigned(value) => Ok(value.to_string()),
        Scalar::Float(value) => Ok(value.to_string()),
    }
}

fn enum_number(names: &[(String, i32)], text: &str) -> Result<i32, Flaw> {
    names.iter().find(|(name, _)| name == text).map(|(_, number)| *number).ok_or(Flaw::NotAValidValue)
}

fn check_bounds(field: &FieldPlan, value: &Value) -> Result<(), Flaw> {
    let Some((minimum, maximum)) = field.bounds else { return Ok(()) };
    let number = match value {
        Value::I32(value) => i128::from(*value),
        Value::I64(value) => i128::from(*value),
        Value::U32(value) => i128::from(*value),
        Value::U64(value) => i128::from(*value),
        _ => return Ok(()),
    };
    let inside = (i128::from(minimum)..=i128::from(maximum)).contains(&number);
    if inside { Ok(()) } else { Err(Flaw::NotAValidValue) }
}

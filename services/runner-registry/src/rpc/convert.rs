//! Between the values of messages and those of the records.

use proto::paddock::directory::v1::Visibility as Message;

use crate::{
    entity::Visibility,
    error::{Error, FieldErrors, Result},
};

/// The greatest interval that a setting can have, in seconds: a hundred years.
const MAX_INTERVAL: i64 = 3_155_760_000;

/// The visibility that a message names.
///
/// # Errors
/// [`Error::ParameterInvalid`] for a number that the contract does not have.
pub fn visibility(message: i32) -> Result<Visibility> {
    match Message::try_from(message) {
        Ok(Message::Private) => Ok(Visibility::Private),
        Ok(Message::Internal) => Ok(Visibility::Internal),
        Ok(Message::Public) => Ok(Visibility::Public),
        Ok(Message::Unspecified) | Err(_) => {
            Err(Error::ParameterInvalid("visibility does not have a valid value".to_owned()))
        }
    }
}

/// The visibility as messages name it.
pub fn visibility_message(visibility: Visibility) -> i32 {
    let message = match visibility {
        Visibility::Private => Message::Private,
        Visibility::Internal => Message::Internal,
        Visibility::Public => Message::Public,
    };
    message.into()
}

/// Checks an interval in seconds.
pub fn check_interval(errors: &mut FieldErrors, field: &'static str, interval: Option<i64>) {
    let Some(interval) = interval else { return };
    if interval < 1 {
        errors.push(field, "must be greater than or equal to 1");
    }
    if interval > MAX_INTERVAL {
        errors.push(field, format!("must be less than or equal to {MAX_INTERVAL}"));
    }
}

//! Conversions between messages and records, and checks that several services share.

use chassis::{access::User, db::paging::Window};
use proto::paddock::directory::v1::Visibility as Message;
use tonic::Status;

use super::mask::Mask;
use crate::{
    directory::{paths, text},
    entity::Visibility,
    error::{Error, FieldErrors, Result},
    store::search::Listing,
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

/// The visibility that an update asks for; cleared means private.
pub fn changed_visibility(mask: &Mask, message: Option<i32>) -> Result<Option<Visibility>> {
    let private = visibility_message(Visibility::Private);
    mask.value_or("visibility", message, private).map(visibility).transpose()
}

/// The parameters that lists of groups and of projects share.
pub fn listing<'a>(
    user: &User,
    page: Option<i32>,
    per_page: Option<i32>,
    search: Option<&'a str>,
) -> Result<Listing<'a>, Status> {
    Ok(Listing {
        window: Window::new(page, per_page)?,
        search: text::search("search", search)?,
        seen_by: (!user.admin).then_some(user.id),
    })
}

/// Checks the texts of a group or a project, those that are given.
pub fn check_texts(
    errors: &mut FieldErrors,
    name: Option<&str>,
    path: Option<&str>,
    description: Option<&str>,
    max_description: usize,
) {
    if let Some(name) = name {
        text::check_required(errors, "name", name, text::MAX_NAME);
    }
    if let Some(path) = path {
        paths::check_segment(errors, "path", path);
    }
    text::check_optional(errors, "description", description, max_description);
}

/// The interval in seconds that an update asks for.
pub fn changed_interval(
    errors: &mut FieldErrors,
    mask: &Mask,
    field: &'static str,
    interval: Option<i64>,
) -> Option<Option<i64>> {
    let change = mask.clearable(field, interval);
    check_interval(errors, field, change.flatten());
    change
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

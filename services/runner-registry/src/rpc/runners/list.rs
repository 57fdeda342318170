//! The parameters that all lists of runners share.

use chassis::db::paging::Window;
use proto::paddock::runner::v1 as message;

use super::message::{not_in_list, runner_type};
use crate::{
    directory::text,
    entity::runner::RunnerType,
    error::{Error, Result},
    runner::{
        status::RunnerStatus,
        validation::{MAX_NAME as MAX_INFO, MAX_TAGS, normalize_tags},
    },
    store::runner_lists::Filter,
};

/// The parameters as they came.
#[derive(Debug, Default)]
pub struct Parameters {
    /// Deprecated: one word for a type or a status.
    pub scope: Option<String>,
    /// Only runners of this type.
    pub runner_type: Option<i32>,
    /// Only runners with this status.
    pub status: Option<i32>,
    /// Only paused, or only active runners.
    pub paused: Option<bool>,
    /// Only runners with all these tags.
    pub tag_list: Vec<String>,
    /// Only runners that have a manager whose version starts with it.
    pub version_prefix: Option<String>,
    /// The page.
    pub page: Option<i32>,
    /// How many items a page holds.
    pub per_page: Option<i32>,
}

impl Parameters {
    /// The filter and the part of the list that they mean.
    pub fn read(self) -> Result<(Filter, Window)> {
        let mut filter = Filter { tags: normalize_tags(&self.tag_list), ..Filter::default() };
        filter.types.extend(self.runner_type.map(known_type).transpose()?);
        filter.paused.extend(self.paused);
        if let Some(status) = self.status {
            add_status(&mut filter, status)?;
        }
        if let Some(scope) = self.scope.filter(|scope| !scope.is_empty()) {
            add_scope(&mut filter, &scope)?;
        }
        check_tags(&filter.tags)?;
        filter.version_prefix = self.version_prefix.map(check_version).transpose()?;
        let window = Window::new(self.page, self.per_page);
        Ok((filter, window.map_err(|refusal| Error::ParameterInvalid(refusal.message().to_owned()))?))
    }
}

fn known_type(value: i32) -> Result<RunnerType> {
    runner_type("type", value)?.ok_or_else(|| not_in_list("type"))
}

fn add_status(filter: &mut Filter, status: i32) -> Result<()> {
    match message::RunnerStatus::try_from(status) {
        Ok(message::RunnerStatus::Online) => filter.statuses.push(RunnerStatus::Online),
        Ok(message::RunnerStatus::Offline) => filter.statuses.push(RunnerStatus::Offline),
        Ok(message::RunnerStatus::Stale) => filter.statuses.push(RunnerStatus::Stale),
        Ok(message::RunnerStatus::NeverContacted) => filter.statuses.push(RunnerStatus::NeverContacted),
        Ok(message::RunnerStatus::Active) => filter.paused.push(false),
        Ok(message::RunnerStatus::Paused) => filter.paused.push(true),
        Ok(message::RunnerStatus::Unspecified) | Err(_) => return Err(not_in_list("status")),
    }
    Ok(())
}

fn add_scope(filter: &mut Filter, scope: &str) -> Result<()> {
    match scope {
        "shared" | "instance_type" => filter.types.push(RunnerType::Instance),
        "group_type" => filter.types.push(RunnerType::Group),
        "specific" | "project_type" => filter.types.push(RunnerType::Project),
        "active" => filter.paused.push(false),
        "paused" => filter.paused.push(true),
        "online" => filter.statuses.push(RunnerStatus::Online),
        "offline" => filter.statuses.push(RunnerStatus::Offline),
        "never_contacted" => filter.statuses.push(RunnerStatus::NeverContacted),
        "stale" => filter.statuses.push(RunnerStatus::Stale),
        _ => return Err(Error::ScopeInvalid),
    }
    Ok(())
}

/// Allows as many tags as a runner can have. Each tag is a condition, and a query with thousands of them overflows the
/// stack.
fn check_tags(tags: &[String]) -> Result<()> {
    if tags.len() > MAX_TAGS {
        return Err(Error::ParameterInvalid("tag_list is invalid".to_owned()));
    }
    tags.iter().try_for_each(|tag| text::forbid_nul("tag_list", tag))
}

/// Allows digits, dots and `+`, which have no meaning in a pattern, and the length of a version.
fn check_version(prefix: String) -> Result<String> {
    let is_clean = prefix.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'+');
    if is_clean && (1..=MAX_INFO).contains(&prefix.len()) {
        Ok(prefix)
    } else {
        Err(Error::ParameterInvalid("version_prefix is invalid".to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_the_scope_means_a_type_or_a_status() {
        let words = [
            "specific",
            "shared",
            "active",
            "paused",
            "online",
            "offline",
            "never_contacted",
            "stale",
            "instance_type",
            "group_type",
            "project_type",
        ];
        for word in words {
            let parameters = Parameters { scope: Some(word.to_owned()), ..Parameters::default() };
            let (filter, _) = parameters.read().unwrap();
            assert_eq!(filter.types.len() + filter.statuses.len() + filter.paused.len(), 1, "{word}");
        }
        for word in ["Online", "online ", "all", "\0"] {
            let parameters = Parameters { scope: Some(word.to_owned()), ..Parameters::default() };
            assert!(matches!(parameters.read(), Err(Error::ScopeInvalid)), "{word}");
        }
    }

    #[test]
    fn a_version_prefix_has_digits_dots_and_plus() {
        for prefix in ["18", "18.", "18.4.0", "17+1"] {
            assert!(check_version(prefix.to_owned()).is_ok(), "{prefix}");
        }
        assert!(check_version("1".repeat(256)).is_ok());
        let over = "1".repeat(257);
        for prefix in ["", "v18", "18%", "1_8", "18.4-rc1", "\u{661}", "1\0", &over] {
            assert!(check_version(prefix.to_owned()).is_err(), "{prefix}");
        }
    }

    #[test]
    fn numbers_outside_the_lists_are_refused() {
        for value in [-1, 0, 4, i32::MAX] {
            let parameters = Parameters { runner_type: Some(value), ..Parameters::default() };
            assert!(matches!(parameters.read(), Err(Error::ParameterInvalid(_))), "{value}");
        }
        for value in [-1, 0, 7, i32::MAX] {
            let parameters = Parameters { status: Some(value), ..Parameters::default() };
            assert!(matches!(parameters.read(), Err(Error::ParameterInvalid(_))), "{value}");
        }
    }
}

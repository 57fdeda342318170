//! The parameters that several services share, and the refusals of wrong ones.

use chassis::status::Refusal;
use proto::paddock::{contract::v1::Reason, job_token::v1::JobTokenPolicy};

use crate::allowlist::policy;

/// Makes a refusal with `PARAMETER_INVALID`.
pub fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::new(Reason::ParameterInvalid).with_message(text)
}

/// Makes a refusal with `PARAMETER_INVALID` for a parameter that has none of its valid values.
pub fn invalid_value(name: &str) -> Refusal {
    invalid(format!("{name} does not have a valid value"))
}

/// Reads a policy.
///
/// # Errors
/// A refusal with `PARAMETER_INVALID` for a number that the contract does not have.
pub fn policy(name: &str, number: i32) -> Result<JobTokenPolicy, Refusal> {
    policy::from_number(number).ok_or_else(|| invalid_value(name))
}

/// Reads the parameter `job_token_policies`.
///
/// # Errors
/// As [`policy`].
pub fn job_token_policies(numbers: &[i32]) -> Result<Vec<JobTokenPolicy>, Refusal> {
    numbers.iter().map(|number| policy("job_token_policies", *number)).collect()
}

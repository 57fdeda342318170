//! The names of policies, as tables and messages write them.

use proto::paddock::job_token::v1::JobTokenPolicy;

/// The prefix of the name of every policy in the contract.
const PREFIX: &str = "JOB_TOKEN_POLICY_";

/// Returns the name in REST: `read_jobs`.
#[must_use]
pub fn name(policy: JobTokenPolicy) -> String {
    policy.as_str_name().trim_start_matches(PREFIX).to_ascii_lowercase()
}

/// Returns the policy with the name.
#[must_use]
pub fn from_name(name: &str) -> Option<JobTokenPolicy> {
    JobTokenPolicy::from_str_name(&format!("{PREFIX}{}", name.to_ascii_uppercase()))
}

/// Returns the policy with the number in the contract; none for unknown numbers and for the unspecified policy.
#[must_use]
pub fn from_number(number: i32) -> Option<JobTokenPolicy> {
    JobTokenPolicy::try_from(number).ok().filter(|policy| *policy != JobTokenPolicy::Unspecified)
}

/// Returns the form of a list in tables: the names, sorted, without duplicates, separated by commas.
#[must_use]
pub fn join(policies: &[JobTokenPolicy]) -> String {
    let mut names: Vec<_> = policies.iter().map(|policy| name(*policy)).collect();
    names.sort();
    names.dedup();
    names.join(",")
}

/// Reads the list from its form in tables. Names that this version does not know are skipped; they grant nothing.
#[must_use]
pub fn split(names: &str) -> Vec<JobTokenPolicy> {
    names.split(',').filter_map(from_name).collect()
}

#[cfg(test)]
mod tests {
    use JobTokenPolicy::{AdminSecureFiles, ReadJobs};

    use super::*;

    #[test]
    fn a_list_survives_the_table() {
        let joined = join(&[ReadJobs, AdminSecureFiles, ReadJobs]);
        assert_eq!(joined, "admin_secure_files,read_jobs");
        assert_eq!(split(&joined), [AdminSecureFiles, ReadJobs]);
        assert_eq!(split(""), []);
        assert_eq!(split("read_jobs,of_a_later_version"), [ReadJobs]);
    }
}

//! Policies as the tables and the messages write them.

use proto::paddock::job_token::v1::JobTokenPolicy;

/// What the name of every policy in the contract begins with.
const PREFIX: &str = "JOB_TOKEN_POLICY_";

/// The name as REST writes it: `read_jobs`.
#[must_use]
pub fn name(policy: JobTokenPolicy) -> String {
    policy.as_str_name().trim_start_matches(PREFIX).to_ascii_lowercase()
}

/// The policy with the name.
#[must_use]
pub fn from_name(name: &str) -> Option<JobTokenPolicy> {
    JobTokenPolicy::from_str_name(&format!("{PREFIX}{}", name.to_ascii_uppercase()))
}

/// The names, sorted, each once, separated by commas: how the tables keep a list.
#[must_use]
pub fn join(policies: &[JobTokenPolicy]) -> String {
    let mut names: Vec<_> = policies.iter().map(|policy| name(*policy)).collect();
    names.sort();
    names.dedup();
    names.join(",")
}

/// The list that a table keeps. A name that this version does not know grants nothing, and is left out.
#[must_use]
pub fn split(names: &str) -> Vec<JobTokenPolicy> {
    names.split(',').filter_map(from_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use JobTokenPolicy::{AdminSecureFiles, ReadJobs};

    #[test]
    fn a_list_survives_the_table() {
        let kept = join(&[ReadJobs, AdminSecureFiles, ReadJobs]);
        assert_eq!(kept, "admin_secure_files,read_jobs");
        assert_eq!(split(&kept), [AdminSecureFiles, ReadJobs]);
        assert_eq!(split(""), []);
        assert_eq!(split("read_jobs,of_a_later_version"), [ReadJobs]);
    }
}

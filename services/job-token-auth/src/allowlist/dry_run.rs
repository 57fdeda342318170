//! What an allowlist would have done to recorded accesses. The rules are those of a real access, so a dry run predicts what jobs
//! will get.

use std::collections::{BTreeMap, HashMap};

use proto::paddock::job_token::v1::JobTokenPolicy;

use super::rules::{Denied, Origin, Scope};

/// Accesses by one project over one route that required the same policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteUsage {
    /// The project of the jobs.
    pub origin_project_id: i64,
    /// Verb and path template.
    pub route: String,
    /// The policies that the route required.
    pub policies: Vec<JobTokenPolicy>,
    /// The number of accesses.
    pub count: i64,
    /// The latest access, in milliseconds.
    pub last_authorized_at: i64,
}

/// The result of a dry run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DryRunResult {
    /// The number of accesses.
    pub examined: i64,
    /// The number of accesses that would have been allowed.
    pub allowed: i64,
    /// The accesses that would have been refused, one item for each project and route, the most frequent first.
    pub refusals: Vec<RefusedUsage>,
}

/// Accesses by one project over one route that would have been refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedUsage {
    /// The project of the jobs.
    pub origin: Origin,
    /// Verb and path template.
    pub route: String,
    /// The number of accesses.
    pub count: i64,
    /// The latest access, in milliseconds.
    pub last_authorized_at: i64,
    /// Why the latest access would have been refused.
    pub denied: Denied,
    /// The missing policies.
    pub missing: Vec<JobTokenPolicy>,
}

/// Decides each access. An origin that is missing in `origins` is deleted; only an entry for the project itself lets it in.
pub fn dry_run(scope: &Scope, usages: &[RouteUsage], origins: &HashMap<i64, Origin>) -> DryRunResult {
    let mut result = DryRunResult::default();
    let mut refusals = BTreeMap::<(i64, &str), RefusedUsage>::new();
    for usage in usages {
        result.examined += usage.count;
        let id = usage.origin_project_id;
        let origin = origins.get(&id).cloned().unwrap_or_else(|| deleted_origin(id));
        match scope.admit(&origin, &usage.policies) {
            Ok(_) => result.allowed += usage.count,
            Err(denied) => {
                let refused = RefusedUsage::new(origin, usage, denied);
                refusals.entry((id, &usage.route)).and_modify(|earlier| earlier.merge(&refused)).or_insert(refused);
            }
        }
    }
    result.refusals = refusals.into_values().collect();
    // The sort is stable: equally frequent items stay in the order of their projects and routes.
    result.refusals.sort_by_key(|refused| std::cmp::Reverse(refused.count));
    result
}

fn deleted_origin(id: i64) -> Origin {
    Origin { id, full_path: String::new(), ancestors: Vec::new() }
}

impl RefusedUsage {
    fn new(origin: Origin, usage: &RouteUsage, denied: Denied) -> Self {
        let missing = match &denied {
            Denied::PoliciesMissing(missing) => missing.clone(),
            _ => Vec::new(),
        };
        Self {
            origin,
            route: usage.route.clone(),
            count: usage.count,
            last_authorized_at: usage.last_authorized_at,
            denied,
            missing,
        }
    }

    /// Adds accesses by the same project over the same route. They can have required other policies, since the settings of a
    /// route change.
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.missing.extend_from_slice(&other.missing);
        self.missing.sort();
        self.missing.dedup();
        if other.last_authorized_at > self.last_authorized_at {
            self.last_authorized_at = other.last_authorized_at;
            self.denied = other.denied.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use JobTokenPolicy::{AdminJobs, ReadJobs, ReadPackages};

    use super::*;
    use crate::allowlist::rules::Grant;

    fn usage(origin: i64, route: &str, policies: &[JobTokenPolicy], count: i64, at: i64) -> RouteUsage {
        RouteUsage {
            origin_project_id: origin,
            route: route.to_owned(),
            policies: policies.to_vec(),
            count,
            last_authorized_at: at,
        }
    }

    fn origin(id: i64, ancestors: &[i64]) -> Origin {
        Origin { id, full_path: format!("p{id}"), ancestors: ancestors.to_vec() }
    }

    fn only(policies: &[JobTokenPolicy]) -> Grant {
        Grant::Policies(BTreeSet::from_iter(policies.iter().copied()))
    }

    #[test]
    fn accesses_are_counted_and_refusals_are_merged_by_project_and_route() {
        let scope = Scope {
            inbound_enabled: true,
            projects: HashMap::from([(1, Grant::Everything), (3, only(&[ReadJobs]))]),
            groups: HashMap::from([(70, only(&[ReadPackages]))]),
        };
        let origins = [origin(1, &[]), origin(2, &[7, 70]), origin(3, &[7, 70]), origin(4, &[8])];
        let origins: HashMap<_, _> = origins.into_iter().map(|origin| (origin.id, origin)).collect();
        let usages = [
            usage(1, "GET a", &[AdminJobs], 5, 10),
            usage(2, "GET a", &[ReadPackages], 2, 20),
            usage(2, "GET b", &[AdminJobs], 3, 30),
            usage(2, "GET b", &[ReadJobs, ReadPackages], 4, 40),
            usage(3, "GET a", &[ReadJobs], 1, 50),
            usage(3, "GET c", &[], 1, 60),
            usage(4, "GET a", &[ReadJobs], 9, 70),
            usage(5, "GET a", &[ReadJobs], 1, 80),
        ];
        let result = dry_run(&scope, &usages, &origins);
        assert_eq!((result.examined, result.allowed), (26, 8));
        let refusals: Vec<_> = result
            .refusals
            .iter()
            .map(|refused| {
                (
                    refused.origin.id,
                    refused.route.as_str(),
                    refused.count,
                    refused.last_authorized_at,
                    refused.missing.as_slice(),
                )
            })
            .collect();
        assert_eq!(
            refusals,
            [
                (4, "GET a", 9, 70, [].as_slice()),
                (2, "GET b", 7, 40, &[ReadJobs, AdminJobs]),
                (3, "GET c", 1, 60, &[]),
                (5, "GET a", 1, 80, &[]),
            ]
        );
        let reasons: Vec<_> = result.refusals.iter().map(|refused| refused.denied.clone()).collect();
        let missing = Denied::PoliciesMissing(vec![ReadJobs]);
        assert_eq!(reasons, [Denied::NotInScope, missing, Denied::RouteUnauthorized, Denied::NotInScope]);
    }
}

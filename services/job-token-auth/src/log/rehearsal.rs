//! What an allowlist would have made of recorded accesses. It is decided by the same rules as a real access, so that a
//! rehearsal and the day after it tell the same.

use std::collections::{BTreeMap, HashMap};

use proto::paddock::job_token::v1::JobTokenPolicy;

use crate::scope::{Denied, Origin, Scope};

/// Accesses by one project over one route that required the same policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The project whose jobs reached.
    pub origin_project_id: i64,
    /// Verb and path template.
    pub route: String,
    /// The policies that the route required.
    pub policies: Vec<JobTokenPolicy>,
    /// How many there were.
    pub count: i64,
    /// The latest, in milliseconds.
    pub last_authorized_at: i64,
}

/// What would have happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many accesses were looked at.
    pub examined: i64,
    /// How many of them would have been allowed.
    pub allowed: i64,
    /// The others, one item for each project and route, the most frequent first.
    pub refusals: Vec<Refused>,
}

/// Accesses that would have been refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The project whose jobs reached.
    pub origin: Origin,
    /// Verb and path template.
    pub route: String,
    /// How many.
    pub count: i64,
    /// The latest, in milliseconds.
    pub last_authorized_at: i64,
    /// Why the latest would have been refused.
    pub denied: Denied,
    /// The policies that are missing.
    pub missing: Vec<JobTokenPolicy>,
}

/// Decides each access. An origin that is not among the given ones is deleted; only an entry of its own would let it in.
pub fn rehearse(scope: &Scope, uses: &[Use], origins: &HashMap<i64, Origin>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut refusals = BTreeMap::<(i64, &str), Refused>::new();
    for used in uses {
        outcome.examined += used.count;
        let id = used.origin_project_id;
        let deleted = || Origin { id, full_path: String::new(), ancestors: Vec::new() };
        let origin = origins.get(&id).cloned().unwrap_or_else(deleted);
        match scope.admit(&origin, &used.policies) {
            Ok(_) => outcome.allowed += used.count,
            Err(denied) => {
                let refused = refused(origin, used, denied);
                refusals.entry((id, &used.route)).and_modify(|earlier| earlier.merge(&refused)).or_insert(refused);
            }
        }
    }
    outcome.refusals = refusals.into_values().collect();
    // The sort is stable, so that equally frequent ones stay in the order of their projects and routes.
    outcome.refusals.sort_by_key(|refused| std::cmp::Reverse(refused.count));
    outcome
}

fn refused(origin: Origin, used: &Use, denied: Denied) -> Refused {
    let missing = match &denied {
        Denied::PoliciesMissing(missing) => missing.clone(),
        _ => Vec::new(),
    };
    Refused {
        origin,
        route: used.route.clone(),
        count: used.count,
        last_authorized_at: used.last_authorized_at,
        denied,
        missing,
    }
}

impl Refused {
    /// Adds accesses by the same project over the same route, which required other policies when its setting was another.
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
    use crate::scope::Grant;

    fn used(origin: i64, route: &str, policies: &[JobTokenPolicy], count: i64, at: i64) -> Use {
        let (route, policies) = (route.to_owned(), policies.to_vec());
        Use { origin_project_id: origin, route, policies, count, last_authorized_at: at }
    }

    fn origin(id: i64, ancestors: &[i64]) -> Origin {
        Origin { id, full_path: format!("p{id}"), ancestors: ancestors.to_vec() }
    }

    fn only(policies: &[JobTokenPolicy]) -> Grant {
        Grant::Policies(BTreeSet::from_iter(policies.iter().copied()))
    }

    fn scope(projects: &[(i64, Grant)], groups: &[(i64, Grant)]) -> Scope {
        let map = |entries: &[(i64, Grant)]| entries.iter().cloned().collect();
        Scope { inbound_enabled: true, projects: map(projects), groups: map(groups) }
    }

    #[test]
    fn accesses_are_counted_and_refusals_are_put_together_by_project_and_route() {
        let scope = scope(&[(1, Grant::Everything), (3, only(&[ReadJobs]))], &[(70, only(&[ReadPackages]))]);
        let origins = [origin(1, &[]), origin(2, &[7, 70]), origin(3, &[7, 70]), origin(4, &[8])];
        let origins: HashMap<_, _> = origins.into_iter().map(|origin| (origin.id, origin)).collect();
        let uses = [
            used(1, "GET a", &[AdminJobs], 5, 10),
            used(2, "GET a", &[ReadPackages], 2, 20),
            used(2, "GET b", &[AdminJobs], 3, 30),
            used(2, "GET b", &[ReadJobs, ReadPackages], 4, 40),
            used(3, "GET a", &[ReadJobs], 1, 50),
            used(3, "GET c", &[], 1, 60),
            used(4, "GET a", &[ReadJobs], 9, 70),
            used(5, "GET a", &[ReadJobs], 1, 80),
        ];
        let outcome = rehearse(&scope, &uses, &origins);
        assert_eq!((outcome.examined, outcome.allowed), (26, 8));
        let told: Vec<_> = outcome
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
            told,
            [
                (4, "GET a", 9, 70, [].as_slice()),
                (2, "GET b", 7, 40, &[ReadJobs, AdminJobs]),
                (3, "GET c", 1, 60, &[]),
                (5, "GET a", 1, 80, &[]),
            ]
        );
        let why: Vec<_> = outcome.refusals.iter().map(|refused| refused.denied.clone()).collect();
        let missing = Denied::PoliciesMissing(vec![ReadJobs]);
        assert_eq!(why, [Denied::NotInScope, missing, Denied::RouteUnauthorized, Denied::NotInScope]);
    }
}

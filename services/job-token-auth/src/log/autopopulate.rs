//! Turns evidence into an allowlist: which entries let in whoever came, and no more than the allowlist can hold.
//!
//! Every project that came gets an entry, unless one that is there lets it in already. If the projects do not fit, groups take
//! the place of projects: first only groups in which projects that came live themselves, then also the groups above these, and
//! so on upwards; of these always the one that takes most projects away. So as few strangers as possible are let in with them.
//! Only groups that the caller sees are taken, as for an entry made by hand. Entries that are there stay as they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::paddock::job_token::v1::JobTokenPolicy;

use crate::scope::Scope;

/// A project that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The id.
    pub project_id: i64,
    /// The group it lives in and all above it, the nearest first.
    pub ancestors: Vec<i64>,
    /// What it used.
    pub policies: BTreeSet<JobTokenPolicy>,
}

/// The entries to add, each with what those used that it lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The projects.
    pub projects: BTreeMap<i64, BTreeSet<JobTokenPolicy>>,
    /// The groups.
    pub groups: BTreeMap<i64, BTreeSet<JobTokenPolicy>>,
}

/// The entries that the visitors need beside those of the scope, if each of the two allowlists holds at most `most` entries.
/// `groups` are those that may take the place of projects. None: they do not fit.
pub fn plan(visitors: &[Visitor], groups: &BTreeSet<i64>, scope: &Scope, most: usize) -> Option<Plan> {
    let new: Vec<_> = visitors.iter().filter(|visitor| !is_covered(visitor, scope)).collect();
    let room =
        Room { projects: most.saturating_sub(scope.projects.len()), groups: most.saturating_sub(scope.groups.len()) };
    let highest = new.iter().map(|visitor| visitor.ancestors.len()).max().unwrap_or(0);
    let choose = |levels| choose(&new, candidates(&new, groups, levels), &room);
    (0..=highest).find_map(choose).map(|chosen| assign(&new, &chosen))
}

fn is_covered(visitor: &Visitor, scope: &Scope) -> bool {
    let by_group = || visitor.ancestors.iter().any(|group| scope.groups.contains_key(group));
    scope.projects.contains_key(&visitor.project_id) || by_group()
}

/// How many entries can be added.
struct Room {
    projects: usize,
    groups: usize,
}

/// A group that could take the place of projects.
#[derive(Default)]
struct Candidate {
    /// Those below it that have no entry yet, by their place in the list.
    below: BTreeSet<usize>,
    /// How many groups are above it.
    depth: usize,
}

/// Candidates that leave no more projects than there is room for.
fn choose(new: &[&Visitor], mut candidates: HashMap<i64, Candidate>, room: &Room) -> Option<BTreeSet<i64>> {
    let (mut chosen, mut left) = (BTreeSet::new(), new.len());
    while left > room.projects {
        if chosen.len() == room.groups {
            return None;
        }
        // Of two that take equally many, the one further down lets in fewer strangers.
        let rank = |(id, group): &(&i64, &Candidate)| (group.below.len(), group.depth, std::cmp::Reverse(**id));
        let best = *candidates.iter().filter(|(_, group)| !group.below.is_empty()).max_by_key(rank)?.0;
        let taken = candidates.remove(&best)?.below;
        left -= taken.len();
        for visitor in &taken {
            for group in new.get(*visitor).iter().flat_map(|visitor| &visitor.ancestors) {
                if let Some(candidate) = candidates.get_mut(group) {
                    candidate.below.remove(visitor);
                }
            }
        }
        chosen.insert(best);
    }
    Some(chosen)
}

/// The groups that are at most so many levels above a visitor.
fn candidates(new: &[&Visitor], groups: &BTreeSet<i64>, levels: usize) -> HashMap<i64, Candidate> {
    let near = new.iter().flat_map(|visitor| visitor.ancestors.iter().take(levels));
    let near: BTreeSet<i64> = near.filter(|group| groups.contains(group)).copied().collect();
    let mut candidates = HashMap::<i64, Candidate>::new();
    for (place, visitor) in new.iter().enumerate() {
        for (depth, group) in visitor.ancestors.iter().rev().enumerate().filter(|(_, group)| near.contains(group)) {
            let candidate = candidates.entry(*group).or_default();
            candidate.below.insert(place);
            candidate.depth = depth;
        }
    }
    candidates
}

/// One entry for each visitor: its highest chosen group, which makes chosen groups below that one needless, or itself.
fn assign(new: &[&Visitor], groups: &BTreeSet<i64>) -> Plan {
    let mut plan = Plan::default();
    for visitor in new {
        let entry = match visitor.ancestors.iter().rev().find(|group| groups.contains(group)) {
            Some(group) => plan.groups.entry(*group).or_default(),
            None => plan.projects.entry(visitor.project_id).or_default(),
        };
        entry.extend(&visitor.policies);
    }
    plan
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use proto::paddock::job_token::v1::JobTokenPolicy::{ReadJobs, ReadPackages};

    use super::*;
    use crate::scope::{Grant, Origin};

    fn visitor(project_id: i64, ancestors: &[i64]) -> Visitor {
        Visitor { project_id, ancestors: ancestors.to_vec(), policies: BTreeSet::from([ReadJobs]) }
    }

    fn scope(projects: &[i64], groups: &[i64]) -> Scope {
        let all = |ids: &[i64]| ids.iter().map(|id| (*id, Grant::Everything)).collect();
        Scope { inbound_enabled: true, projects: all(projects), groups: all(groups) }
    }

    /// The plan of a caller who sees every group.
    fn plan(visitors: &[Visitor], scope: &Scope, most: usize) -> Option<Plan> {
        super::plan(visitors, &visitors.iter().flat_map(|visitor| visitor.ancestors.clone()).collect(), scope, most)
    }

    fn ids(plan: &Plan) -> (Vec<i64>, Vec<i64>) {
        (plan.projects.keys().copied().collect(), plan.groups.keys().copied().collect())
    }

    #[test]
    fn projects_that_fit_get_entries_of_their_own() {
        let visitors = [visitor(1, &[10]), visitor(2, &[10]), visitor(3, &[]), visitor(4, &[11, 12])];
        assert_eq!(ids(&plan(&visitors, &scope(&[], &[]), 4).unwrap()), (vec![1, 2, 3, 4], vec![]));
        assert_eq!(ids(&plan(&visitors, &scope(&[3, 9], &[12]), 4).unwrap()), (vec![1, 2], vec![]));
        assert_eq!(ids(&plan(&[], &scope(&[9], &[]), 1).unwrap()), (vec![], vec![]));
    }

    #[test]
    fn the_nearest_group_that_takes_most_comes_first() {
        let visitors = [
            visitor(1, &[10, 100]),
            visitor(2, &[10, 100]),
            visitor(3, &[11, 100]),
            visitor(4, &[11, 100]),
            visitor(5, &[11, 100]),
            visitor(6, &[12, 100]),
        ];
        for (most, expected) in [
            (6, (vec![1, 2, 3, 4, 5, 6], vec![])),
            (5, (vec![1, 2, 6], vec![11])),
            (4, (vec![1, 2, 6], vec![11])),
            (2, (vec![6], vec![10, 11])),
            // No two groups that projects live in leave one project, so the one above takes all.
            (1, (vec![], vec![100])),
        ] {
            assert_eq!(ids(&plan(&visitors, &scope(&[], &[]), most).unwrap()), expected, "{most}");
        }
        assert_eq!(plan(&visitors, &scope(&[], &[]), 0), None);
    }

    #[test]
    fn what_no_group_can_take_does_not_fit() {
        let personal: Vec<_> = (1..=3).map(|id| visitor(id, &[])).collect();
        assert_eq!(plan(&personal, &scope(&[], &[]), 2), None);
        let mixed = [visitor(1, &[]), visitor(2, &[]), visitor(3, &[10])];
        assert_eq!(ids(&plan(&mixed, &scope(&[], &[]), 2).unwrap()), (vec![1, 2], vec![10]));
        // Neither does it when the other allowlist is full.
        assert_eq!(plan(&mixed, &scope(&[], &[20, 21]), 2), None);
        assert_eq!(plan(&mixed, &scope(&[8, 9], &[]), 2), None);
    }

    #[test]
    fn a_group_that_may_not_be_taken_is_passed_over() {
        let visitors = [visitor(1, &[10, 100]), visitor(2, &[10, 100]), visitor(3, &[11, 100])];
        let seen = |groups: &[i64], most| {
            let groups = BTreeSet::from_iter(groups.iter().copied());
            super::plan(&visitors, &groups, &scope(&[], &[]), most).map(|plan| ids(&plan))
        };
        assert_eq!(seen(&[10, 11, 100], 2), Some((vec![3], vec![10])));
        assert_eq!(seen(&[11, 100], 2), Some((vec![1, 2], vec![11])));
        assert_eq!(seen(&[11, 100], 1), Some((vec![], vec![100])));
        assert_eq!(seen(&[11], 1), None);
        assert_eq!(seen(&[], 3), Some((vec![1, 2, 3], vec![])));
        // An entry that is there counts all the same.
        let covered = super::plan(&visitors, &BTreeSet::new(), &scope(&[], &[10]), 1);
        assert_eq!(covered.map(|plan| ids(&plan)), Some((vec![3], vec![])));
    }

    #[test]
    fn an_entry_grants_what_all_used_that_it_lets_in() {
        let mut visitors = [visitor(1, &[10]), visitor(2, &[10]), visitor(3, &[])];
        visitors[1].policies = BTreeSet::from([ReadPackages]);
        let plan = plan(&visitors, &scope(&[], &[]), 1).unwrap();
        assert_eq!(plan.groups[&10], BTreeSet::from([ReadJobs, ReadPackages]));
        assert_eq!(plan.projects[&3], BTreeSet::from([ReadJobs]));
    }

    /// A tree of groups: the one above `n` is `n / 3`, and 0 is none.
    fn ancestors(group: i64) -> Vec<i64> {
        std::iter::successors(Some(group), |group| Some(group / 3)).take_while(|group| *group > 0).collect()
    }

    fn visitors() -> impl Strategy<Value = Vec<Visitor>> {
        let policies = prop::collection::btree_set(prop::sample::select(vec![ReadJobs, ReadPackages]), 1..=2);
        prop::collection::btree_map(1..500_i64, (0..40_i64, policies), 0..60).prop_map(|visitors| {
            let visitor =
                |(project_id, (group, policies))| Visitor { project_id, ancestors: ancestors(group), policies };
            visitors.into_iter().map(visitor).collect()
        })
    }

    proptest! {
        #[test]
        fn whoever_came_is_let_in_by_entries_that_fit(
            visitors in visitors(),
            projects in prop::collection::btree_set(1..500_i64, 0..6),
            groups in prop::collection::btree_set(1..40_i64, 0..4),
            most in 6..30_usize,
        ) {
            let ids = |ids: BTreeSet<i64>| ids.into_iter().collect::<Vec<_>>();
            let mut scope = scope(&ids(projects), &ids(groups));
            let before = scope.clone();
            let Some(plan) = plan(&visitors, &scope, most) else {
                // Then there are more personal projects and single ones than both lists could ever hold.
                prop_assert!(visitors.len() > most - scope.projects.len());
                return Ok(());
            };
            let grant = |(id, policies): (i64, BTreeSet<_>)| (id, Grant::Policies(policies));
            scope.projects.extend(plan.projects.clone().into_iter().map(grant));
            scope.groups.extend(plan.groups.clone().into_iter().map(grant));
            prop_assert_eq!(scope.projects.len(), before.projects.len() + plan.projects.len());
            prop_assert!(scope.projects.len() <= most && scope.groups.len() <= most);
            prop_assert!(before.groups.iter().all(|(id, grant)| scope.groups.get(id) == Some(grant)));
            for Visitor { project_id, ancestors, policies } in visitors.clone() {
                let origin = Origin { id: project_id, full_path: String::new(), ancestors };
                let admitted = scope.admit(&origin, &Vec::from_iter(policies));
                prop_assert!(admitted.is_ok(), "{project_id}: {admitted:?}");
            }
            // Nothing is left to do, and no group stands where the projects would have fitted.
            prop_assert_eq!(super::tests::plan(&visitors, &scope, most), Some(Plan::default()));
            let fits = visitors.iter().filter(|visitor| !is_covered(visitor, &before)).count();
            prop_assert_eq!(plan.groups.is_empty(), fits + before.projects.len() <= most);
        }
    }
}

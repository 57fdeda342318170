//! Turns evidence into an allowlist: which entries let in whoever came, and no more than the allowlist can hold.
//!
//! Every project that was refused something gets an entry, unless it has one of its own: entries that are there stay as they
//! are. If the projects do not fit, groups take the place of projects: first only groups in which projects that came live
//! themselves, then also the groups above these, and so on upwards; of these always the one that takes most projects away. So
//! as few strangers as possible are let in with them. Only what the caller sees gets an entry, as for one made by hand.
//!
//! A new entry counts instead of that of a group above it, and so grants what that one grants, too: nobody loses anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::paddock::job_token::v1::JobTokenPolicy;

use crate::scope::{Grant, Origin, Scope};

/// What the log says, and what shall become of it.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The projects that came.
    pub visitors: Vec<Visitor>,
    /// The groups that may take the place of projects.
    pub groups: BTreeSet<i64>,
    /// Whether new entries grant policies, and not everything.
    pub used_policies_only: bool,
}

/// A project that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The project.
    pub origin: Origin,
    /// Whether the caller sees it. Otherwise it gets no entry.
    pub visible: bool,
    /// What it used: the policies of each route.
    pub uses: BTreeSet<Vec<JobTokenPolicy>>,
}

/// The entries to add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// For projects.
    pub projects: BTreeMap<i64, Grant>,
    /// For groups.
    pub groups: BTreeMap<i64, Grant>,
    /// The projects that are refused something even then.
    pub still_refused: Vec<i64>,
}

/// A visitor that a new entry helps.
struct Newcomer<'a> {
    visitor: &'a Visitor,
    /// How many of the nearest groups above it have no entry. An entry for one further up would not count.
    reach: usize,
    /// What it used, and what an entry of a group grants it.
    policies: BTreeSet<JobTokenPolicy>,
}

impl Newcomer<'_> {
    /// The groups whose entry would count, the nearest first.
    fn above(&self) -> impl DoubleEndedIterator<Item = &i64> {
        self.visitor.origin.ancestors.iter().take(self.reach)
    }
}

impl Evidence {
    /// The entries that the visitors need beside those of the scope, if each of the two allowlists holds at most `most`
    /// entries. Whether the allowlists are in force does not matter. None: they do not fit.
    #[must_use]
    pub fn plan(&self, scope: &Scope, most: usize) -> Option<Plan> {
        let mut scope = Scope { inbound_enabled: true, ..scope.clone() };
        let new: Vec<_> = self.visitors.iter().filter_map(|visitor| self.newcomer(visitor, &scope)).collect();
        let room = Room {
            projects: most.saturating_sub(scope.projects.len()),
            groups: most.saturating_sub(scope.groups.len()),
        };
        let highest = new.iter().map(|newcomer| newcomer.reach).max().unwrap_or(0);
        let choose = |levels| choose(&new, candidates(&new, &self.groups, levels), &room);
        let mut plan = self.assign(&new, &(0..=highest).find_map(choose)?);
        scope.projects.extend(plan.projects.clone());
        scope.groups.extend(plan.groups.clone());
        let refused = self.visitors.iter().filter(|visitor| visitor.refused(&scope).next().is_some());
        plan.still_refused = refused.map(|visitor| visitor.origin.id).collect();
        Some(plan)
    }

    /// The visitor, if an entry would let it in where it is refused. No policy helps where the route requires none.
    fn newcomer<'a>(&self, visitor: &'a Visitor, scope: &Scope) -> Option<Newcomer<'a>> {
        let mut refused = visitor.refused(scope);
        let is_helped = visitor.visible && refused.any(|used| !self.used_policies_only || !used.is_empty());
        if !is_helped || scope.projects.contains_key(&visitor.origin.id) {
            return None;
        }
        let groups = &visitor.origin.ancestors;
        let granting = groups.iter().position(|group| scope.groups.contains_key(group));
        let mut policies: BTreeSet<_> = visitor.uses.iter().flatten().copied().collect();
        let granted = granting.and_then(|at| scope.groups.get(groups.get(at)?));
        if let Some(Grant::Policies(granted)) = granted {
            policies.extend(granted);
        }
        Some(Newcomer { visitor, reach: granting.unwrap_or(groups.len()), policies })
    }

    /// One entry for each newcomer: its highest chosen group, which makes chosen groups below that one needless, or itself.
    fn assign(&self, new: &[Newcomer<'_>], groups: &BTreeSet<i64>) -> Plan {
        let mut plan = Plan::default();
        for newcomer in new {
            let entries = match newcomer.above().rev().find(|group| groups.contains(group)) {
                Some(group) => plan.groups.entry(*group),
                None => plan.projects.entry(newcomer.visitor.origin.id),
            };
            let nothing = if self.used_policies_only { Grant::Policies(BTreeSet::new()) } else { Grant::Everything };
            if let Grant::Policies(policies) = entries.or_insert(nothing) {
                policies.extend(&newcomer.policies);
            }
        }
        plan
    }
}

impl Visitor {
    /// Those of its uses that the scope refuses.
    fn refused(&self, scope: &Scope) -> impl Iterator<Item = &Vec<JobTokenPolicy>> {
        self.uses.iter().filter(|used| scope.admit(&self.origin, used).is_err())
    }
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
fn choose(new: &[Newcomer<'_>], mut candidates: HashMap<i64, Candidate>, room: &Room) -> Option<BTreeSet<i64>> {
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
            for group in new.get(*visitor).into_iter().flat_map(Newcomer::above) {
                if let Some(candidate) = candidates.get_mut(group) {
                    candidate.below.remove(visitor);
                }
            }
        }
        chosen.insert(best);
    }
    Some(chosen)
}

/// The groups that are at most so many levels above a newcomer.
fn candidates(new: &[Newcomer<'_>], groups: &BTreeSet<i64>, levels: usize) -> HashMap<i64, Candidate> {
    let near = new.iter().flat_map(|newcomer| newcomer.above().take(levels));
    let near: BTreeSet<i64> = near.filter(|group| groups.contains(group)).copied().collect();
    let mut candidates = HashMap::<i64, Candidate>::new();
    for (place, newcomer) in new.iter().enumerate() {
        for (at, group) in newcomer.above().enumerate().filter(|(_, group)| near.contains(group)) {
            let candidate = candidates.entry(*group).or_default();
            candidate.below.insert(place);
            candidate.depth = newcomer.visitor.origin.ancestors.len() - at;
        }
    }
    candidates
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use proto::paddock::job_token::v1::JobTokenPolicy::{ReadJobs, ReadPackages};

    use super::*;

    fn visitor(id: i64, ancestors: &[i64]) -> Visitor {
        let origin = Origin { id, full_path: String::new(), ancestors: ancestors.to_vec() };
        Visitor { origin, visible: true, uses: BTreeSet::from([vec![ReadJobs]]) }
    }

    fn only(policies: &[JobTokenPolicy]) -> Grant {
        Grant::Policies(policies.iter().copied().collect())
    }

    fn scope(projects: &[i64], groups: &[i64]) -> Scope {
        let all = |ids: &[i64]| ids.iter().map(|id| (*id, Grant::Everything)).collect();
        Scope { inbound_enabled: true, projects: all(projects), groups: all(groups) }
    }

    /// The plan of a caller who sees every group, for entries with the policies that were used.
    fn plan(visitors: &[Visitor], scope: &Scope, most: usize) -> Option<Plan> {
        let groups = visitors.iter().flat_map(|visitor| visitor.origin.ancestors.clone()).collect();
        Evidence { visitors: visitors.to_vec(), groups, used_policies_only: true }.plan(scope, most)
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
            let evidence = Evidence { visitors: visitors.to_vec(), groups, used_policies_only: false };
            evidence.plan(&scope(&[], &[]), most).map(|plan| ids(&plan))
        };
        assert_eq!(seen(&[10, 11, 100], 2), Some((vec![3], vec![10])));
        assert_eq!(seen(&[11, 100], 2), Some((vec![1, 2], vec![11])));
        assert_eq!(seen(&[11, 100], 1), Some((vec![], vec![100])));
        assert_eq!(seen(&[11], 1), None);
        assert_eq!(seen(&[], 3), Some((vec![1, 2, 3], vec![])));
        // An entry that is there counts all the same.
        let evidence = Evidence { visitors: visitors.to_vec(), groups: BTreeSet::new(), used_policies_only: false };
        let covered = evidence.plan(&scope(&[], &[10]), 1);
        assert_eq!(covered.map(|plan| ids(&plan)), Some((vec![3], vec![])));
    }

    #[test]
    fn an_entry_grants_what_all_used_that_it_lets_in() {
        let mut visitors = [visitor(1, &[10]), visitor(2, &[10]), visitor(3, &[])];
        visitors[1].uses = BTreeSet::from([vec![ReadPackages]]);
        let plan = plan(&visitors, &scope(&[], &[]), 1).unwrap();
        assert_eq!(plan.groups[&10], only(&[ReadJobs, ReadPackages]));
        assert_eq!(plan.projects[&3], only(&[ReadJobs]));
    }

    #[test]
    fn an_entry_that_falls_short_lets_nobody_in() {
        let visitors = [visitor(1, &[10, 100]), visitor(2, &[10, 100]), visitor(3, &[100]), visitor(4, &[11])];
        let mut scope = scope(&[], &[]);
        scope.groups = HashMap::from([(100, only(&[ReadPackages])), (11, Grant::Everything)]);
        scope.projects = HashMap::from([(3, only(&[]))]);
        let planned = plan(&visitors, &scope, 3).unwrap();
        assert_eq!(ids(&planned), (vec![1, 2], vec![]));
        assert_eq!(planned.projects[&1], only(&[ReadPackages, ReadJobs]), "it keeps what it has");
        assert_eq!(planned.still_refused, [3], "its own entry is not touched");
        // A group above one that has an entry would not count, so that only the one below is left.
        let crowded = plan(&visitors, &scope, 2);
        assert_eq!(crowded, None, "there is no room for a group, either");
        scope.groups.remove(&11);
        let crowded = plan(&visitors[..3], &scope, 2).unwrap();
        assert_eq!((ids(&crowded), crowded.groups[&10].clone()), ((vec![], vec![10]), only(&[ReadPackages, ReadJobs])));
    }

    #[test]
    fn what_no_entry_would_help_gets_none() {
        let mut visitors = [visitor(1, &[]), visitor(2, &[])];
        visitors[0].visible = false;
        visitors[1].uses = BTreeSet::from([vec![]]);
        let evidence = Evidence { visitors: visitors.to_vec(), groups: BTreeSet::new(), used_policies_only: true };
        let plan = evidence.plan(&scope(&[], &[]), 9).unwrap();
        assert_eq!((ids(&plan), plan.still_refused), ((vec![], vec![]), vec![1, 2]));
        let plan = Evidence { used_policies_only: false, ..evidence }.plan(&scope(&[], &[]), 9).unwrap();
        assert_eq!((ids(&plan), plan.still_refused), ((vec![2], vec![]), vec![1]), "everything includes no policy");
    }

    #[test]
    fn a_scope_that_is_off_is_filled_as_if_it_were_on() {
        let off = Scope { inbound_enabled: false, ..scope(&[], &[]) };
        assert_eq!(ids(&plan(&[visitor(1, &[])], &off, 9).unwrap()), (vec![1], vec![]));
    }

    /// A tree of groups: the one above `n` is `n / 3`, and 0 is none.
    fn ancestors(group: i64) -> Vec<i64> {
        std::iter::successors(Some(group), |group| Some(group / 3)).take_while(|group| *group > 0).collect()
    }

    fn visitors() -> impl Strategy<Value = Vec<Visitor>> {
        let policies = prop::sample::subsequence(vec![ReadJobs, ReadPackages], 0..=2);
        let uses = prop::collection::btree_set(policies, 1..=3);
        let visitor = (0..40_i64, uses, prop::bool::weighted(0.9));
        prop::collection::btree_map(1..500_i64, visitor, 0..60).prop_map(|visitors| {
            let visitor = |(id, (group, uses, visible))| {
                let origin = Origin { id, full_path: String::new(), ancestors: ancestors(group) };
                Visitor { origin, visible, uses }
            };
            visitors.into_iter().map(visitor).collect()
        })
    }

    fn entries(ids: std::ops::Range<i64>, most: usize) -> impl Strategy<Value = HashMap<i64, Grant>> {
        let policies = prop::sample::subsequence(vec![ReadJobs, ReadPackages], 0..=2);
        let grant = prop_oneof![Just(Grant::Everything), policies.prop_map(|policies| only(&policies))];
        prop::collection::hash_map(ids, grant, 0..most)
    }

    proptest! {
        #[test]
        fn whoever_came_is_let_in_by_entries_that_fit(
            visitors in visitors(),
            projects in entries(1..500, 6),
            groups in entries(1..40, 4),
            most in 6..30_usize,
            used_policies_only: bool,
        ) {
            let before = Scope { inbound_enabled: true, projects, groups };
            let groups = visitors.iter().flat_map(|visitor| visitor.origin.ancestors.clone()).collect();
            let evidence = Evidence { visitors: visitors.clone(), groups, used_policies_only };
            let Some(plan) = evidence.plan(&before, most) else {
                // Then there are more personal projects and single ones than both lists could ever hold.
                prop_assert!(visitors.len() > most - before.projects.len());
                return Ok(());
            };
            let mut scope = before.clone();
            scope.projects.extend(plan.projects.clone());
            scope.groups.extend(plan.groups.clone());
            prop_assert_eq!(scope.projects.len(), before.projects.len() + plan.projects.len());
            prop_assert_eq!(scope.groups.len(), before.groups.len() + plan.groups.len());
            prop_assert!(scope.projects.len() <= most && scope.groups.len() <= most);
            for Visitor { origin, visible, uses } in &visitors {
                let mut is_refused = false;
                for used in uses {
                    let admitted = scope.admit(origin, used).is_ok();
                    is_refused |= !admitted;
                    prop_assert!(admitted || before.admit(origin, used).is_err(), "{origin:?} loses {used:?}");
                    let can_help = *visible && (!used_policies_only || !used.is_empty());
                    let has_entry = before.projects.contains_key(&origin.id);
                    prop_assert!(admitted || has_entry || !can_help, "{origin:?} {used:?}");
                }
                prop_assert_eq!(plan.still_refused.contains(&origin.id), is_refused);
            }
            // Who did not come loses nothing either.
            for group in 0..40 {
                let stranger = Origin { id: 1000, full_path: String::new(), ancestors: ancestors(group) };
                for used in [&[][..], &[ReadJobs], &[ReadPackages], &[ReadJobs, ReadPackages]] {
                    prop_assert!(before.admit(&stranger, used).is_err() || scope.admit(&stranger, used).is_ok());
                }
            }
            // Nothing is left to do, and no group stands where the projects would have fitted.
            let again = evidence.plan(&scope, most).unwrap();
            prop_assert!(again.projects.is_empty() && again.groups.is_empty());
            prop_assert_eq!(again.still_refused, plan.still_refused);
            let fits = visitors.iter().filter(|visitor| evidence.newcomer(visitor, &before).is_some()).count();
            prop_assert_eq!(plan.groups.is_empty(), fits + before.projects.len() <= most);
        }
    }
}

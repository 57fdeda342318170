//! Plans the allowlist entries that recorded accesses need: which projects or groups to add, within the size of the allowlists.
//!
//! Every project that the allowlist refuses something gets an entry, unless it has one already; present entries do not change. If
//! the projects do not fit, groups replace projects: first the groups that directly contain such projects, then also the groups
//! one level further up, and so on. Of these groups, the one that replaces most projects is chosen first. So the entries admit as
//! few other projects as possible. Only projects and groups that the caller sees get entries, as with entries made by hand.
//!
//! A new entry hides the entry of a group above it, so it grants what that one grants as well: no project loses a permission.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::paddock::job_token::v1::JobTokenPolicy;

use super::rules::{Grant, Origin, Scope};

/// The recorded use of a project, and the limits on the entries for it.
#[derive(Clone, Debug)]
pub struct LogUsage {
    /// The projects whose jobs reached the project.
    pub origins: Vec<OriginUsage>,
    /// The groups that may replace projects.
    pub visible_groups: BTreeSet<i64>,
    /// Whether new entries grant the used policies only, instead of everything.
    pub used_policies_only: bool,
}

/// A project whose jobs reached the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginUsage {
    /// The project.
    pub origin: Origin,
    /// Whether the caller sees the project. Otherwise it gets no entry.
    pub visible: bool,
    /// The policies of each route that its jobs used.
    pub policies_by_route: BTreeSet<Vec<JobTokenPolicy>>,
}

/// The entries to add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPlan {
    /// The entries for projects.
    pub projects: BTreeMap<i64, Grant>,
    /// The entries for groups.
    pub groups: BTreeMap<i64, Grant>,
    /// The projects that the allowlist still refuses something.
    pub still_refused: Vec<i64>,
}

/// A project that needs a new entry.
struct UncoveredOrigin<'a> {
    usage: &'a OriginUsage,
    /// The number of nearest groups up to the first one with an entry. An entry further up would not apply.
    group_levels: usize,
    /// The used policies, and those that the entry of a group above grants.
    policies: BTreeSet<JobTokenPolicy>,
}

impl UncoveredOrigin<'_> {
    /// Returns the groups whose entry would apply, the nearest first.
    fn applicable_groups(&self) -> impl DoubleEndedIterator<Item = &i64> {
        self.usage.origin.ancestors.iter().take(self.group_levels)
    }
}

impl LogUsage {
    /// Plans the entries that the origins need in addition to those of the scope, if each of the two allowlists holds at most
    /// `max_entries` entries. It does not matter whether the allowlists apply at present. None: the entries do not fit.
    #[must_use]
    pub fn plan(&self, scope: &Scope, max_entries: usize) -> Option<EntryPlan> {
        let mut scope = Scope { inbound_enabled: true, ..scope.clone() };
        let uncovered: Vec<_> =
            self.origins.iter().filter_map(|origin| self.uncovered_origin(origin, &scope)).collect();
        let free = FreeEntries {
            projects: max_entries.saturating_sub(scope.projects.len()),
            groups: max_entries.saturating_sub(scope.groups.len()),
        };
        let max_levels = uncovered.iter().map(|origin| origin.group_levels).max().unwrap_or(0);
        let chosen = (0..=max_levels).find_map(|levels| {
            choose_groups(&uncovered, candidate_groups(&uncovered, &self.visible_groups, levels), &free)
        })?;
        let mut plan = self.assign_entries(&uncovered, &chosen);
        scope.projects.extend(plan.projects.clone());
        scope.groups.extend(plan.groups.clone());
        let refused = self.origins.iter().filter(|usage| usage.refused_routes(&scope).next().is_some());
        plan.still_refused = refused.map(|usage| usage.origin.id).collect();
        Some(plan)
    }

    /// Returns the origin if an entry would admit what is refused now. An entry of policies does not help on a route that requires
    /// no policy.
    fn uncovered_origin<'a>(&self, usage: &'a OriginUsage, scope: &Scope) -> Option<UncoveredOrigin<'a>> {
        let mut refused = usage.refused_routes(scope);
        let entry_helps = refused.any(|policies| !self.used_policies_only || !policies.is_empty());
        if !usage.visible || !entry_helps || scope.projects.contains_key(&usage.origin.id) {
            return None;
        }
        let groups = &usage.origin.ancestors;
        let mut policies: BTreeSet<_> = usage.policies_by_route.iter().flatten().copied().collect();
        let nearest_entry = groups.iter().position(|group| scope.groups.contains_key(group));
        let granted = nearest_entry.and_then(|level| scope.groups.get(groups.get(level)?));
        if let Some(Grant::Policies(granted)) = granted {
            policies.extend(granted);
        }
        Some(UncoveredOrigin { usage, group_levels: nearest_entry.unwrap_or(groups.len()), policies })
    }

    /// Gives each origin one entry: that of its highest chosen group, which replaces chosen groups below it, or that of the project.
    fn assign_entries(&self, uncovered: &[UncoveredOrigin<'_>], chosen_groups: &BTreeSet<i64>) -> EntryPlan {
        let mut plan = EntryPlan::default();
        for origin in uncovered {
            let entry = match origin.applicable_groups().rev().find(|group| chosen_groups.contains(group)) {
                Some(group) => plan.groups.entry(*group),
                None => plan.projects.entry(origin.usage.origin.id),
            };
            let initial = if self.used_policies_only { Grant::Policies(BTreeSet::new()) } else { Grant::Everything };
            if let Grant::Policies(policies) = entry.or_insert(initial) {
                policies.extend(&origin.policies);
            }
        }
        plan
    }
}

impl OriginUsage {
    /// Returns the policies of the routes that the scope refuses.
    fn refused_routes(&self, scope: &Scope) -> impl Iterator<Item = &Vec<JobTokenPolicy>> {
        self.policies_by_route.iter().filter(|policies| scope.admit(&self.origin, policies).is_err())
    }
}

/// The number of entries that can be added.
struct FreeEntries {
    projects: usize,
    groups: usize,
}

/// A group that could replace projects.
#[derive(Default)]
struct CandidateGroup {
    /// The indexes of the origins below it that have no entry yet.
    origins: BTreeSet<usize>,
    /// The number of groups above it.
    depth: usize,
}

/// Chooses groups so that the remaining projects fit. None: they never fit.
fn choose_groups(
    uncovered: &[UncoveredOrigin<'_>],
    mut candidates: HashMap<i64, CandidateGroup>,
    free: &FreeEntries,
) -> Option<BTreeSet<i64>> {
    let mut chosen = BTreeSet::new();
    let mut remaining = uncovered.len();
    while remaining > free.projects {
        if chosen.len() == free.groups {
            return None;
        }
        let best = best_candidate(&candidates)?;
        let replaced = candidates.remove(&best)?.origins;
        remaining -= replaced.len();
        for index in &replaced {
            for group in uncovered.get(*index).into_iter().flat_map(UncoveredOrigin::applicable_groups) {
                if let Some(candidate) = candidates.get_mut(group) {
                    candidate.origins.remove(index);
                }
            }
        }
        chosen.insert(best);
    }
    Some(chosen)
}

/// Returns the group that replaces most projects. Of two that replace equally many, the deeper one admits fewer other projects.
fn best_candidate(candidates: &HashMap<i64, CandidateGroup>) -> Option<i64> {
    let useful = candidates.iter().filter(|(_, group)| !group.origins.is_empty());
    let best = useful.max_by_key(|(id, group)| (group.origins.len(), group.depth, std::cmp::Reverse(**id)))?;
    Some(*best.0)
}

/// Returns the visible groups that are at most `levels` above an origin.
fn candidate_groups(
    uncovered: &[UncoveredOrigin<'_>],
    visible_groups: &BTreeSet<i64>,
    levels: usize,
) -> HashMap<i64, CandidateGroup> {
    let near = uncovered.iter().flat_map(|origin| origin.applicable_groups().take(levels));
    let near: BTreeSet<i64> = near.filter(|group| visible_groups.contains(group)).copied().collect();
    let mut candidates = HashMap::<i64, CandidateGroup>::new();
    for (index, origin) in uncovered.iter().enumerate() {
        for (level, group) in origin.applicable_groups().enumerate().filter(|(_, group)| near.contains(group)) {
            let candidate = candidates.entry(*group).or_default();
            candidate.origins.insert(index);
            candidate.depth = origin.usage.origin.ancestors.len() - level;
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

    /// A visible project whose jobs used a route with `read_jobs`.
    fn usage(id: i64, ancestors: &[i64]) -> OriginUsage {
        let origin = Origin { id, full_path: String::new(), ancestors: ancestors.to_vec() };
        OriginUsage { origin, visible: true, policies_by_route: BTreeSet::from([vec![ReadJobs]]) }
    }

    fn only(policies: &[JobTokenPolicy]) -> Grant {
        Grant::Policies(policies.iter().copied().collect())
    }

    fn everything(ids: &[i64]) -> HashMap<i64, Grant> {
        ids.iter().map(|id| (*id, Grant::Everything)).collect()
    }

    fn scope(projects: &[i64], groups: &[i64]) -> Scope {
        Scope { inbound_enabled: true, projects: everything(projects), groups: everything(groups) }
    }

    /// The plan for a caller who sees every group, with the used policies only.
    fn plan(origins: &[OriginUsage], scope: &Scope, max_entries: usize) -> Option<EntryPlan> {
        let visible_groups = origins.iter().flat_map(|usage| usage.origin.ancestors.clone()).collect();
        LogUsage { origins: origins.to_vec(), visible_groups, used_policies_only: true }.plan(scope, max_entries)
    }

    /// The ids of the projects and of the groups.
    fn ids(plan: &EntryPlan) -> (Vec<i64>, Vec<i64>) {
        (plan.projects.keys().copied().collect(), plan.groups.keys().copied().collect())
    }

    #[test]
    fn projects_that_fit_get_project_entries() {
        let origins = [usage(1, &[10]), usage(2, &[10]), usage(3, &[]), usage(4, &[11, 12])];
        assert_eq!(ids(&plan(&origins, &scope(&[], &[]), 4).unwrap()), (vec![1, 2, 3, 4], vec![]));
        assert_eq!(ids(&plan(&origins, &scope(&[3, 9], &[12]), 4).unwrap()), (vec![1, 2], vec![]));
        assert_eq!(ids(&plan(&[], &scope(&[9], &[]), 1).unwrap()), (vec![], vec![]));
    }

    #[test]
    fn the_nearest_group_that_replaces_most_projects_is_chosen_first() {
        let origins = [
            usage(1, &[10, 100]),
            usage(2, &[10, 100]),
            usage(3, &[11, 100]),
            usage(4, &[11, 100]),
            usage(5, &[11, 100]),
            usage(6, &[12, 100]),
        ];
        for (max_entries, expected) in [
            (6, (vec![1, 2, 3, 4, 5, 6], vec![])),
            (5, (vec![1, 2, 6], vec![11])),
            (4, (vec![1, 2, 6], vec![11])),
            (2, (vec![6], vec![10, 11])),
            // With two of the direct groups there would still be two projects, so the group above replaces all.
            (1, (vec![], vec![100])),
        ] {
            assert_eq!(ids(&plan(&origins, &scope(&[], &[]), max_entries).unwrap()), expected, "{max_entries}");
        }
        assert_eq!(plan(&origins, &scope(&[], &[]), 0), None);
    }

    #[test]
    fn projects_that_no_group_can_replace_do_not_fit() {
        let personal_projects: Vec<_> = (1..=3).map(|id| usage(id, &[])).collect();
        assert_eq!(plan(&personal_projects, &scope(&[], &[]), 2), None);
        let mixed = [usage(1, &[]), usage(2, &[]), usage(3, &[10])];
        assert_eq!(ids(&plan(&mixed, &scope(&[], &[]), 2).unwrap()), (vec![1, 2], vec![10]));
        // They do not fit either when the other allowlist is full.
        assert_eq!(plan(&mixed, &scope(&[], &[20, 21]), 2), None);
        assert_eq!(plan(&mixed, &scope(&[8, 9], &[]), 2), None);
    }

    #[test]
    fn a_group_that_the_caller_does_not_see_is_not_chosen() {
        let origins = [usage(1, &[10, 100]), usage(2, &[10, 100]), usage(3, &[11, 100])];
        for (visible_groups, max_entries, expected) in [
            (vec![10, 11, 100], 2, Some((vec![3], vec![10]))),
            (vec![11, 100], 2, Some((vec![1, 2], vec![11]))),
            (vec![11, 100], 1, Some((vec![], vec![100]))),
            (vec![11], 1, None),
            (vec![], 3, Some((vec![1, 2, 3], vec![]))),
        ] {
            let visible_groups = BTreeSet::from_iter(visible_groups);
            let log = LogUsage { origins: origins.to_vec(), visible_groups, used_policies_only: false };
            let plan = log.plan(&scope(&[], &[]), max_entries);
            assert_eq!(plan.map(|plan| ids(&plan)), expected, "{max_entries}");
        }
        // A present entry for such a group still applies.
        let log = LogUsage { origins: origins.to_vec(), visible_groups: BTreeSet::new(), used_policies_only: false };
        let covered = log.plan(&scope(&[], &[10]), 1);
        assert_eq!(covered.map(|plan| ids(&plan)), Some((vec![3], vec![])));
    }

    #[test]
    fn an_entry_grants_the_policies_of_all_projects_that_it_covers() {
        let mut origins = [usage(1, &[10]), usage(2, &[10]), usage(3, &[])];
        origins[1].policies_by_route = BTreeSet::from([vec![ReadPackages]]);
        let plan = plan(&origins, &scope(&[], &[]), 1).unwrap();
        assert_eq!(plan.groups[&10], only(&[ReadJobs, ReadPackages]));
        assert_eq!(plan.projects[&3], only(&[ReadJobs]));
    }

    #[test]
    fn an_entry_that_grants_too_little_does_not_cover_a_project() {
        let origins = [usage(1, &[10, 100]), usage(2, &[10, 100]), usage(3, &[100]), usage(4, &[11])];
        let mut scope = scope(&[], &[]);
        scope.groups = HashMap::from([(100, only(&[ReadPackages])), (11, Grant::Everything)]);
        scope.projects = HashMap::from([(3, only(&[]))]);
        let planned = plan(&origins, &scope, 3).unwrap();
        assert_eq!(ids(&planned), (vec![1, 2], vec![]));
        assert_eq!(planned.projects[&1], only(&[ReadPackages, ReadJobs]), "it keeps what it has");
        assert_eq!(planned.still_refused, [3], "its present entry does not change");
        // The entry of a group above one with an entry would not apply, so only the group below is a candidate.
        let small = plan(&origins, &scope, 2);
        assert_eq!(small, None, "there is no free entry for a group");
        scope.groups.remove(&11);
        let small = plan(&origins[..3], &scope, 2).unwrap();
        assert_eq!((ids(&small), small.groups[&10].clone()), ((vec![], vec![10]), only(&[ReadPackages, ReadJobs])));
    }

    #[test]
    fn projects_that_no_entry_would_help_get_none() {
        let mut origins = [usage(1, &[]), usage(2, &[])];
        origins[0].visible = false;
        origins[1].policies_by_route = BTreeSet::from([vec![]]);
        let log = LogUsage { origins: origins.to_vec(), visible_groups: BTreeSet::new(), used_policies_only: true };
        let plan = log.plan(&scope(&[], &[]), 9).unwrap();
        assert_eq!((ids(&plan), plan.still_refused), ((vec![], vec![]), vec![1, 2]));
        let plan = LogUsage { used_policies_only: false, ..log }.plan(&scope(&[], &[]), 9).unwrap();
        assert_eq!(
            (ids(&plan), plan.still_refused),
            ((vec![2], vec![]), vec![1]),
            "an entry for everything admits routes without a policy"
        );
    }

    #[test]
    fn the_plan_for_a_scope_that_is_off_is_the_same() {
        let off = Scope { inbound_enabled: false, ..scope(&[], &[]) };
        assert_eq!(ids(&plan(&[usage(1, &[])], &off, 9).unwrap()), (vec![1], vec![]));
    }

    /// The groups above one of a tree of groups: the parent of `n` is `n / 3`, and 0 means no group.
    fn ancestors(group: i64) -> Vec<i64> {
        std::iter::successors(Some(group), |group| Some(group / 3)).take_while(|group| *group > 0).collect()
    }

    fn any_origins() -> impl Strategy<Value = Vec<OriginUsage>> {
        let policies = prop::sample::subsequence(vec![ReadJobs, ReadPackages], 0..=2);
        let policies_by_route = prop::collection::btree_set(policies, 1..=3);
        let details = (0..40_i64, policies_by_route, prop::bool::weighted(0.9));
        prop::collection::btree_map(1..500_i64, details, 0..60).prop_map(|origins| {
            origins
                .into_iter()
                .map(|(id, (group, policies_by_route, visible))| {
                    let origin = Origin { id, full_path: String::new(), ancestors: ancestors(group) };
                    OriginUsage { origin, visible, policies_by_route }
                })
                .collect()
        })
    }

    fn any_entries(ids: std::ops::Range<i64>, max_entries: usize) -> impl Strategy<Value = HashMap<i64, Grant>> {
        let policies = prop::sample::subsequence(vec![ReadJobs, ReadPackages], 0..=2);
        let grant = prop_oneof![Just(Grant::Everything), policies.prop_map(|policies| only(&policies))];
        prop::collection::hash_map(ids, grant, 0..max_entries)
    }

    proptest! {
        #[test]
        fn planned_entries_fit_and_admit_the_recorded_accesses(
            origins in any_origins(),
            projects in any_entries(1..500, 6),
            groups in any_entries(1..40, 4),
            max_entries in 6..30_usize,
            used_policies_only: bool,
        ) {
            let before = Scope { inbound_enabled: true, projects, groups };
            let visible_groups = origins.iter().flat_map(|usage| usage.origin.ancestors.clone()).collect();
            let log = LogUsage { origins: origins.clone(), visible_groups, used_policies_only };
            let Some(plan) = log.plan(&before, max_entries) else {
                // Then there are more projects that no group replaces than both lists can hold.
                prop_assert!(origins.len() > max_entries - before.projects.len());
                return Ok(());
            };
            let mut scope = before.clone();
            scope.projects.extend(plan.projects.clone());
            scope.groups.extend(plan.groups.clone());
            prop_assert_eq!(scope.projects.len(), before.projects.len() + plan.projects.len());
            prop_assert_eq!(scope.groups.len(), before.groups.len() + plan.groups.len());
            prop_assert!(scope.projects.len() <= max_entries && scope.groups.len() <= max_entries);
            for OriginUsage { origin, visible, policies_by_route } in &origins {
                let mut is_refused = false;
                for policies in policies_by_route {
                    let admitted = scope.admit(origin, policies).is_ok();
                    is_refused |= !admitted;
                    prop_assert!(admitted || before.admit(origin, policies).is_err(), "{origin:?} loses {policies:?}");
                    let entry_helps = *visible && (!used_policies_only || !policies.is_empty());
                    let has_entry = before.projects.contains_key(&origin.id);
                    prop_assert!(admitted || has_entry || !entry_helps, "{origin:?} {policies:?}");
                }
                prop_assert_eq!(plan.still_refused.contains(&origin.id), is_refused);
            }
            // A project that is not in the log loses nothing.
            for group in 0..40 {
                let other = Origin { id: 1000, full_path: String::new(), ancestors: ancestors(group) };
                for policies in [&[][..], &[ReadJobs], &[ReadPackages], &[ReadJobs, ReadPackages]] {
                    prop_assert!(before.admit(&other, policies).is_err() || scope.admit(&other, policies).is_ok());
                }
            }
            // A second plan adds nothing, and there are groups only if the projects do not fit.
            let again = log.plan(&scope, max_entries).unwrap();
            prop_assert!(again.projects.is_empty() && again.groups.is_empty());
            prop_assert_eq!(again.still_refused, plan.still_refused);
            let uncovered = origins.iter().filter(|usage| log.uncovered_origin(usage, &before).is_some()).count();
            prop_assert_eq!(plan.groups.is_empty(), uncovered + before.projects.len() <= max_entries);
        }
    }
}

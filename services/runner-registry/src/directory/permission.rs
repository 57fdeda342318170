//! Who may see and do what, as rules without look-ups: from the rank of the caller and its role to yes or no. Source:
//! <https://docs.gitlab.com/user/permissions/>
//!
//! A role in a group holds in every group and project below it. The greatest of these roles counts.

use proto::role::Role::{self, Maintainer, Owner};

use crate::entity::{Visibility, runner::RunnerType};

/// The rank of a caller and its role in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Reports whether the caller is an administrator.
    pub admin: bool,
    /// The caller's role in the object. None: not a member.
    pub role: Option<Role>,
}

impl Permissions {
    /// Reports whether the caller sees a group or a project. Every caller is signed in, so every caller sees an
    /// internal one.
    #[must_use]
    pub fn may_see(self, visibility: Visibility) -> bool {
        self.admin || self.role.is_some() || visibility != Visibility::Private
    }

    /// Reports whether the caller may change a project, and create, assign and see its runners.
    #[must_use]
    pub fn may_maintain_project(self) -> bool {
        self.has_role(Maintainer)
    }

    /// Reports whether the caller may delete a project.
    #[must_use]
    pub fn may_delete_project(self) -> bool {
        self.has_role(Owner)
    }

    /// Reports whether the caller may create projects and subgroups in a group.
    #[must_use]
    pub fn may_create_in_group(self) -> bool {
        self.has_role(Maintainer)
    }

    /// Reports whether the caller may see the runners of a group.
    #[must_use]
    pub fn may_see_group_runners(self) -> bool {
        self.has_role(Maintainer)
    }

    /// Reports whether the caller may change or delete a group, and create and change its runners.
    #[must_use]
    pub fn may_own_group(self) -> bool {
        self.has_role(Owner)
    }

    /// Reports whether the caller may give this role to a user, or take it away: it must have the role itself.
    #[must_use]
    pub fn may_hand_out(self, role: Role) -> bool {
        self.has_role(role)
    }

    /// Reports whether the caller sees a runner. The role is that in the group of a group runner, and the greatest one
    /// in the projects of a project runner.
    #[must_use]
    pub fn may_see_runner(self, runner_type: RunnerType) -> bool {
        match runner_type {
            RunnerType::Instance => true,
            RunnerType::Group => self.may_see_group_runners(),
            RunnerType::Project => self.may_maintain_project(),
        }
    }

    /// Reports whether the caller may change or delete a runner and reset its token. The role is as for
    /// [`may_see_runner`](Self::may_see_runner).
    #[must_use]
    pub fn may_administer_runner(self, runner_type: RunnerType) -> bool {
        match runner_type {
            RunnerType::Instance => self.admin,
            RunnerType::Group => self.may_own_group(),
            RunnerType::Project => self.may_maintain_project(),
        }
    }

    fn has_role(self, least: Role) -> bool {
        self.admin || self.role.is_some_and(|role| role >= least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Developer, Guest, Reporter};

    const ROLES: [Option<Role>; 6] =
        [None, Some(Guest), Some(Reporter), Some(Developer), Some(Maintainer), Some(Owner)];

    type Rule = fn(Permissions) -> bool;

    #[test]
    fn each_rule_has_its_least_role() {
        let rules: [(&str, Rule, usize); 12] = [
            ("see private", |permissions| permissions.may_see(Visibility::Private), 1),
            ("see internal", |permissions| permissions.may_see(Visibility::Internal), 0),
            ("see public", |permissions| permissions.may_see(Visibility::Public), 0),
            ("maintain project", Permissions::may_maintain_project, 4),
            ("delete project", Permissions::may_delete_project, 5),
            ("create in group", Permissions::may_create_in_group, 4),
            ("own group", Permissions::may_own_group, 5),
            ("make a guest", |permissions| permissions.may_hand_out(Guest), 1),
            ("make an owner", |permissions| permissions.may_hand_out(Owner), 5),
            ("see group runner", |permissions| permissions.may_see_runner(RunnerType::Group), 4),
            ("administer group runner", |permissions| permissions.may_administer_runner(RunnerType::Group), 5),
            ("administer project runner", |permissions| permissions.may_administer_runner(RunnerType::Project), 4),
        ];
        for (name, rule, least) in rules {
            for (rank, role) in ROLES.into_iter().enumerate() {
                assert_eq!(rule(Permissions { admin: false, role }), rank >= least, "{name} {role:?}");
                assert!(rule(Permissions { admin: true, role }), "{name} as administrator, {role:?}");
            }
        }
    }

    #[test]
    fn every_user_sees_an_instance_runner_and_only_administrators_change_it() {
        for role in ROLES {
            let user = Permissions { admin: false, role };
            assert!(user.may_see_runner(RunnerType::Instance));
            assert!(!user.may_administer_runner(RunnerType::Instance), "{role:?}");
        }
        assert!(Permissions { admin: true, role: None }.may_administer_runner(RunnerType::Instance));
    }
}

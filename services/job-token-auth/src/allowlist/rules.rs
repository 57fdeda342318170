//! The rules that decide whether a job may reach a project, without I/O. Source: <https://docs.gitlab.com/ci/jobs/ci_job_token/>
//!
//! 1. A project that the user of the job does not see does not exist for the job: a private project without a role of the user.
//! 2. The allowlist does not apply to the job's own project, nor to a project whose inbound scope is off. Otherwise the job's
//!    project, or a group above it, must be in the project's allowlist.
//! 3. The entry for the project itself applies, otherwise that for the nearest group. It grants everything, or it lists policies;
//!    then the route must require at least one policy, and all of them must be in the list.
//! 4. The role of the user in the project must allow the action too, also in the job's own project. A user who loses the role
//!    loses it in running jobs as well.
//!
//! Three rules differ from GitLab, or are left open there. GitLab checks the allowlist before the visibility, so that a job learns
//! of private projects by their ids; here it does not. GitLab lets jobs read the public features of public projects without an
//! entry; here the allowlist alone decides which jobs may come, so that it is complete. The outbound limit, which GitLab removed
//! in 18.0, is not offered.

use std::collections::{BTreeSet, HashMap};

use chassis::status::Refusal;
use proto::{
    paddock::{
        contract::v1::Reason,
        directory::v1::{GetProjectAccessResponse, Visibility},
        job_token::v1::JobTokenPolicy::{self, *},
    },
    role::Role,
};

use super::policy;
use crate::error::Error;

/// What an entry of an allowlist grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Every policy: the entry has default permissions.
    Everything,
    /// These policies. An admin policy includes the read policy of the same feature.
    Policies(BTreeSet<JobTokenPolicy>),
}

/// The inbound scope of a project, or the part of it that applies to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whether the allowlists apply.
    pub inbound_enabled: bool,
    /// The allowed projects.
    pub projects: HashMap<i64, Grant>,
    /// The allowed groups.
    pub groups: HashMap<i64, Grant>,
}

/// The project that a job runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The id.
    pub id: i64,
    /// The full path.
    pub full_path: String,
    /// The ids of the groups above it, the nearest first.
    pub ancestors: Vec<i64>,
}

/// The project that a job reaches, with the access of the job's user to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The id.
    pub id: i64,
    /// The full path.
    pub full_path: String,
    /// The visibility.
    pub visibility: Visibility,
    /// The highest role of the user in it.
    pub role: Option<i32>,
    /// Whether the user is an administrator.
    pub admin: bool,
}

/// Why a job may reach a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    /// It is the job's own project.
    OwnProject,
    /// The inbound scope of the project is off.
    ScopeOff,
    /// The job's project is in the allowlist.
    ProjectEntry,
    /// A group above the job's project is in the allowlist.
    GroupEntry,
}

/// Why a job may not reach a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The user of the job does not see the project.
    Hidden,
    /// Neither the job's project nor a group above it is in the allowlist.
    NotInScope,
    /// The entry lists policies, and the route requires none.
    RouteUnauthorized,
    /// The entry lacks these policies that the route requires.
    PoliciesMissing(Vec<JobTokenPolicy>),
    /// The user of the job needs at least this role.
    RoleTooLow(Role),
}

impl Allowed {
    /// Returns the name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnProject => "own_project",
            Self::ScopeOff => "scope_off",
            Self::ProjectEntry => "project_entry",
            Self::GroupEntry => "group_entry",
        }
    }
}

impl Denied {
    /// Returns the refusal for the caller. As in GitLab, the text has the last segment of a project's path only, since the full
    /// path could name groups that the caller does not see.
    #[must_use]
    pub fn refusal(&self, origin: &Origin, target: &Target) -> Refusal {
        let target_name = last_segment(&target.full_path);
        match self {
            Self::Hidden => Refusal::new(Reason::ProjectNotFound),
            Self::NotInScope => {
                let origin_name = last_segment(&origin.full_path);
                let text =
                    format!("Authentication by CI/CD job token not allowed from {origin_name} to {target_name}.");
                Refusal::new(Reason::JobTokenNotInScope).with_message(text)
            }
            Self::RouteUnauthorized => Refusal::new(Reason::JobTokenRouteUnauthorized),
            Self::PoliciesMissing(missing) => {
                let names: Vec<_> = missing.iter().map(|policy| policy::name(*policy)).collect();
                let (noun, verb) = if names.len() == 1 { ("permission", "is") } else { ("permissions", "are") };
                let names = names.join(", ");
                let text = format!(
                    "Insufficient permissions to access this resource in project {target_name}. \
                     The following token {noun} {verb} required: {names}."
                );
                Refusal::new(Reason::JobTokenPolicyMissing).with_message(text)
            }
            Self::RoleTooLow(minimum) => {
                let text =
                    format!("403 Forbidden - The user of the job needs the {minimum:?} role in project {target_name}");
                Refusal::new(Reason::AccessDenied).with_message(text)
            }
        }
    }
}

/// Decides whether a job of the origin may use a route that requires these policies on the target.
///
/// # Errors
/// Why it may not.
pub fn decide(origin: &Origin, target: &Target, scope: &Scope, policies: &[JobTokenPolicy]) -> Result<Allowed, Denied> {
    if !target.is_visible() {
        return Err(Denied::Hidden);
    }
    let is_own_project = origin.id == target.id;
    let allowed = if is_own_project { Allowed::OwnProject } else { scope.admit(origin, policies)? };
    target.check_role(policies)?;
    Ok(allowed)
}

impl Scope {
    /// Returns the scope of a project that was never configured: it admits no other project.
    #[must_use]
    pub fn closed() -> Self {
        Self { inbound_enabled: true, projects: HashMap::new(), groups: HashMap::new() }
    }

    /// Decides whether jobs of another project may use a route that requires these policies.
    ///
    /// # Errors
    /// Why they may not.
    pub fn admit(&self, origin: &Origin, policies: &[JobTokenPolicy]) -> Result<Allowed, Denied> {
        if !self.inbound_enabled {
            return Ok(Allowed::ScopeOff);
        }
        let (allowed, grant) = self.nearest_entry(origin).ok_or(Denied::NotInScope)?;
        let Grant::Policies(granted) = grant else { return Ok(allowed) };
        if policies.is_empty() {
            return Err(Denied::RouteUnauthorized);
        }
        let missing: Vec<_> = policies.iter().copied().filter(|policy| !includes_policy(granted, *policy)).collect();
        if missing.is_empty() { Ok(allowed) } else { Err(Denied::PoliciesMissing(missing)) }
    }

    fn nearest_entry(&self, origin: &Origin) -> Option<(Allowed, &Grant)> {
        if let Some(grant) = self.projects.get(&origin.id) {
            return Some((Allowed::ProjectEntry, grant));
        }
        let grant = origin.ancestors.iter().find_map(|group| self.groups.get(group))?;
        Some((Allowed::GroupEntry, grant))
    }
}

/// Reports whether the granted policies include this one.
fn includes_policy(granted: &BTreeSet<JobTokenPolicy>, policy: JobTokenPolicy) -> bool {
    granted.contains(&policy) || admin_policy_for(policy).is_some_and(|admin| granted.contains(&admin))
}

impl TryFrom<&GetProjectAccessResponse> for Target {
    type Error = Error;

    fn try_from(access: &GetProjectAccessResponse) -> Result<Self, Error> {
        let project = access.project.as_ref();
        let project = project.ok_or_else(|| Error::internal("an answer on a project is without the project"))?;
        Ok(Self {
            id: project.id,
            full_path: project.path_with_namespace.clone(),
            visibility: project.visibility(),
            role: access.access_level,
            admin: access.user_is_admin,
        })
    }
}

impl Target {
    /// Reports whether every user sees it. Every user is signed in, so internal projects are as open as public ones.
    fn is_open(&self) -> bool {
        matches!(self.visibility, Visibility::Internal | Visibility::Public)
    }

    /// Reports whether the user sees it.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.admin || self.role.is_some() || self.is_open()
    }

    fn check_role(&self, policies: &[JobTokenPolicy]) -> Result<(), Denied> {
        let minimum = policies.iter().filter_map(|policy| minimum_role(*policy, self.is_open())).max();
        match minimum {
            Some(minimum) if !self.admin && self.role.is_none_or(|role| role < minimum.number()) => {
                Err(Denied::RoleTooLow(minimum))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the admin policy of the feature that this policy reads.
fn admin_policy_for(policy: JobTokenPolicy) -> Option<JobTokenPolicy> {
    match policy {
        ReadDeployments => Some(AdminDeployments),
        ReadEnvironments => Some(AdminEnvironments),
        ReadJobs => Some(AdminJobs),
        ReadPackages => Some(AdminPackages),
        ReadPipelines => Some(AdminPipelines),
        ReadReleases => Some(AdminReleases),
        ReadSecureFiles => Some(AdminSecureFiles),
        ReadTerraformState => Some(AdminTerraformState),
        ReadContainers => Some(AdminContainers),
        _ => None,
    }
}

/// Returns the lowest role that the action of a policy needs; none if it is enough to see the project. `is_open`: every user sees
/// the project. The upstream applies its finer rules itself. Source: <https://docs.gitlab.com/user/permissions/>
fn minimum_role(policy: JobTokenPolicy, is_open: bool) -> Option<Role> {
    match policy {
        ReadJobs | ReadPipelines | ReadReleases => (!is_open).then_some(Role::Guest),
        ReadRepositories | ReadPackages | ReadMergeRequests | ReadContainers => (!is_open).then_some(Role::Reporter),
        ReadDeployments | ReadEnvironments => Some(Role::Reporter),
        AdminSecureFiles | AdminTerraformState | Unspecified => Some(Role::Maintainer),
        ReadSecureFiles | ReadTerraformState | AdminDeployments | AdminEnvironments | AdminJobs | AdminPackages
        | AdminPipelines | AdminReleases | AdminContainers => Some(Role::Developer),
    }
}

fn last_segment(full_path: &str) -> &str {
    full_path.rsplit('/').next().unwrap_or(full_path)
}

//! Whether a job may reach a project, as rules without any look-up: what is known of both goes in, the decision comes out.
//! Source: <https://docs.gitlab.com/ci/jobs/ci_job_token/>
//!
//! 1. What the user of the job does not see does not exist: a private project without a role of the user.
//! 2. A job's own project asks no allowlist, nor does a project whose inbound scope is off. Otherwise the job's project, or a
//!    group that it lives in, must be in the project's allowlist.
//! 3. The entry that counts is the one of the project itself, else the one of the nearest group. It grants everything, or it
//!    lists policies; then the route must require some, and all of them must be in the list.
//! 4. The user's own role in the project must allow the action too, also in the job's own project: who lost the role has lost
//!    it in the jobs that still run.
//!
//! Three points differ from GitLab, or are left open there. GitLab asks the allowlist before it asks whether the user sees the
//! project, so that a job learns of private projects by their ids; here it does not. GitLab lets jobs read the public features
//! of public projects without an entry in the allowlist; here the allowlist alone decides whose jobs come, so that it says it
//! all. And the outbound limit, which GitLab removed in 18.0, is not offered.

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

use crate::{error::Error, policy};

/// What an entry of an allowlist grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Everything: the entry has default permissions.
    Everything,
    /// These policies. A policy that changes includes the one that reads.
    Policies(BTreeSet<JobTokenPolicy>),
}

/// The inbound scope of a project, or that part of it that matters for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whether the allowlists decide.
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
    /// The group it lives in and all above it, the nearest first.
    pub ancestors: Vec<i64>,
}

/// The project that a job reaches, and what the user of the job is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The id.
    pub id: i64,
    /// The full path.
    pub full_path: String,
    /// Who may see it.
    pub visibility: Visibility,
    /// The greatest role of the user in it.
    pub role: Option<i32>,
    /// Whether the user is an administrator.
    pub admin: bool,
}

/// Why a job may reach a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    /// The project is its own.
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
    /// The name in metrics.
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
    /// The refusal that the caller gets. Projects are named by the last segment of their path, as GitLab does: the full
    /// path could name groups that the caller does not see.
    #[must_use]
    pub fn refusal(&self, origin: &Origin, target: &Target) -> Refusal {
        let (from, to) = (last_segment(&origin.full_path), last_segment(&target.full_path));
        let refuse = |reason: Reason, text: String| Refusal::new(reason).with_message(text);
        match self {
            Self::Hidden => Refusal::new(Reason::ProjectNotFound),
            Self::NotInScope => refuse(
                Reason::JobTokenNotInScope,
                format!("Authentication by CI/CD job token not allowed from {from} to {to}."),
            ),
            Self::RouteUnauthorized => Refusal::new(Reason::JobTokenRouteUnauthorized),
            Self::PoliciesMissing(missing) => {
                let names: Vec<_> = missing.iter().map(|policy| policy::name(*policy)).collect();
                let (noun, verb) = if names.len() == 1 { ("permission", "is") } else { ("permissions", "are") };
                let names = names.join(", ");
                let text = format!(
                    "Insufficient permissions to access this resource in project {to}. \
                     The following token {noun} {verb} required: {names}."
                );
                refuse(Reason::JobTokenPolicyMissing, text)
            }
            Self::RoleTooLow(least) => {
                let text = format!("403 Forbidden - The user of the job needs the {least:?} role in project {to}");
                refuse(Reason::AccessDenied, text)
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
    let is_own = origin.id == target.id;
    let allowed = if is_own { Allowed::OwnProject } else { scope.admit(origin, policies)? };
    target.check_role(policies)?;
    Ok(allowed)
}

impl Scope {
    /// What holds for a project that was never configured: nobody else's jobs come.
    #[must_use]
    pub fn closed() -> Self {
        Self { inbound_enabled: true, projects: HashMap::new(), groups: HashMap::new() }
    }

    /// Whether jobs of another project may come and use a route that requires these policies.
    ///
    /// # Errors
    /// Why they may not.
    pub fn admit(&self, origin: &Origin, policies: &[JobTokenPolicy]) -> Result<Allowed, Denied> {
        if !self.inbound_enabled {
            return Ok(Allowed::ScopeOff);
        }
        let (allowed, grant) = self.nearest(origin).ok_or(Denied::NotInScope)?;
        let Grant::Policies(granted) = grant else { return Ok(allowed) };
        if policies.is_empty() {
            return Err(Denied::RouteUnauthorized);
        }
        let is_granted = |policy: JobTokenPolicy| {
            granted.contains(&policy) || changing(policy).is_some_and(|changing| granted.contains(&changing))
        };
        let missing: Vec<_> = policies.iter().copied().filter(|policy| !is_granted(*policy)).collect();
        if missing.is_empty() { Ok(allowed) } else { Err(Denied::PoliciesMissing(missing)) }
    }

    fn nearest(&self, origin: &Origin) -> Option<(Allowed, &Grant)> {
        let project = self.projects.get(&origin.id).map(|grant| (Allowed::ProjectEntry, grant));
        let group = || origin.ancestors.iter().find_map(|group| self.groups.get(group));
        project.or_else(|| group().map(|grant| (Allowed::GroupEntry, grant)))
    }
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
    /// Whether everybody sees it: every user is signed in, so internal is as open as public.
    fn is_open(&self) -> bool {
        matches!(self.visibility, Visibility::Internal | Visibility::Public)
    }

    /// Whether the user sees it.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.admin || self.role.is_some() || self.is_open()
    }

    fn check_role(&self, policies: &[JobTokenPolicy]) -> Result<(), Denied> {
        let least = policies.iter().filter_map(|policy| least_role(*policy, self.is_open())).max();
        match least {
            Some(least) if !self.admin && self.role.is_none_or(|role| role < least.number()) => {
                Err(Denied::RoleTooLow(least))
            }
            _ => Ok(()),
        }
    }
}

/// The policy that changes what this one reads.
fn changing(policy: JobTokenPolicy) -> Option<JobTokenPolicy> {
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

/// The least role that the action of a policy needs; none if seeing the project is enough. `open`: everybody sees the
/// project. What finer rules the upstream has, it applies itself. Source: <https://docs.gitlab.com/user/permissions/>
fn least_role(policy: JobTokenPolicy, open: bool) -> Option<Role> {
    match policy {
        ReadJobs | ReadPipelines | ReadReleases => (!open).then_some(Role::Guest),
        ReadRepositories | ReadPackages | ReadMergeRequests | ReadContainers => (!open).then_some(Role::Reporter),
        ReadDeployments | ReadEnvironments => Some(Role::Reporter),
        AdminSecureFiles | AdminTerraformState | Unspecified => Some(Role::Maintainer),
        ReadSecureFiles | ReadTerraformState | AdminDeployments | AdminEnvironments | AdminJobs | AdminPackages
        | AdminPipelines | AdminReleases | AdminContainers => Some(Role::Developer),
    }
}

fn last_segment(full_path: &str) -> &str {
    full_path.rsplit('/').next().unwrap_or(full_path)
}

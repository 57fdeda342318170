//! The table. A row says which scopes suffice, and what a stranger and the owner get; the rest follows from the kind of caller.

use proto::paddock::contract::v1::{Reason, TokenScope};
use serde_json::{Value, json};

use super::{callers::Caller, objects::Objects};
use crate::fixtures::unique;

/// The id of the runner program that every runner of the matrix has.
pub const SYSTEM_ID: &str = "s_0123456789ab";

/// The expected outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Success,
    Refused(Reason),
}

use Expected::{Refused, Success};

/// A method for users.
pub struct UserRow {
    pub method: &'static str,
    /// The scopes of which a token needs one.
    scopes: &'static [TokenScope],
    stranger: Expected,
    owner: Expected,
    /// The path below `/api/v4`, and the body.
    pub request: fn(&Objects) -> (String, Value),
}

impl UserRow {
    pub fn expected(&self, caller: Caller) -> Expected {
        match caller {
            Caller::MalformedUserToken => Refused(Reason::UserTokenMalformed),
            Caller::UnknownUserToken => Refused(Reason::UserTokenUnknown),
            Caller::ExpiredUserToken => Refused(Reason::UserTokenExpired),
            Caller::RevokedUserToken => Refused(Reason::UserTokenRevoked),
            Caller::RunnerTokenAsUser | Caller::JobTokenAsUser => Refused(Reason::UserTokenWrongKind),
            Caller::Admin(scope) if self.scopes.contains(&scope) => Success,
            Caller::Admin(_) => Refused(Reason::InsufficientScope),
            Caller::Stranger => self.stranger,
            Caller::Owner => self.owner,
            _ => Refused(Reason::CredentialMissing),
        }
    }
}

/// A method for runners. All of them give a caller the same outcome.
pub struct RunnerRow {
    pub method: &'static str,
    /// The path below `/api/v4`, and the body without the token.
    pub request: fn() -> (&'static str, Value),
}

impl RunnerRow {
    pub fn expected(caller: Caller) -> Expected {
        match caller {
            Caller::Runner => Success,
            Caller::MalformedRunnerToken => Refused(Reason::RunnerTokenMalformed),
            Caller::RemovedRunnerToken => Refused(Reason::RunnerRemoved),
            Caller::ExpiredRunnerToken => Refused(Reason::RunnerTokenExpired),
            Caller::SupersededRunnerToken => Refused(Reason::RunnerTokenSuperseded),
            Caller::RevokedRunnerToken => Refused(Reason::RunnerTokenRevoked),
            Caller::UserTokenAsRunner => Refused(Reason::RunnerTokenWrongKind),
            _ => Refused(Reason::ParameterMissing),
        }
    }
}

/// A method for jobs. All of them give a caller the same outcome.
pub struct JobRow {
    pub method: &'static str,
    /// The path below `/api/v4`.
    pub path: &'static str,
}

impl JobRow {
    pub fn expected(caller: Caller) -> Expected {
        match caller {
            Caller::Job => Success,
            Caller::MalformedJobToken => Refused(Reason::JobTokenMalformed),
            Caller::JobTokenOfAnotherInstance => Refused(Reason::JobTokenInvalid),
            Caller::TokenOfAFinishedJob => Refused(Reason::JobNotRunning),
            Caller::TokenOfACreatedJob => Refused(Reason::JobNotRunning),
            Caller::TokenOfAJobWithoutProject => Refused(Reason::JobProjectDeleted),
            Caller::UserTokenAsJob | Caller::RunnerTokenAsJob => Refused(Reason::JobTokenWrongKind),
            _ => Refused(Reason::JobTokenMissing),
        }
    }
}

/// A public method.
pub struct PublicRow {
    pub method: &'static str,
    /// The whole path.
    pub path: &'static str,
}

const API: &[TokenScope] = &[TokenScope::Api];
const READ: &[TokenScope] = &[TokenScope::Api, TokenScope::ReadApi];
const READ_USER: &[TokenScope] = &[TokenScope::Api, TokenScope::ReadApi, TokenScope::ReadUser];
const CREATE: &[TokenScope] = &[TokenScope::Api, TokenScope::CreateRunner];
const MANAGE: &[TokenScope] = &[TokenScope::Api, TokenScope::ManageRunner];
const READ_RUNNER: &[TokenScope] = &[TokenScope::Api, TokenScope::ReadApi, TokenScope::ManageRunner];

const ANYBODY: (Expected, Expected) = (Success, Success);
const ADMIN: (Expected, Expected) = (Refused(Reason::AdminRequired), Refused(Reason::AdminRequired));
const IN_GROUP: (Expected, Expected) = (Refused(Reason::GroupNotFound), Success);
const IN_PROJECT: (Expected, Expected) = (Refused(Reason::ProjectNotFound), Success);
const ON_RUNNER: (Expected, Expected) = (Refused(Reason::AccessDenied), Success);

type Request = fn(&Objects) -> (String, Value);

const fn row(
    method: &'static str,
    scopes: &'static [TokenScope],
    who: (Expected, Expected),
    request: Request,
) -> UserRow {
    UserRow { method, scopes, stranger: who.0, owner: who.1, request }
}

/// A request without a body.
fn get(path: impl Into<String>) -> (String, Value) {
    (path.into(), Value::Null)
}

pub const USER_ROWS: &[UserRow] = &[
    row("ListGroups", READ, ANYBODY, |_| get("/groups")),
    row("GetGroup", READ, IN_GROUP, |o| get(format!("/groups/{}", o.group))),
    row("CreateGroup", API, ANYBODY, |_| ("/groups".into(), json!({ "name": unique("made"), "path": unique("made") }))),
    row("UpdateGroup", API, IN_GROUP, |o| (format!("/groups/{}", o.group), json!({ "description": "changed" }))),
    row("DeleteGroup", API, IN_GROUP, |o| get(format!("/groups/{}", o.group))),
    row("GetSettings", READ, ADMIN, |_| get("/application/settings")),
    row("UpdateSettings", API, ADMIN, |_| {
        ("/application/settings".into(), json!({ "runner_token_expiration_interval": 86_400 }))
    }),
    row("GetVersion", READ_USER, ANYBODY, |_| get("/version")),
    row("GetMetadata", READ_USER, ANYBODY, |_| get("/metadata")),
    row("ListProjects", READ, ANYBODY, |_| get("/projects")),
    row("GetProject", READ, IN_PROJECT, |o| get(format!("/projects/{}", o.project))),
    row("CreateProject", API, ANYBODY, |_| ("/projects".into(), json!({ "name": unique("made") }))),
    row("UpdateProject", API, IN_PROJECT, |o| {
        (format!("/projects/{}", o.project), json!({ "description": "changed" }))
    }),
    row("DeleteProject", API, IN_PROJECT, |o| get(format!("/projects/{}", o.project))),
    row("GetCurrentUser", READ_USER, ANYBODY, |_| get("/user")),
    row("ListUsers", READ_USER, ANYBODY, |_| get("/users")),
    row("GetUser", READ_USER, ANYBODY, |o| get(format!("/users/{}", o.user))),
    row("CreateUser", API, ADMIN, |_| {
        let name = unique("made");
        ("/users".into(), json!({ "username": name, "name": name, "email": format!("{name}@example.com") }))
    }),
    row("UpdateUser", API, ADMIN, |o| (format!("/users/{}", o.user), json!({ "name": "Changed" }))),
    row("DeleteUser", API, ADMIN, |o| get(format!("/users/{}", o.user))),
    row("CreatePersonalAccessToken", API, ADMIN, |o| {
        (format!("/users/{}/personal_access_tokens", o.user), json!({ "name": "made", "scopes": ["read_user"] }))
    }),
    // A project that the caller may not see is refused like one that does not exist.
    row("CreateRunner", CREATE, (Refused(Reason::BadRequest), Success), |o| {
        ("/user/runners".into(), json!({ "runner_type": "project_type", "project_id": o.project }))
    }),
    row("ListRunners", READ, ANYBODY, |_| get("/runners")),
    row("ListAllRunners", READ, ADMIN, |_| get("/runners/all")),
    row("GetRunner", READ_RUNNER, ON_RUNNER, |o| get(format!("/runners/{}", o.runner))),
    row("UpdateRunner", MANAGE, ON_RUNNER, |o| (format!("/runners/{}", o.runner), json!({ "description": "changed" }))),
    // That other projects use it is checked first, as GitLab does.
    row(
        "DeleteRunner",
        MANAGE,
        (Refused(Reason::RunnerSharedByProjects), Refused(Reason::RunnerSharedByProjects)),
        |o| get(format!("/runners/{}", o.runner)),
    ),
    row("ListRunnerManagers", READ_RUNNER, ON_RUNNER, |o| get(format!("/runners/{}/managers", o.runner))),
    row("ListRunnerTokenEvents", READ_RUNNER, ON_RUNNER, |o| get(format!("/runners/{}/token_events", o.runner))),
    row("ResetRunnerAuthenticationToken", MANAGE, ON_RUNNER, |o| {
        get(format!("/runners/{}/reset_authentication_token", o.runner))
    }),
    row("ListProjectRunners", READ, IN_PROJECT, |o| get(format!("/projects/{}/runners", o.project))),
    row("AssignRunner", API, IN_PROJECT, |o| {
        (format!("/projects/{}/runners", o.other_project), json!({ "runner_id": o.runner }))
    }),
    row("UnassignRunner", API, IN_PROJECT, |o| get(format!("/projects/{}/runners/{}", o.assigned, o.runner))),
    row("ListGroupRunners", READ, IN_GROUP, |o| get(format!("/groups/{}/runners", o.group))),
    row("ListProjectMembers", READ, IN_PROJECT, |o| get(format!("/projects/{}/members", o.project))),
    row("ListAllProjectMembers", READ, IN_PROJECT, |o| get(format!("/projects/{}/members/all", o.project))),
    row("GetProjectMember", READ, IN_PROJECT, |o| get(format!("/projects/{}/members/{}", o.project, o.member))),
    row("AddProjectMember", API, IN_PROJECT, |o| (format!("/projects/{}/members", o.project), reporter(o.user))),
    row("UpdateProjectMember", API, IN_PROJECT, |o| {
        (format!("/projects/{}/members/{}", o.project, o.member), json!({ "access_level": 10 }))
    }),
    row("RemoveProjectMember", API, IN_PROJECT, |o| get(format!("/projects/{}/members/{}", o.project, o.member))),
    row("ListGroupMembers", READ, IN_GROUP, |o| get(format!("/groups/{}/members", o.group))),
    row("ListAllGroupMembers", READ, IN_GROUP, |o| get(format!("/groups/{}/members/all", o.group))),
    row("GetGroupMember", READ, IN_GROUP, |o| get(format!("/groups/{}/members/{}", o.group, o.member))),
    row("AddGroupMember", API, IN_GROUP, |o| (format!("/groups/{}/members", o.group), reporter(o.user))),
    row("UpdateGroupMember", API, IN_GROUP, |o| {
        (format!("/groups/{}/members/{}", o.group, o.member), json!({ "access_level": 10 }))
    }),
    row("RemoveGroupMember", API, IN_GROUP, |o| get(format!("/groups/{}/members/{}", o.group, o.member))),
    row("IssueJobToken", API, ADMIN, |o| {
        ("/admin/jobs".into(), json!({ "project_id": o.project, "user_id": o.member }))
    }),
    row("StartJob", API, ADMIN, |o| get(format!("/admin/jobs/{}/start", o.job))),
    row("FinishJob", API, ADMIN, |o| get(format!("/admin/jobs/{}/finish", o.job))),
    row("ListJobs", READ, ADMIN, |_| get("/admin/jobs")),
    row("GetScope", READ, IN_PROJECT, |o| get(scope(o, ""))),
    row("UpdateScope", API, IN_PROJECT, |o| (scope(o, ""), json!({ "enabled": true }))),
    row("ListAllowedProjects", READ, IN_PROJECT, |o| get(scope(o, "/allowlist"))),
    row("ListAllowedGroups", READ, IN_PROJECT, |o| get(scope(o, "/groups_allowlist"))),
    row("AllowProject", API, IN_PROJECT, |o| (scope(o, "/allowlist"), json!({ "target_project_id": o.other_project }))),
    row("AllowGroup", API, IN_PROJECT, |o| (scope(o, "/groups_allowlist"), json!({ "target_group_id": o.group }))),
    row("UpdateAllowedProject", API, IN_PROJECT, |o| {
        (scope(o, &format!("/allowlist/{}", o.allowed_project)), json!({ "default_permissions": true }))
    }),
    row("UpdateAllowedGroup", API, IN_PROJECT, |o| {
        (scope(o, &format!("/groups_allowlist/{}", o.allowed_group)), json!({ "default_permissions": true }))
    }),
    row("DisallowProject", API, IN_PROJECT, |o| get(scope(o, &format!("/allowlist/{}", o.allowed_project)))),
    row("DisallowGroup", API, IN_PROJECT, |o| get(scope(o, &format!("/groups_allowlist/{}", o.allowed_group)))),
    row("ListAuthenticationLog", READ, IN_PROJECT, |o| get(scope(o, "/authentication_log"))),
    row("ListAccessEvents", READ, IN_PROJECT, |o| get(scope(o, "/authentication_log/events"))),
    row("StreamAuthenticationLogCsv", READ, IN_PROJECT, |o| get(scope(o, "/authentication_log.csv"))),
    row("StreamAuthenticationLogJsonLines", READ, IN_PROJECT, |o| get(scope(o, "/authentication_log.jsonl"))),
    row("StreamAccessEventsJsonLines", READ, IN_PROJECT, |o| get(scope(o, "/authentication_log/events.jsonl"))),
    row("DryRunAllowlist", API, IN_PROJECT, |o| get(scope(o, "/authentication_log/rehearse"))),
    row("AutopopulateAllowlist", API, IN_PROJECT, |o| get(scope(o, "/autopopulate_allowlist"))),
];

fn reporter(user: i64) -> Value {
    json!({ "user_id": user, "access_level": 20 })
}

fn scope(objects: &Objects, below: &str) -> String {
    format!("/projects/{}/job_token_scope{below}", objects.project)
}

pub const JOB_ROWS: &[JobRow] = &[JobRow { method: "GetCurrentJob", path: "/job" }];

pub const PUBLIC_ROWS: &[PublicRow] = &[PublicRow { method: "ListSigningKeys", path: "/oauth/discovery/keys" }];

pub const RUNNER_ROWS: &[RunnerRow] = &[
    RunnerRow { method: "RegisterRunner", request: || ("/runners", json!({ "info": { "name": "matrix" } })) },
    RunnerRow { method: "VerifyRunner", request: || ("/runners/verify", json!({ "system_id": SYSTEM_ID })) },
    RunnerRow { method: "ResetAuthenticationToken", request: || ("/runners/reset_authentication_token", json!({})) },
    RunnerRow { method: "UnregisterRunner", request: || ("/runners", json!({})) },
    RunnerRow {
        method: "UnregisterRunnerManager",
        request: || ("/runners/managers", json!({ "system_id": SYSTEM_ID })),
    },
    RunnerRow { method: "RequestJob", request: || ("/jobs/request", json!({ "system_id": SYSTEM_ID })) },
];

//! The kinds of callers, and how each gets its credential.

use proto::paddock::contract::v1::TokenScope;
use serde_json::json;
use system::{Api, Paddock};

use crate::{database, fixtures};

/// A kind of caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No credential at all.
    Anonymous,
    /// A personal access token with one character missing.
    MalformedUserToken,
    /// The token of a deleted user.
    UnknownUserToken,
    /// A token after its last day.
    ExpiredUserToken,
    /// A token that was revoked.
    RevokedUserToken,
    /// The token of an administrator with only this scope.
    Admin(TokenScope),
    /// A user without rights on the requested object.
    Stranger,
    /// The user that owns the requested object.
    Owner,
    /// A runner token in the place of a personal access token.
    RunnerTokenAsUser,
    /// A runner.
    Runner,
    /// A runner token with one character missing.
    MalformedRunnerToken,
    /// The token of a deleted runner.
    RemovedRunnerToken,
    /// A runner token after its expiry.
    ExpiredRunnerToken,
    /// A runner token whose successor is in use.
    SupersededRunnerToken,
    /// A runner token from before a reset by runner id.
    RevokedRunnerToken,
    /// A personal access token in the place of a runner token.
    UserTokenAsRunner,
    /// A personal access token in its own place, and no runner token.
    UserOnRunnerRoute,
    /// A job token in the place of a personal access token.
    JobTokenAsUser,
    /// A job token in its own place, on a route for users.
    JobOnUserRoute,
    /// A running job.
    Job,
    /// A job token without its signature.
    MalformedJobToken,
    /// A job token that another instance signed.
    JobTokenOfAnotherInstance,
    /// The token of a job that has ended.
    TokenOfAFinishedJob,
    /// The token of a job that has not started.
    TokenOfACreatedJob,
    /// The token of a job whose project is deleted.
    TokenOfAJobWithoutProject,
    /// A personal access token in the place of a job token.
    UserTokenAsJob,
    /// A runner token in the place of a job token.
    RunnerTokenAsJob,
    /// A personal access token in its own place, and no job token.
    UserOnJobRoute,
}

impl Caller {
    /// The callers of the methods for users.
    pub fn of_user_methods() -> Vec<Self> {
        let mut all = vec![Self::Anonymous, Self::MalformedUserToken, Self::UnknownUserToken, Self::ExpiredUserToken];
        all.extend([Self::RevokedUserToken, Self::RunnerTokenAsUser, Self::Stranger, Self::Owner]);
        all.extend([Self::JobTokenAsUser, Self::JobOnUserRoute]);
        all.extend(TokenScope::ALL.map(Self::Admin));
        all
    }

    /// The callers of the methods for runners.
    pub fn of_runner_methods() -> [Self; 9] {
        [
            Self::Anonymous,
            Self::MalformedRunnerToken,
            Self::RemovedRunnerToken,
            Self::ExpiredRunnerToken,
            Self::SupersededRunnerToken,
            Self::RevokedRunnerToken,
            Self::UserTokenAsRunner,
            Self::UserOnRunnerRoute,
            Self::Runner,
        ]
    }

    /// The callers of the methods for jobs.
    pub fn of_job_methods() -> [Self; 10] {
        [
            Self::Anonymous,
            Self::MalformedJobToken,
            Self::JobTokenOfAnotherInstance,
            Self::TokenOfAFinishedJob,
            Self::TokenOfACreatedJob,
            Self::TokenOfAJobWithoutProject,
            Self::UserTokenAsJob,
            Self::RunnerTokenAsJob,
            Self::UserOnJobRoute,
            Self::Job,
        ]
    }
}

/// The credentials.
pub struct Callers {
    anonymous: Api,
    pub root: Api,
    pub owner: Api,
    stranger: String,
    unknown: String,
    expired: String,
    revoked: String,
    runner: String,
    job: String,
    scoped: Vec<(TokenScope, String)>,
}

impl Callers {
    pub async fn make(paddock: &Paddock) -> Self {
        let root = paddock.root();
        let anonymous = paddock.anonymous();
        let [owner, stranger, leaver] =
            [fixtures::user(&root).await, fixtures::user(&root).await, fixtures::user(&root).await];
        let unknown = fixtures::user_token(&root, leaver, "unknown", &["api"]).await;
        root.delete(&format!("/users/{leaver}")).await.ok(204);
        let me = fixtures::id(&root.get("/user").await.ok(200));
        let expired = fixtures::user_token(&root, me, "expired", &["api"]).await;
        let revoked = fixtures::user_token(&root, me, "revoked", &["api"]).await;
        database::run(paddock, "UPDATE personal_access_tokens SET expires_at = created_at WHERE name = 'expired'")
            .await;
        database::run(paddock, "UPDATE personal_access_tokens SET revoked_at = created_at WHERE name = 'revoked'")
            .await;
        let mut scoped = Vec::new();
        for scope in TokenScope::ALL {
            scoped.push((scope, fixtures::user_token(&root, me, "scoped", &[scope.name()]).await));
        }
        let owner = root.with_token(&fixtures::user_token(&root, owner, "owner", &["api"]).await);
        let stranger = fixtures::user_token(&root, stranger, "stranger", &["api"]).await;
        let runner = fixtures::runner(&owner, fixtures::project(&owner).await).await.1;
        let job = fixtures::job(&root, fixtures::project(&root).await, me).await.1;
        Self { anonymous, root, owner, stranger, unknown, expired, revoked, runner, job, scoped }
    }

    /// The caller of a method for users.
    pub fn as_user(&self, caller: Caller) -> Api {
        match caller {
            Caller::Owner => self.owner.clone(),
            Caller::Stranger => self.anonymous.with_token(&self.stranger),
            Caller::MalformedUserToken => self.anonymous.with_token(&self.stranger[..self.stranger.len() - 1]),
            Caller::UnknownUserToken => self.anonymous.with_token(&self.unknown),
            Caller::ExpiredUserToken => self.anonymous.with_token(&self.expired),
            Caller::RevokedUserToken => self.anonymous.with_token(&self.revoked),
            Caller::RunnerTokenAsUser => self.anonymous.with_token(&self.runner),
            Caller::JobTokenAsUser => self.anonymous.with_token(&self.job),
            Caller::Admin(scope) => {
                self.anonymous.with_token(&self.scoped.iter().find(|(s, _)| *s == scope).expect("made").1)
            }
            _ => self.anonymous.clone(),
        }
    }

    /// The caller of a method for runners, apart from the runner token.
    pub fn as_runner(&self, caller: Caller) -> Api {
        if caller == Caller::UserOnRunnerRoute { self.owner.clone() } else { self.anonymous.clone() }
    }

    /// The runner token that the caller presents. Each call gets a new runner, because a method may consume the token.
    pub async fn runner_token(&self, caller: Caller, paddock: &Paddock) -> Option<String> {
        let (id, token) = fixtures::runner(&self.owner, fixtures::project(&self.owner).await).await;
        let manager = json!({ "token": token, "system_id": super::table::SYSTEM_ID });
        self.anonymous.post("/runners/verify", manager).await.ok(200);
        match caller {
            Caller::Runner => {}
            Caller::MalformedRunnerToken => return Some(token[..token.len() - 1].to_owned()),
            Caller::UserTokenAsRunner => return Some(self.stranger.clone()),
            Caller::RemovedRunnerToken => drop(self.owner.delete(&format!("/runners/{id}")).await.ok(204)),
            Caller::ExpiredRunnerToken => {
                let sql =
                    "UPDATE runner_tokens SET expires_at = created_at WHERE id = (SELECT MAX(id) FROM runner_tokens)";
                database::run(paddock, sql).await;
            }
            Caller::SupersededRunnerToken => {
                let rotated =
                    self.anonymous.post("/runners/reset_authentication_token", json!({ "token": token })).await;
                let successor = rotated.ok(201)["token"].clone();
                let moved = json!({ "token": successor, "system_id": super::table::SYSTEM_ID });
                self.anonymous.post("/runners/verify", moved).await.ok(200);
            }
            Caller::RevokedRunnerToken => {
                self.owner.post(&format!("/runners/{id}/reset_authentication_token"), json!({})).await.ok(201);
            }
            _ => return None,
        }
        Some(token)
    }

    /// The job token that is sent in its own header in addition to the other credential.
    pub fn extra_job_token(&self, caller: Caller) -> Option<&str> {
        (caller == Caller::JobOnUserRoute).then_some(self.job.as_str())
    }

    /// The job token that the caller presents. Each call gets a new job.
    pub async fn job_token(&self, caller: Caller) -> Option<String> {
        let me = fixtures::id(&self.root.get("/user").await.ok(200));
        let project = fixtures::project(&self.root).await;
        let (id, token) = fixtures::job(&self.root, project, me).await;
        match caller {
            Caller::Job => {}
            Caller::MalformedJobToken => return token.rsplit_once('.').map(|(unsigned, _)| unsigned.to_owned()),
            Caller::JobTokenOfAnotherInstance => {
                let other = Paddock::start();
                return Some(fixtures::job(&other.root(), fixtures::project(&other.root()).await, 1).await.1);
            }
            Caller::TokenOfAFinishedJob => {
                self.root.post(&format!("/admin/jobs/{id}/finish"), json!({})).await.ok(200);
            }
            Caller::TokenOfACreatedJob => {
                let created = json!({ "project_id": project, "user_id": me, "status": "created" });
                return Some(fixtures::text(&self.root.post("/admin/jobs", created).await.ok(201)["token"]));
            }
            Caller::TokenOfAJobWithoutProject => {
                self.root.delete(&format!("/projects/{project}")).await.ok(204);
            }
            Caller::UserTokenAsJob => return Some(self.stranger.clone()),
            Caller::RunnerTokenAsJob => return Some(self.runner.clone()),
            _ => return None,
        }
        Some(token)
    }
}

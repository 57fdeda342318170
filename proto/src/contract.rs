//! The tables that the options in the `.proto` files declare, as plain static values.
//!
//! Names of headers, secrets, prefixes and carriers stand in the `.proto` files and nowhere else; read them from here.

use crate::paddock::contract::v1::{
    CredentialForm, CredentialKind, InternalHeader, LogLevel, Process, RateClass, Reason, Secret, SecretEncoding,
    TokenScope,
};

include!("gen/contract.rs");

/// What a refusal reason means to each reader. Declared in `reason.proto`.
#[derive(Debug, PartialEq, Eq)]
pub struct ReasonSpec {
    /// The reason in lower snake case, as REST answers, logs and metrics show it.
    pub code: &'static str,
    /// The gRPC status code, by number.
    pub grpc_code: i32,
    /// The HTTP status.
    pub http_status: u16,
    /// The `message` of the REST answer, unless the refusal carries a more precise text.
    pub message: &'static str,
    /// Whether the text also stands under `error`.
    pub error_key: bool,
    /// How loud it is logged.
    pub log_level: LogLevel,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// What the caller can do.
    pub remedy: &'static str,
}

/// One place where a credential may arrive. Declared in `credential.proto`.
#[derive(Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The place.
    pub place: Place,
    /// Whether a value counts only if it starts with the kind's prefix.
    pub only_with_prefix: bool,
}

/// Where in a request a credential stands.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Place {
    /// A header, by its lower-case name.
    Header(&'static str),
    /// A parameter of the body or the query.
    Parameter(&'static str),
    /// The scheme of the Authorization header, lower case.
    AuthorizationScheme(&'static str),
    /// The password of basic authentication with this user name, on protected routes that opt in.
    BasicUsername(&'static str),
}

/// What a kind of credential looks like and how it is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct CredentialSpec {
    /// The public start of every token of the kind.
    pub prefix: &'static str,
    /// What follows the prefix.
    pub form: CredentialForm,
    /// Where it may arrive, in the order of precedence.
    pub carriers: &'static [Carrier],
    /// The reason when a method needs it and none came.
    pub missing: Reason,
    /// The reason when form or checksum are wrong.
    pub malformed: Reason,
    /// The reason when a credential of another kind came in its place.
    pub wrong_kind: Reason,
}

/// A header of calls between processes. Declared in `header.proto`.
#[derive(Debug, PartialEq, Eq)]
pub struct HeaderSpec {
    /// The gRPC metadata key.
    pub key: &'static str,
    /// The processes that set it.
    pub set_by: &'static [Process],
    /// The processes that read it.
    pub read_by: &'static [Process],
}

/// Where a secret lives and who handles it. Declared in `secret.proto`.
#[derive(Debug, PartialEq, Eq)]
pub struct SecretSpec {
    /// The name of the secret object in a deployment.
    pub name: &'static str,
    /// The key inside that object.
    pub key: &'static str,
    /// The name of the mounted file.
    pub file: &'static str,
    /// How the file's content is written.
    pub encoding: SecretEncoding,
    /// The least number of bytes after decoding.
    pub min_bytes: usize,
    /// Who produces it.
    pub produced_by: &'static [Process],
    /// Who reads it.
    pub read_by: &'static [Process],
    /// Whether a process starts without it.
    pub optional: bool,
}

/// Who may call a method and how its answer becomes REST. Declared as an option of the method.
#[derive(Debug, PartialEq, Eq)]
pub struct MethodSpec {
    /// The gRPC path: `/package.Service/Method`.
    pub path: &'static str,
    /// The name of the method alone.
    pub name: &'static str,
    /// The process that serves it; unspecified: every process that serves gRPC.
    pub served_by: Process,
    /// The credential kinds that it accepts.
    pub accepts: &'static [CredentialKind],
    /// The token scopes of which a user needs one.
    pub scopes: &'static [TokenScope],
    /// Whether the user must be an administrator.
    pub admin: bool,
    /// The HTTP status of success.
    pub success: Success,
    /// The budget that a request draws on.
    pub rate_class: RateClass,
    /// Whether a call without an answer may be repeated.
    pub idempotent: bool,
    /// The reason instead of the credential's own when what came starts like no known credential; unspecified: the same.
    pub unrecognized: Reason,
    /// The REST verb and path template; none for a method that only processes call.
    pub rest: Option<(&'static str, &'static str)>,
}

/// Where the HTTP status of success comes from.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Success {
    /// It is always the same. 204 means: no body.
    Status(u16),
    /// It stands in this int32 field of the answer.
    Field(&'static str),
}

/// Finds a method by its gRPC path.
#[must_use]
pub fn method(path: &str) -> Option<&'static MethodSpec> {
    METHODS.binary_search_by(|m| m.path.cmp(path)).ok().map(|i| &METHODS[i])
}

impl Process {
    /// The name of the process as it stands in identities, logs and deployments: `runner-registry`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::RunnerRegistry => "runner-registry",
            Self::Gateway => "gateway",
            Self::JobTokenAuth => "job-token-auth",
            Self::Paddock => "paddock",
        }
    }

    /// The settings of the process that are in no section of a configuration file. The other processes skip them.
    #[must_use]
    pub fn top_settings(self) -> &'static [&'static str] {
        match self {
            Self::Paddock => &["port", "data", "upstream"],
            Self::Unspecified | Self::RunnerRegistry | Self::Gateway | Self::JobTokenAuth => &[],
        }
    }

    /// The name of the process as a configuration section: `runner_registry`.
    #[must_use]
    pub fn section(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::RunnerRegistry => "runner_registry",
            Self::Gateway => "gateway",
            Self::JobTokenAuth => "job_token_auth",
            Self::Paddock => "paddock",
        }
    }

    /// Every process that can be configured.
    pub const ALL: [Self; 4] = [Self::RunnerRegistry, Self::Gateway, Self::JobTokenAuth, Self::Paddock];
}

impl TokenScope {
    /// The scope as users write it: `read_api`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Api => "api",
            Self::ReadApi => "read_api",
            Self::ReadUser => "read_user",
            Self::CreateRunner => "create_runner",
            Self::ManageRunner => "manage_runner",
        }
    }

    /// The scope that users write so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// Every scope that a token can have.
    pub const ALL: [Self; 5] = [Self::Api, Self::ReadApi, Self::ReadUser, Self::CreateRunner, Self::ManageRunner];
}

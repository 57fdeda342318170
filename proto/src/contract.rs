//! The tables that the options in the `.proto` files declare, as static values.
//!
//! The `.proto` files are the only source of the names of headers, secrets, prefixes and carriers. Code reads them from here.

use crate::paddock::contract::v1::{
    CredentialForm, CredentialKind, InternalHeader, LogLevel, Process, RateClass, Reason, Secret, SecretEncoding,
    TokenScope,
};

include!("gen/contract.rs");

/// The compiled `.proto` files, custom options and comments included, as an encoded `google.protobuf.FileDescriptorSet`.
pub static DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

/// How a reason of refusal appears in gRPC, REST and the log. Declared in `reason.proto`.
#[derive(Debug, PartialEq, Eq)]
pub struct ReasonSpec {
    /// The reason in lower snake case, as REST answers, logs and metrics show it.
    pub code: &'static str,
    /// The number of the gRPC status code.
    pub grpc_code: i32,
    /// The HTTP status.
    pub http_status: u16,
    /// The `message` of the REST response, unless the refusal has a more precise text.
    pub message: &'static str,
    /// Whether the response repeats the text under `error`.
    pub error_key: bool,
    /// The level of its log line.
    pub log_level: LogLevel,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// What the caller can do.
    pub remedy: &'static str,
}

/// One part of a request that may carry a credential. Declared in `credential.proto`.
#[derive(Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The part of the request.
    pub place: Place,
    /// Whether a value without the prefix of the kind is ignored.
    pub only_with_prefix: bool,
}

/// The part of a request that holds a credential.
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

/// The form of a kind of credential, and the reasons of its refusals. Declared in `credential.proto`.
#[derive(Debug, PartialEq, Eq)]
pub struct CredentialSpec {
    /// The prefix of every token of the kind. It is not secret.
    pub prefix: &'static str,
    /// The form of the text after the prefix.
    pub form: CredentialForm,
    /// The parts of a request that may carry it, in order of precedence.
    pub carriers: &'static [Carrier],
    /// The reason when a method needs it and the request has none.
    pub missing: Reason,
    /// The reason when the form or the checksum is wrong.
    pub malformed: Reason,
    /// The reason when the request has a credential of another kind.
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

/// Where a secret is stored, and which processes use it. Declared in `secret.proto`.
#[derive(Debug, PartialEq, Eq)]
pub struct SecretSpec {
    /// The name of the secret object in a deployment.
    pub name: &'static str,
    /// The key inside that object.
    pub key: &'static str,
    /// The name of the mounted file.
    pub file: &'static str,
    /// The encoding of the file.
    pub encoding: SecretEncoding,
    /// The minimum number of bytes after decoding.
    pub min_bytes: usize,
    /// The processes that generate it.
    pub produced_by: &'static [Process],
    /// The processes that read it.
    pub read_by: &'static [Process],
    /// Whether a process starts without it.
    pub optional: bool,
}

/// Who may call a method, and how it is exposed as REST. Declared as an option of the method.
#[derive(Debug, PartialEq, Eq)]
pub struct MethodSpec {
    /// The gRPC path: `/package.Service/Method`.
    pub path: &'static str,
    /// The name of the method alone.
    pub name: &'static str,
    /// The process that serves it. Unspecified: every process that serves gRPC.
    pub served_by: Process,
    /// The kinds of credential that it accepts.
    pub accepts: &'static [CredentialKind],
    /// The token scopes. A user needs at least one of them.
    pub scopes: &'static [TokenScope],
    /// Whether the user must be an administrator.
    pub admin: bool,
    /// The HTTP status of success.
    pub success: Success,
    /// The rate limit that a request counts against.
    pub rate_class: RateClass,
    /// Whether a call without an answer may be retried.
    pub idempotent: bool,
    /// The reason when the credential has no known prefix. Unspecified: the reason of the credential kind.
    pub unrecognized: Reason,
    /// The HTTP verb and the path template. None for a method that only processes call.
    pub rest: Option<(&'static str, &'static str)>,
}

/// The source of the HTTP status of success.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Success {
    /// A fixed status. 204 means that the response has no body.
    Status(u16),
    /// The value of this int32 field of the response message.
    Field(&'static str),
}

/// Finds a method by its gRPC path.
#[must_use]
pub fn method(path: &str) -> Option<&'static MethodSpec> {
    METHODS.binary_search_by(|method| method.path.cmp(path)).ok().map(|index| &METHODS[index])
}

impl Process {
    /// Returns the name of the process in identities, logs and deployments: `runner-registry`.
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

    /// Returns the settings of the process that are in no section of a configuration file. The other processes skip them.
    #[must_use]
    pub fn top_settings(self) -> &'static [&'static str] {
        match self {
            Self::Paddock => &["port", "data", "upstream"],
            Self::Unspecified | Self::RunnerRegistry | Self::Gateway | Self::JobTokenAuth => &[],
        }
    }

    /// Returns the name of the process as a section of the configuration: `runner_registry`.
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
    /// Returns the scope as users write it: `read_api`.
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

    /// Finds a scope by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// Every scope that a token can have.
    pub const ALL: [Self; 5] = [Self::Api, Self::ReadApi, Self::ReadUser, Self::CreateRunner, Self::ManageRunner];
}

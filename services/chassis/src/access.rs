//! The caller of a request, and the check of the access table: does the method accept this kind of caller? The handler checks
//! what the caller may do with the object.

use std::net::IpAddr;

use proto::{
    contract::MethodSpec,
    paddock::contract::v1::{CredentialKind, Process, Reason, TokenScope},
};
use tonic::Request;

use crate::status::{Fault, Refusal, Rejection};

/// The end caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A caller without a credential.
    Anonymous,
    /// The holder of a token of this kind. The message carries the token, and the receiver authenticates it.
    Bearer(CredentialKind),
    /// A user, authenticated by the sender.
    User(User),
    /// A process of Paddock that calls for itself.
    Process(Process),
}

/// An authenticated user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub id: i64,
    /// The username.
    pub username: String,
    /// Whether the user is an administrator.
    pub admin: bool,
    /// What the presented token may do.
    pub scopes: Vec<TokenScope>,
}

/// The request that a call belongs to. The client signs it, the server verifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// The end caller.
    pub caller: Caller,
    /// The id with which every process logs the request.
    pub request_id: String,
    /// The address of the end caller.
    pub peer_address: Option<IpAddr>,
    /// The user agent of the end caller, without credentials. A call carries at most
    /// [`MAX_USER_AGENT`](crate::identity::MAX_USER_AGENT) bytes of it.
    pub user_agent: Option<String>,
}

impl Caller {
    /// Returns the kind of credential that authenticates such a caller.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Anonymous => CredentialKind::None,
            Self::Bearer(kind) => *kind,
            Self::User(_) => CredentialKind::UserToken,
            Self::Process(_) => CredentialKind::Process,
        }
    }
}

impl CallContext {
    /// Returns the calling user.
    ///
    /// # Errors
    /// A fault for any other caller: the access table should have refused it.
    pub fn user(&self) -> Result<&User, Fault> {
        match &self.caller {
            Caller::User(user) => Ok(user),
            other => Err(Fault::internal(format!("a method for users was reached by {:?}", other.kind()))),
        }
    }
}

/// Returns the verified context of a call.
///
/// # Errors
/// A fault if the server has no layer that verifies it.
pub fn context<T>(request: &Request<T>) -> Result<&CallContext, Fault> {
    request.extensions().get().ok_or_else(|| Fault::internal("the call has no verified context"))
}

/// Checks a caller against the method's row of the access table.
///
/// # Errors
/// A fault if the method does not accept the kind of caller, because the sender should have refused it. A refusal if the user
/// lacks a scope or is not an administrator.
pub fn check(method: &MethodSpec, caller: &Caller) -> Result<(), Rejection> {
    if !method.accepts.contains(&caller.kind()) {
        let detail = format!("{} does not accept {:?}", method.path, caller.kind());
        return Err(Fault::of(Reason::CallerNotAccepted, detail).into());
    }
    let Caller::User(user) = caller else { return Ok(()) };
    if !user.scopes.iter().any(|scope| method.scopes.contains(scope)) {
        return Err(Refusal::new(Reason::InsufficientScope).into());
    }
    if method.admin && !user.admin {
        return Err(Refusal::new(Reason::AdminRequired).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::contract::METHODS;

    use super::*;

    fn user(admin: bool, scopes: &[TokenScope]) -> Caller {
        Caller::User(User { id: 1, username: "u".into(), admin, scopes: scopes.to_vec() })
    }

    fn code(result: Result<(), Rejection>) -> Option<&'static str> {
        result.err().map(|rejection| rejection.spec().code)
    }

    #[test]
    fn every_method_accepts_exactly_the_callers_of_its_row() {
        let process = Caller::Process(Process::Gateway);
        for method in METHODS {
            for caller in [
                Caller::Anonymous,
                Caller::Bearer(CredentialKind::RunnerToken),
                process.clone(),
                user(true, method.scopes),
            ] {
                let expected = if method.accepts.contains(&caller.kind()) { None } else { Some("caller_not_accepted") };
                assert_eq!(code(check(method, &caller)), expected, "{} {caller:?}", method.path);
            }
            if method.accepts.contains(&CredentialKind::UserToken) {
                assert_eq!(code(check(method, &user(true, &[]))), Some("insufficient_scope"), "{}", method.path);
                let ordinary = code(check(method, &user(false, method.scopes)));
                assert_eq!(ordinary, method.admin.then_some("admin_required"), "{}", method.path);
            }
        }
    }
}

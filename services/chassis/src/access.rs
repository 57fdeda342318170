//! Who calls, and whether the contract lets such a caller call the method. Whether the caller may touch the object is the
//! handler's question.

use std::net::IpAddr;

use proto::contract::MethodSpec;
use proto::paddock::contract::v1::{CredentialKind, Process, Reason, TokenScope};
use tonic::Request;

use crate::status::{Fault, Refusal, Rejection};

/// The end caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody in particular.
    Anonymous,
    /// Whoever holds the token of this kind that the message carries; the receiver authenticates it.
    Bearer(CredentialKind),
    /// A user, authenticated by the sender.
    User(User),
    /// A process of Paddock that speaks for itself.
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

/// What a process knows of the request that a call belongs to. The client signs it, the server verifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// The end caller.
    pub caller: Caller,
    /// The id under which every process logs the request.
    pub request_id: String,
    /// The address of the end caller.
    pub peer_address: Option<IpAddr>,
}

impl Caller {
    /// The kind of credential that makes such a caller.
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
    /// The calling user.
    ///
    /// # Errors
    /// A fault for any other caller: the access table keeps them from methods that accept only users.
    pub fn user(&self) -> Result<&User, Fault> {
        match &self.caller {
            Caller::User(user) => Ok(user),
            other => Err(Fault::internal(format!("a method for users was reached by {:?}", other.kind()))),
        }
    }
}

/// The verified context of a call.
///
/// # Errors
/// A fault if the server was built without the layer that verifies it.
pub fn context<T>(request: &Request<T>) -> Result<&CallContext, Fault> {
    let missing = || Fault::internal("the call has no verified context");
    request.extensions().get().ok_or_else(missing)
}

/// Checks a caller against the method's row of the access table.
///
/// # Errors
/// A fault if the method does not accept the kind of caller: the sender should not have asked. A refusal if the user lacks a
/// scope or is not an administrator.
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
    use super::*;
    use proto::contract::METHODS;

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

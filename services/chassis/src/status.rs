//! Refusals and faults. A refusal (4xx) is a mistake of the caller, a fault (5xx) is a failure of Paddock. They are different
//! types, so that a fault is never returned as a refusal.
//!
//! Between processes both are a gRPC status with a `google.rpc.ErrorInfo`. The texts come from the contract.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as _,
    fmt,
    time::Duration,
};

use proto::{contract::ReasonSpec, paddock::contract::v1::Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of the `google.rpc.ErrorInfo` of every reason.
const DOMAIN: &str = "paddock";

/// A request that is refused: a 4xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    message: Option<String>,
    fields: BTreeMap<String, Vec<String>>,
    retry_after: Option<u32>,
    detail: Option<String>,
}

/// A failure of Paddock or of a system that it needs: a 5xx. The detail is for the log and never leaves the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    reason: Reason,
    detail: String,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// See [`Refusal`].
    Refusal(Refusal),
    /// See [`Fault`].
    Fault(Fault),
}

impl Refusal {
    /// Makes a refusal with the texts of the contract.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self { reason, message: None, fields: BTreeMap::new(), retry_after: None, detail: None }
    }

    /// Replaces the contract's message by a more precise one.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Adds a text about one field of the record.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, text: impl Into<String>) -> Self {
        self.fields.entry(field.into()).or_default().push(text.into());
        self
    }

    /// Sets the number of seconds after which the caller may try again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds a detail for the log.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the specification of the reason.
    #[must_use]
    pub fn spec(&self) -> &'static ReasonSpec {
        reason_spec(self.reason)
    }

    /// Returns the message for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        self.message.as_deref().unwrap_or(self.spec().message)
    }

    /// Returns the texts by field. They are empty unless the reason is a failed validation.
    #[must_use]
    pub fn fields(&self) -> &BTreeMap<String, Vec<String>> {
        &self.fields
    }

    /// Returns the number of seconds after which the caller may try again.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// Returns the detail for the log.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl Fault {
    /// A fault inside Paddock.
    #[must_use]
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::of(Reason::Internal, detail)
    }

    /// A system that Paddock needs cannot be reached.
    #[must_use]
    pub fn unavailable(detail: impl fmt::Display) -> Self {
        Self::of(Reason::Unavailable, detail)
    }

    /// A system that Paddock needs did not answer in time.
    #[must_use]
    pub fn deadline_exceeded(detail: impl fmt::Display) -> Self {
        Self::of(Reason::DeadlineExceeded, detail)
    }

    /// Makes a fault with a reason of the contract. The reason of a refusal becomes an internal fault, because it is a mistake here.
    #[must_use]
    pub fn of(reason: Reason, detail: impl fmt::Display) -> Self {
        let reason = if reason_spec(reason).http_status >= 500 { reason } else { Reason::Internal };
        Self { reason, detail: detail.to_string() }
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the specification of the reason.
    #[must_use]
    pub fn spec(&self) -> &'static ReasonSpec {
        reason_spec(self.reason)
    }

    /// Returns the detail for the log.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl Rejection {
    /// Returns the specification of the reason.
    #[must_use]
    pub fn spec(&self) -> &'static ReasonSpec {
        match self {
            Self::Refusal(refusal) => refusal.spec(),
            Self::Fault(fault) => fault.spec(),
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::with_error_info(refusal.spec().code, DOMAIN, HashMap::new());
        for (field, texts) in refusal.fields() {
            for text in texts {
                details.add_bad_request_violation(field, text);
            }
        }
        if let Some(seconds) = refusal.retry_after {
            details.set_retry_info(Some(Duration::from_secs(u64::from(seconds))));
        }
        if let Some(detail) = &refusal.detail {
            tracing::info!(reason = refusal.spec().code, detail, "refused");
        }
        Status::with_error_details(Code::from(refusal.spec().grpc_code), refusal.message(), details)
    }
}

impl From<Fault> for Status {
    /// Logs the detail. The status does not contain it.
    fn from(fault: Fault) -> Self {
        let spec = fault.spec();
        tracing::error!(reason = spec.code, detail = fault.detail, remedy = spec.remedy, "fault");
        let details = ErrorDetails::with_error_info(spec.code, DOMAIN, HashMap::new());
        Status::with_error_details(Code::from(spec.grpc_code), spec.message, details)
    }
}

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Refusal(refusal) => refusal.into(),
            Rejection::Fault(fault) => fault.into(),
        }
    }
}

impl From<Status> for Rejection {
    /// Reads the status of a peer. A status without a reason of the contract is a fault: another server answered, or a hop failed.
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let reason =
            details.error_info().filter(|info| info.domain == DOMAIN).and_then(|info| reason_by_code(&info.reason));
        match reason {
            Some(reason) if reason_spec(reason).http_status < 500 => {
                Self::Refusal(refusal_from_status(reason, &status, &details))
            }
            Some(reason) => Self::Fault(Fault::of(reason, status.message())),
            None => Self::Fault(fault_from_status(&status)),
        }
    }
}

fn refusal_from_status(reason: Reason, status: &Status, details: &ErrorDetails) -> Refusal {
    let mut refusal = Refusal::new(reason);
    if status.message() != reason_spec(reason).message {
        refusal = refusal.with_message(status.message());
    }
    for violation in details.bad_request().map(|request| request.field_violations.as_slice()).unwrap_or_default() {
        refusal = refusal.with_field(&violation.field, &violation.description);
    }
    let delay = details.retry_info().and_then(|info| info.retry_delay);
    refusal.retry_after = delay.map(|delay| u32::try_from(delay.as_secs()).unwrap_or(u32::MAX));
    refusal
}

/// Returns the fault for a status that has no reason of the contract.
fn fault_from_status(status: &Status) -> Fault {
    let detail = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unavailable => Fault::unavailable(detail),
        // A status of the peer has no source. A status with a source is a broken connection; its code depends on where the
        // connection broke.
        Code::Unknown | Code::Internal | Code::Cancelled if status.source().is_some() => Fault::unavailable(detail),
        Code::DeadlineExceeded | Code::Cancelled => Fault::deadline_exceeded(detail),
        _ => Fault::internal(detail),
    }
}

/// Returns the specification of a reason. The contract has one for every reason but the unspecified one, which is a fault.
fn reason_spec(reason: Reason) -> &'static ReasonSpec {
    const INTERNAL: &ReasonSpec = match Reason::Internal.spec() {
        Some(spec) => spec,
        None => unreachable!(),
    };
    reason.spec().unwrap_or(INTERNAL)
}

fn reason_by_code(code: &str) -> Option<Reason> {
    Reason::ALL.into_iter().find(|reason| reason_spec(*reason).code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_the_wire_as_what_it_is() {
        for reason in Reason::ALL {
            let status: Status = if reason_spec(reason).http_status < 500 {
                Refusal::new(reason).with_message("precise").with_field("path", "is taken").with_retry_after(7).into()
            } else {
                Fault::of(reason, "a secret detail").into()
            };
            assert_eq!(status.code(), Code::from(reason_spec(reason).grpc_code));
            match Rejection::from(status) {
                Rejection::Refusal(refusal) => {
                    assert!(reason_spec(reason).http_status < 500);
                    assert_eq!((refusal.reason(), refusal.message()), (reason, "precise"));
                    assert_eq!(refusal.fields()["path"], ["is taken"]);
                    assert_eq!(refusal.retry_after(), Some(7));
                }
                Rejection::Fault(fault) => {
                    assert_eq!(fault.reason(), reason);
                    assert!(!fault.detail().contains("secret"), "the detail stays in the process");
                }
            }
        }
    }

    #[test]
    fn a_status_without_a_reason_is_a_fault() {
        let cases = [
            (Status::unavailable("gone"), Reason::Unavailable),
            (Status::deadline_exceeded("slow"), Reason::DeadlineExceeded),
            (Status::cancelled("timeout"), Reason::DeadlineExceeded),
            (Status::from_error(std::io::Error::other("connection reset").into()), Reason::Unavailable),
            (Status::unauthenticated("?"), Reason::Internal),
            (Status::not_found("?"), Reason::Internal),
        ];
        for (status, reason) in cases {
            assert_eq!(Rejection::from(status).spec().code, reason_spec(reason).code);
        }
    }

    #[test]
    fn a_refusal_can_never_be_raised_as_a_fault() {
        assert_eq!(Fault::of(Reason::AccessDenied, "?").reason(), Reason::Internal);
    }
}

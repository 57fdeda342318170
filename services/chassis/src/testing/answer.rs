//! The expected outcome of a call.

#![allow(clippy::panic, reason = "a test fails by a panic")]

use std::fmt::Debug;

use tonic::{Response, Status};

use crate::{
    client_id,
    status::{Refusal, Rejection},
};

/// The expected outcome of a call.
#[allow(clippy::missing_panics_doc, reason = "every method panics if the outcome is another one")]
pub trait Answer<T> {
    /// Returns the message of a call that succeeded.
    fn answer(self) -> T;
    /// Returns the refusal of a call that was refused; a fault fails the test.
    fn refusal(self) -> Refusal;
    /// Returns the code of the reason of a refusal.
    fn reason(self) -> &'static str;
    /// Returns the code of the reason of a fault; a refusal fails the test.
    fn fault(self) -> &'static str;
    /// Returns what is wrong with each field of a failed validation, as `path: has already been taken`.
    fn invalid(self) -> Vec<String>;

    /// Returns the owner of the credential, as `runner/14`; none if the service names nobody.
    fn owner(&self) -> Option<String>;
}

impl<T: Debug> Answer<T> for Result<Response<T>, Status> {
    #[track_caller]
    fn answer(self) -> T {
        match self {
            Ok(response) => response.into_inner(),
            Err(status) => panic!("the call failed: {:?}", Rejection::from(status)),
        }
    }

    #[track_caller]
    fn refusal(self) -> Refusal {
        match self {
            Ok(response) => panic!("the call succeeded: {:?}", response.into_inner()),
            Err(status) => match Rejection::from(status) {
                Rejection::Refusal(refusal) => refusal,
                Rejection::Fault(fault) => panic!("{fault:?}"),
            },
        }
    }

    #[track_caller]
    fn reason(self) -> &'static str {
        self.refusal().spec().code
    }

    #[track_caller]
    fn fault(self) -> &'static str {
        match self {
            Ok(response) => panic!("the call succeeded: {:?}", response.into_inner()),
            Err(status) => match Rejection::from(status) {
                Rejection::Refusal(refusal) => panic!("{refusal:?}"),
                Rejection::Fault(fault) => fault.spec().code,
            },
        }
    }

    #[track_caller]
    fn invalid(self) -> Vec<String> {
        let refusal = self.refusal();
        assert_eq!(refusal.spec().code, "validation_failed", "{refusal:?}");
        let fields = refusal.fields().iter();
        fields.flat_map(|(field, texts)| texts.iter().map(move |text| format!("{field}: {text}"))).collect()
    }

    fn owner(&self) -> Option<String> {
        let metadata = match self {
            Ok(response) => response.metadata(),
            Err(status) => status.metadata(),
        };
        metadata.get(client_id::HEADER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

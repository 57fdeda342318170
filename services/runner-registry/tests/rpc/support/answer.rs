use chassis::status::{Refusal, Rejection};
use tonic::{Response, Status};

/// Asserts how a call ended.
pub trait Answer<T> {
    /// The message of a success.
    fn answer(self) -> T;
    /// The refusal of a call that was refused; a fault fails the test.
    fn refusal(self) -> Refusal;
    /// The code of the reason of a refusal.
    fn reason(self) -> &'static str;
    /// What is wrong, per field, of a failed validation: `path: has already been taken`.
    fn invalid(self) -> Vec<String>;
}

impl<T: std::fmt::Debug> Answer<T> for Result<Response<T>, Status> {
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
    fn invalid(self) -> Vec<String> {
        let refusal = self.refusal();
        assert_eq!(refusal.spec().code, "validation_failed", "{refusal:?}");
        let fields = refusal.fields().iter();
        fields.flat_map(|(field, texts)| texts.iter().map(move |text| format!("{field}: {text}"))).collect()
    }
}

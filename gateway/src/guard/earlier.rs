//! The refusal that a blocked call repeats.

use chassis::{client_id::ClientId, status::Refusal};
use proto::paddock::contract::v1::Reason;

/// The start of the message of a repeated refusal.
const PREFIX: &str = "429 Too Many Requests";

/// What later answers repeat of a refusal, and what the log says of its caller.
#[derive(Clone, Debug)]
pub struct EarlierRefusal {
    /// The reason.
    pub reason: Reason,
    /// The message; none if it is that of the contract.
    message: Option<Box<str>>,
    /// Whom the credential belongs to: `runner/14`; none if it belongs to nobody that is known.
    pub client_id: Option<ClientId>,
}

impl EarlierRefusal {
    /// Keeps a refusal.
    pub fn new(refusal: &Refusal, client_id: Option<ClientId>) -> Self {
        let message = refusal.message();
        let message = (message != refusal.spec().message).then(|| message.into());
        Self { reason: refusal.reason(), message, client_id }
    }

    /// Keeps only a reason. Callers with other tokens may see it.
    pub fn of_reason(reason: Reason) -> Self {
        Self { reason, message: None, client_id: None }
    }

    /// Returns the message of an answer that repeats it.
    pub fn repeated_message(&self) -> String {
        let of_contract = self.reason.spec().map_or("", |spec| spec.message);
        repeat(self.message.as_deref().unwrap_or(of_contract))
    }
}

/// Returns the message that repeats another one, without the status that the other one begins with.
fn repeat(message: &str) -> String {
    match without_status(message) {
        "" => PREFIX.to_owned(),
        cause => format!("{PREFIX} - {cause}"),
    }
}

/// Removes a leading status with its phrase: `403 Forbidden - runner token expired`. A phrase without a cause stays.
fn without_status(message: &str) -> &str {
    let Some((code, rest)) = message.split_once(' ') else { return message };
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return message;
    }
    rest.split_once(" - ").map_or(rest, |(_, cause)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_one_status() {
        for (message, expected) in [
            ("403 Forbidden - runner token expired", "429 Too Many Requests - runner token expired"),
            ("401 Unauthorized", "429 Too Many Requests - Unauthorized"),
            ("400 Bad request - a - b", "429 Too Many Requests - a - b"),
            ("Token rotation deadline has passed", "429 Too Many Requests - Token rotation deadline has passed"),
            ("403", "429 Too Many Requests - 403"),
            ("4034 a", "429 Too Many Requests - 4034 a"),
            ("", "429 Too Many Requests"),
        ] {
            assert_eq!(repeat(message), expected, "{message}");
        }
    }

    #[test]
    fn a_precise_message_is_kept_and_that_of_the_contract_is_not_copied() {
        let plain = EarlierRefusal::new(&Refusal::new(Reason::RunnerTokenExpired), None);
        assert!(plain.message.is_none());
        assert_eq!(plain.repeated_message(), "429 Too Many Requests - runner token expired");
        let precise = Refusal::new(Reason::ParameterMissing).with_message("info is missing");
        let precise = EarlierRefusal::new(&precise, Some(ClientId::new("runner", 14)));
        assert_eq!(precise.repeated_message(), "429 Too Many Requests - info is missing");
        assert_eq!(precise.client_id, Some(ClientId::new("runner", 14)));
    }
}

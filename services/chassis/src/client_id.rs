//! Whom the credential of a call belongs to. The service that resolves a credential names its owner, and the caller writes the
//! name to its log, also when the call is refused or fails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, HeaderValue};
use proto::paddock::contract::v1::InternalHeader;
use tonic::Request;

use crate::status::Fault;

/// The key of the metadata of a response.
pub(crate) const HEADER: &str = match InternalHeader::ClientId.spec() {
    Some(spec) => spec.key,
    None => unreachable!(),
};

/// A kind of client and the id of one, for example `runner/14`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Makes the id of a client of this kind, a word in lower case.
    #[must_use]
    pub fn new(kind: &str, id: i64) -> Self {
        Self(format!("{kind}/{id}").into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads what a peer sent. Only what [`Self::new`] makes is accepted, so that no other text gets into a log.
    fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once('/')?;
        let is_word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase());
        let read = Self::new(kind, id.parse().ok()?);
        (is_word && read.as_str() == text).then_some(read)
    }
}

/// The owner of the credential of a call, once it is known. Clones share it.
///
/// The server gives one to every call, in the extensions of its request, and sends what the handler sets with the response,
/// whether the call succeeds, is refused or fails. A caller that puts one into the extensions of a request finds there what the
/// service has set.
#[derive(Clone, Debug, Default)]
pub struct ResolvedClient(Arc<Mutex<Option<ClientId>>>);

impl ResolvedClient {
    /// Returns that of a call that the server has received.
    ///
    /// # Errors
    /// A fault if the server has no layer that gives one.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Fault> {
        let client = request.extensions().get::<Self>().cloned();
        client.ok_or_else(|| Fault::internal("the call has no place for the owner of its credential"))
    }

    /// Names the owner. A later name replaces an earlier one.
    pub fn set(&self, id: ClientId) {
        *self.lock() = Some(id);
    }

    /// Returns the owner; none if the credential belongs to nobody, or if there is no answer yet.
    #[must_use]
    pub fn get(&self) -> Option<ClientId> {
        self.lock().clone()
    }

    /// Adds the owner to the headers of a response.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.get()
            && let Ok(value) = HeaderValue::try_from(id.as_str())
        {
            headers.insert(HEADER, value);
        }
    }

    /// Takes the owner from the headers of a response. Without one, the earlier name stays.
    pub(crate) fn read(&self, headers: &HeaderMap) {
        let sent = headers.get(HEADER).and_then(|value| value.to_str().ok());
        if let Some(id) = sent.and_then(ClientId::parse) {
            self.set(id);
        }
    }

    /// A panic while the lock was held cannot leave the value half changed.
    fn lock(&self) -> MutexGuard<'_, Option<ClientId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_a_client_is_read() {
        for (text, is_read) in [
            ("runner/14", true),
            ("user/-1", true),
            ("runner/9223372036854775807", true),
            ("", false),
            ("runner", false),
            ("runner/", false),
            ("/14", false),
            ("runner/+14", false),
            ("runner/014", false),
            ("runner/14/2", false),
            ("runner/9223372036854775808", false),
            ("Runner/14", false),
            ("runner 1/14", false),
        ] {
            assert_eq!(ClientId::parse(text).is_some(), is_read, "{text}");
        }
    }

    #[test]
    fn a_response_names_the_latest_owner() {
        let named = ResolvedClient::default();
        let mut headers = HeaderMap::new();
        named.write(&mut headers);
        assert!(headers.is_empty());
        named.set(ClientId::new("job", 7));
        named.clone().set(ClientId::new("runner", 14));
        named.write(&mut headers);

        let read = ResolvedClient::default();
        read.read(&headers);
        assert_eq!(read.get(), Some(ClientId::new("runner", 14)));
        read.read(&HeaderMap::new());
        assert_eq!(read.get(), named.get(), "a response without a name takes nothing away");
    }
}

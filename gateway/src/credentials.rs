//! Finds the credential of a request among its carriers, and refuses what cannot be one before anything is asked for
//! it.

use chassis::status::Refusal;
use chassis::token_form;
use http::{HeaderMap, HeaderName, header};
use proto::contract::{CredentialSpec, MethodSpec, Place};
use proto::paddock::contract::v1::{CredentialKind, Reason};

use crate::contract::ContractError;
use crate::input::builder::Token;

/// The one kind of credential that a method takes, and the headers that carry it.
#[derive(Debug)]
pub struct CredentialPlan {
    /// The kind.
    pub kind: CredentialKind,
    /// Whether the method serves callers without one too.
    pub optional: bool,
    /// The reason for what starts like no known credential.
    unrecognized: Reason,
    spec: &'static CredentialSpec,
    headers: Vec<HeaderCarrier>,
}

#[derive(Debug)]
struct HeaderCarrier {
    name: HeaderName,
    /// The scheme before the credential, lower case; none: the credential is the whole value.
    scheme: Option<&'static str>,
    only_with_prefix: bool,
}

impl CredentialPlan {
    /// Plans a method; none if it takes no credential.
    ///
    /// # Errors
    /// If it accepts two kinds that arrive from outside: which one counts would depend on the order of carriers.
    pub fn new(method: &MethodSpec) -> Result<Option<Self>, ContractError> {
        let accepts = method.accepts;
        let mut specs = accepts.iter().filter_map(|kind| kind.spec().map(|spec| (*kind, spec)));
        let Some((kind, spec)) = specs.next() else { return Ok(None) };
        if specs.next().is_some() {
            return Err(ContractError::new("a method accepts two kinds of credential"));
        }
        let headers = spec.carriers.iter().filter_map(|carrier| {
            let (name, scheme) = match carrier.place {
                Place::Header(name) => (HeaderName::from_static(name), None),
                Place::AuthorizationScheme(scheme) => (header::AUTHORIZATION, Some(scheme)),
                Place::Parameter(_) | Place::BasicUsername(_) => return None,
            };
            Some(HeaderCarrier { name, scheme, only_with_prefix: carrier.only_with_prefix })
        });
        let unrecognized = match method.unrecognized {
            Reason::Unspecified => spec.malformed,
            reason => reason,
        };
        let optional = accepts.contains(&CredentialKind::None);
        Ok(Some(Self { kind, optional, unrecognized, spec, headers: headers.collect() }))
    }

    /// The credential of a request, from its headers and the parameters that carried one. An empty header is none; an
    /// empty parameter is one that is malformed.
    ///
    /// # Errors
    /// If two different ones came.
    pub fn find(&self, headers: &HeaderMap, parameters: Vec<Token>) -> Result<Option<Token>, Refusal> {
        let mut found: Option<Token> = None;
        let from_headers = self.headers.iter().flat_map(|carrier| {
            headers.get_all(&carrier.name).iter().filter_map(|value| carrier.read(value.as_bytes(), self.spec.prefix))
        });
        for token in parameters.into_iter().chain(from_headers) {
            match &found {
                Some(known) if known.expose().is_empty() => found = Some(token),
                Some(known) if *known != token && !token.expose().is_empty() => {
                    return Err(Refusal::new(Reason::ConflictingCredentials));
                }
                Some(_) => {}
                None => found = Some(token),
            }
        }
        Ok(found)
    }

    /// Refuses what cannot be a credential of the kind, by its form alone.
    ///
    /// # Errors
    /// The contract's reason for a credential of another kind, for a wrong form or checksum, or for neither.
    pub fn check(&self, token: &Token) -> Result<(), Refusal> {
        let text = token.expose();
        if token_form::matches(text, self.spec) {
            return Ok(());
        }
        let specs = CredentialKind::ALL.iter().filter_map(|kind| kind.spec());
        let like = specs.map(|spec| spec.prefix).find(|prefix| text.starts_with(prefix));
        Err(Refusal::new(match like {
            Some(prefix) if prefix == self.spec.prefix => self.spec.malformed,
            Some(_) => self.spec.wrong_kind,
            None => self.unrecognized,
        }))
    }

    /// The refusal of a request without a credential.
    pub fn missing(&self) -> Refusal {
        Refusal::new(self.spec.missing)
    }
}

impl HeaderCarrier {
    fn read(&self, value: &[u8], prefix: &str) -> Option<Token> {
        // A credential is ASCII; anything else is kept readable enough to be refused.
        let text = String::from_utf8_lossy(value);
        let text = match self.scheme {
            Some(scheme) => {
                let (first, rest) = text.split_once(' ')?;
                first.eq_ignore_ascii_case(scheme).then(|| rest.trim())?
            }
            None => text.trim(),
        };
        let counts = !text.is_empty() && (!self.only_with_prefix || text.starts_with(prefix));
        counts.then(|| Token::new(text))
    }
}

/// The parameters that carry a credential of any kind. Their values are removed from everything that is logged or
/// answered.
pub fn parameters() -> impl Iterator<Item = &'static str> {
    carriers().filter_map(|place| match place {
        Place::Parameter(name) => Some(name),
        Place::Header(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
    })
}

/// The schemes of the Authorization header that carry a credential, lower case.
pub fn schemes() -> impl Iterator<Item = &'static str> {
    carriers().filter_map(|place| match place {
        Place::AuthorizationScheme(name) => Some(name),
        Place::Header(_) | Place::Parameter(_) | Place::BasicUsername(_) => None,
    })
}

fn carriers() -> impl Iterator<Item = Place> {
    let specs = CredentialKind::ALL.iter().filter_map(|kind| kind.spec());
    specs.flat_map(|spec| spec.carriers).map(|carrier| carrier.place)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

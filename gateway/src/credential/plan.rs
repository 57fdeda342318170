//! Finds the credential of a request in the carriers of its kind, and refuses by its form alone what cannot be one,
//! before any service is asked.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chassis::status::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::{
    contract::{CredentialSpec, MethodSpec, Place},
    paddock::contract::v1::{CredentialKind, Reason},
};

use super::{carriers, token::Token};
use crate::{
    contract::ContractError,
    path::{self, Malformed},
};

/// The one kind of credential that a method takes, and what carries it.
#[derive(Debug)]
pub struct CredentialPlan {
    /// The kind.
    pub kind: CredentialKind,
    /// Whether the method also serves callers without one.
    pub optional: bool,
    /// The reason for refusing text that starts like no known credential.
    unrecognized: Reason,
    pub(super) spec: &'static CredentialSpec,
    headers: Vec<HeaderCarrier>,
    parameters: Vec<ParameterCarrier>,
}

#[derive(Debug)]
struct HeaderCarrier {
    name: HeaderName,
    value: HeaderForm,
    only_with_prefix: bool,
}

#[derive(Debug)]
struct ParameterCarrier {
    name: &'static str,
    only_with_prefix: bool,
}

/// The form of a credential in its header.
#[derive(Debug)]
enum HeaderForm {
    /// As the whole value.
    Whole,
    /// Behind this scheme, in lower case.
    Scheme(&'static str),
    /// As the password of this user in basic authentication (RFC 7617).
    Password(&'static str),
}

impl CredentialPlan {
    /// Plans a method. Returns none if the method takes no credential.
    ///
    /// # Errors
    /// Fails if the method accepts two kinds that arrive from outside: which one counts would depend on the order of
    /// carriers.
    pub fn new(method: &MethodSpec) -> Result<Option<Self>, ContractError> {
        let mut specs = method.accepts.iter().filter_map(|kind| kind.spec().map(|spec| (*kind, spec)));
        let Some((kind, spec)) = specs.next() else { return Ok(None) };
        if specs.next().is_some() {
            return Err(ContractError::new("a method accepts two kinds of credential"));
        }
        let mut plan = Self::for_kind(kind, spec, false);
        plan.optional = method.accepts.contains(&CredentialKind::None);
        if method.unrecognized != Reason::Unspecified {
            plan.unrecognized = method.unrecognized;
        }
        Ok(Some(plan))
    }

    /// Plans a protected route, which takes a job token. With `basic`, the job token may also be a password of basic
    /// authentication.
    ///
    /// # Errors
    /// Fails if the contract has no job tokens.
    pub fn protected(basic: bool) -> Result<Self, ContractError> {
        let kind = CredentialKind::JobToken;
        let spec = kind.spec().ok_or_else(|| ContractError::new("job tokens have no specification"))?;
        Ok(Self::for_kind(kind, spec, basic))
    }

    fn for_kind(kind: CredentialKind, spec: &'static CredentialSpec, basic: bool) -> Self {
        let mut headers = Vec::new();
        let mut parameters = Vec::new();
        for carrier in spec.carriers {
            let only_with_prefix = carrier.only_with_prefix;
            let (name, value) = match carrier.place {
                Place::Header(name) => (HeaderName::from_static(name), HeaderForm::Whole),
                Place::AuthorizationScheme(scheme) => (header::AUTHORIZATION, HeaderForm::Scheme(scheme)),
                Place::BasicUsername(user) if basic => (header::AUTHORIZATION, HeaderForm::Password(user)),
                Place::BasicUsername(_) => continue,
                Place::Parameter(name) => {
                    parameters.push(ParameterCarrier { name, only_with_prefix });
                    continue;
                }
            };
            headers.push(HeaderCarrier { name, value, only_with_prefix });
        }
        Self { kind, optional: false, unrecognized: spec.malformed, spec, headers, parameters }
    }

    /// Returns the credentials in the pairs of a query or a form, including pairs behind a semicolon.
    ///
    /// # Errors
    /// Fails if the name of a pair, or a credential, is not percent-encoded UTF-8.
    pub fn in_pairs(&self, pairs: &str) -> Result<Vec<Token>, Malformed> {
        let mut tokens = Vec::new();
        for (pair, _) in path::lenient_pairs(pairs) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = path::decode_form(name)?;
            let Some(carrier) = self.parameters.iter().find(|carrier| carrier.name == name) else { continue };
            let value = path::decode_form(value)?;
            if !carrier.only_with_prefix || value.starts_with(self.spec.prefix) {
                tokens.push(Token::new(value));
            }
        }
        Ok(tokens)
    }

    /// Returns the credential of a request, from its headers and from the parameters that carried one. An empty header
    /// counts as no credential, an empty parameter as a malformed one.
    ///
    /// # Errors
    /// Fails if the request has two different credentials.
    pub fn find(&self, headers: &HeaderMap, parameters: Vec<Token>) -> Result<Option<Token>, Refusal> {
        let mut found: Option<Token> = None;
        let from_headers = self.headers.iter().flat_map(|carrier| {
            headers
                .get_all(&carrier.name)
                .iter()
                .filter_map(|value| carrier.read_token(value.as_bytes(), self.spec.prefix))
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

    /// Reports whether a header carries this credential.
    pub fn header_carries(&self, name: &HeaderName, value: &HeaderValue, token: &Token) -> bool {
        let mut carriers = self.headers.iter().filter(|carrier| carrier.name == name);
        carriers.any(|carrier| carrier.read_token(value.as_bytes(), self.spec.prefix).as_ref() == Some(token))
    }

    /// Reports whether a pair of a query or a form carries this credential.
    pub fn pair_carries(&self, pair: &str, token: &Token) -> bool {
        self.in_pairs(pair).is_ok_and(|tokens| tokens.first() == Some(token))
    }

    /// Refuses text that cannot be a credential of the kind, by its form alone.
    ///
    /// # Errors
    /// Returns the contract's reason for a credential of another kind, for a wrong form or checksum, or for text that
    /// is neither.
    pub fn check(&self, token: &Token) -> Result<(), Refusal> {
        let text = token.expose();
        if token::matches(text, self.spec) {
            return Ok(());
        }
        Err(Refusal::new(match carriers::prefixes().find(|prefix| text.starts_with(prefix)) {
            Some(prefix) if prefix == self.spec.prefix => self.spec.malformed,
            Some(_) => self.spec.wrong_kind,
            None => self.unrecognized,
        }))
    }

    /// Returns the refusal of a credential of another kind.
    pub fn wrong_kind(&self) -> Refusal {
        Refusal::new(self.spec.wrong_kind)
    }

    /// Returns the refusal of a request without a credential.
    pub fn missing(&self) -> Refusal {
        Refusal::new(self.spec.missing)
    }
}

impl HeaderCarrier {
    fn read_token(&self, value: &[u8], prefix: &str) -> Option<Token> {
        // A credential is ASCII. Other text is kept readable enough to be refused.
        let text = String::from_utf8_lossy(value);
        let text = match self.value {
            HeaderForm::Whole => text.trim().into(),
            HeaderForm::Scheme(scheme) => after_scheme(&text, scheme)?.into(),
            HeaderForm::Password(user) => password_of_user(after_scheme(&text, "basic")?, user)?,
        };
        if text.is_empty() || (self.only_with_prefix && !text.starts_with(prefix)) {
            return None;
        }
        Some(Token::new(text))
    }
}

fn after_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (first, rest) = text.split_once(' ')?;
    first.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// Returns the password, if the encoded user is this one.
fn password_of_user(encoded: &str, user: &str) -> Option<Cow<'static, str>> {
    let decoded = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    (name == user).then(|| password.to_owned().into())
}

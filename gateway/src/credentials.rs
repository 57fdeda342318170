//! Finds the credential of a request among its carriers, and refuses what cannot be one before anything is asked for
//! it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chassis::status::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::contract::{CredentialSpec, MethodSpec, Place};
use proto::paddock::contract::v1::{CredentialKind, Reason};

use crate::contract::ContractError;
use crate::input::builder::Token;
use crate::path::{self, Malformed};

/// Where GitLab takes credentials that Paddock does not know. Source: https://docs.gitlab.com/api/rest/authentication/ and
/// https://docs.gitlab.com/security/tokens/
const OTHER_HEADERS: [&str; 1] = ["deploy-token"];
const OTHER_PARAMETERS: [&str; 4] = ["deploy_token", "feed_token", "rss_token", "oauth_token"];

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

/// How a credential stands in its header.
#[derive(Debug)]
enum HeaderForm {
    /// It is the whole value.
    Whole,
    /// It follows this scheme, lower case.
    Scheme(&'static str),
    /// It is the password of this user in basic authentication (RFC 7617).
    Password(&'static str),
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
        let unrecognized = match method.unrecognized {
            Reason::Unspecified => spec.malformed,
            reason => reason,
        };
        let optional = accepts.contains(&CredentialKind::None);
        Ok(Some(Self { optional, unrecognized, ..Self::of(kind, spec, false) }))
    }

    /// Plans a protected route, which takes a job token. `basic`: also as a password of basic authentication.
    ///
    /// # Errors
    /// If the contract has no job tokens.
    pub fn protected(basic: bool) -> Result<Self, ContractError> {
        let kind = CredentialKind::JobToken;
        let spec = kind.spec().ok_or_else(|| ContractError::new("job tokens have no specification"))?;
        Ok(Self::of(kind, spec, basic))
    }

    fn of(kind: CredentialKind, spec: &'static CredentialSpec, basic: bool) -> Self {
        let (mut headers, mut parameters) = (Vec::new(), Vec::new());
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

    /// The credentials that stand in the pairs of a query or a form, also behind a semicolon.
    ///
    /// # Errors
    /// If the name of a pair, or a credential, is not percent-encoded UTF-8.
    pub fn in_pairs(&self, pairs: &str) -> Result<Vec<Token>, Malformed> {
        let mut tokens = Vec::new();
        for (piece, _) in path::pieces(pairs) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let name = path::decode_form(name)?;
            if let Some(carrier) = self.parameters.iter().find(|carrier| carrier.name == name) {
                let value = path::decode_form(value)?;
                if !carrier.only_with_prefix || value.starts_with(self.spec.prefix) {
                    tokens.push(Token::new(value));
                }
            }
        }
        Ok(tokens)
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

    /// Whether a header carries this credential.
    pub fn is_header(&self, name: &HeaderName, value: &HeaderValue, token: &Token) -> bool {
        let read = |carrier: &HeaderCarrier| carrier.read(value.as_bytes(), self.spec.prefix);
        self.headers.iter().any(|carrier| carrier.name == name && read(carrier).as_ref() == Some(token))
    }

    /// Whether a piece of a query or a form carries this credential.
    pub fn is_piece(&self, piece: &str, token: &Token) -> bool {
        self.in_pairs(piece).is_ok_and(|tokens| tokens.first() == Some(token))
    }

    /// Refuses what cannot be a credential of the kind, by its form alone.
    ///
    /// # Errors
    /// The contract's reason for a credential of another kind, for a wrong form or checksum, or for neither.
    pub fn check(&self, token: &Token) -> Result<(), Refusal> {
        let text = token.expose();
        if token::matches(text, self.spec) {
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

    /// The refusal of a credential of another kind.
    pub fn wrong_kind(&self) -> Refusal {
        Refusal::new(self.spec.wrong_kind)
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
        let text = match self.value {
            HeaderForm::Whole => text.trim().into(),
            HeaderForm::Scheme(scheme) => after_scheme(&text, scheme)?.into(),
            HeaderForm::Password(user) => password(after_scheme(&text, "basic")?, user)?,
        };
        let counts = !text.is_empty() && (!self.only_with_prefix || text.starts_with(prefix));
        counts.then(|| Token::new(text))
    }
}

fn after_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (first, rest) = text.split_once(' ')?;
    first.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// The password of the user, if it is this one.
fn password(encoded: &str, user: &str) -> Option<Cow<'static, str>> {
    let decoded = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    (name == user).then(|| password.to_owned().into())
}

/// The parameters that carry a credential of any kind. Their values are removed from everything that is logged or
/// answered.
pub fn parameters() -> impl Iterator<Item = &'static str> {
    carriers().filter_map(|place| match place {
        Place::Parameter(name) => Some(name),
        Place::Header(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
    })
}

/// Whether a piece of a query is named like a carrier of a credential of any kind, however the name is spelt.
pub fn is_parameter(piece: &str) -> bool {
    let name = piece.split('=').next().unwrap_or_default();
    // A name that cannot be decoded is nobody's; an upstream that is less strict may read one in it.
    let Ok(name) = path::decode_form(name) else { return true };
    let meant = path::parameter(&name);
    parameters().chain(OTHER_PARAMETERS).any(|known| known.eq_ignore_ascii_case(&meant))
}

/// The schemes of the Authorization header that carry a credential, lower case.
pub fn schemes() -> impl Iterator<Item = &'static str> {
    carriers().filter_map(|place| match place {
        Place::AuthorizationScheme(name) => Some(name),
        Place::Header(_) | Place::Parameter(_) | Place::BasicUsername(_) => None,
    })
}

/// The headers that carry a credential of any kind, the Authorization header with any scheme included.
pub fn headers() -> impl Iterator<Item = HeaderName> {
    carriers().filter_map(|place| match place {
        Place::Header(name) => Some(HeaderName::from_static(name)),
        Place::AuthorizationScheme(_) | Place::BasicUsername(_) => Some(header::AUTHORIZATION),
        Place::Parameter(_) => None,
    })
}

/// The headers that carry a credential of any kind, or one that only GitLab knows.
pub fn all_headers() -> impl Iterator<Item = HeaderName> {
    headers().chain(OTHER_HEADERS.map(HeaderName::from_static))
}

fn carriers() -> impl Iterator<Item = Place> {
    let specs = CredentialKind::ALL.iter().filter_map(|kind| kind.spec());
    specs.flat_map(|spec| spec.carriers).map(|carrier| carrier.place)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

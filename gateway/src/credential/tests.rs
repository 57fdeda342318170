//! The rules of carriers, as tables over what the contract declares.

use http::{HeaderMap, header};
use proto::{
    contract::{Carrier, METHODS, MethodSpec, Place},
    paddock::contract::v1::{CredentialForm, CredentialKind, Reason},
};

use super::{plan::CredentialPlan, token::Token};
use crate::contract::ContractError;

/// The plan of some method that accepts these kinds.
fn plan_of(accepts: &'static [CredentialKind]) -> Result<Option<CredentialPlan>, ContractError> {
    let method = &METHODS[0];
    CredentialPlan::new(&MethodSpec { accepts, unrecognized: Reason::Unspecified, scopes: &[], rest: None, ..*method })
}

fn plan(kind: CredentialKind) -> CredentialPlan {
    plan_of(match kind {
        CredentialKind::UserToken => &[CredentialKind::UserToken],
        CredentialKind::JobToken => &[CredentialKind::JobToken],
        _ => &[CredentialKind::RunnerToken],
    })
    .unwrap()
    .unwrap()
}

fn token(kind: CredentialKind, random: char) -> String {
    let spec = kind.spec().unwrap();
    let text = format!("{}{}", spec.prefix, random.to_string().repeat(32));
    if spec.form == CredentialForm::Jwt {
        return format!("{}e30.{random}.c2ln", spec.prefix);
    }
    let sum = token::checksum(&text);
    text + std::str::from_utf8(&sum).unwrap()
}

/// Returns headers and parameters that hold the text, for each carrier of a kind. No method of the contract takes basic
/// authentication.
fn carried(kind: CredentialKind, text: &str) -> Vec<(HeaderMap, Vec<Token>)> {
    kind.spec().unwrap().carriers.iter().filter_map(|carrier| carried_by(carrier, text)).collect()
}

fn carried_by(carrier: &Carrier, text: &str) -> Option<(HeaderMap, Vec<Token>)> {
    let mut headers = HeaderMap::new();
    let mut parameters = Vec::new();
    match carrier.place {
        Place::Header(name) => drop(headers.insert(name, text.parse().unwrap())),
        Place::AuthorizationScheme(scheme) => {
            headers.insert(header::AUTHORIZATION, format!("{} {text}", scheme.to_uppercase()).parse().unwrap());
        }
        Place::Parameter(_) => parameters.push(Token::new(text)),
        Place::BasicUsername(_) => return None,
    }
    Some((headers, parameters))
}

fn merge(one: &(HeaderMap, Vec<Token>), other: &(HeaderMap, Vec<Token>)) -> (HeaderMap, Vec<Token>) {
    let mut headers = one.0.clone();
    for (name, value) in &other.0 {
        headers.append(name, value.clone());
    }
    (headers, [one.1.clone(), other.1.clone()].concat())
}

#[test]
fn every_carrier_of_the_contract_is_read() {
    for kind in CredentialKind::ALL {
        let text = token(kind, 'a');
        for (headers, parameters) in carried(kind, &text) {
            let found = plan(kind).find(&headers, parameters).unwrap().unwrap();
            assert_eq!(found.expose(), text);
            plan(kind).check(&found).unwrap();
        }
    }
}

#[test]
fn any_two_carriers_may_agree_and_must_not_differ() {
    for kind in CredentialKind::ALL {
        let one = token(kind, 'a');
        let other = token(kind, 'b');
        for left in carried(kind, &one) {
            for right in carried(kind, &one) {
                let (headers, parameters) = merge(&left, &right);
                assert_eq!(plan(kind).find(&headers, parameters).unwrap().unwrap().expose(), one);
            }
            for right in carried(kind, &other) {
                let (headers, parameters) = merge(&left, &right);
                let refusal = plan(kind).find(&headers, parameters).unwrap_err();
                assert_eq!(refusal.reason(), Reason::ConflictingCredentials, "{left:?} {right:?}");
            }
        }
    }
}

#[test]
fn a_user_token_with_a_runner_token_is_ignored() {
    let user = token(CredentialKind::UserToken, 'a');
    let runner = token(CredentialKind::RunnerToken, 'b');
    let mut shared_headers = 0;
    for (headers, _) in carried(CredentialKind::UserToken, &user).into_iter().filter(|(headers, _)| !headers.is_empty())
    {
        shared_headers += 1;
        let found = plan(CredentialKind::RunnerToken).find(&headers, vec![Token::new(runner.clone())]).unwrap();
        assert_eq!(found.unwrap().expose(), runner);
        assert!(plan(CredentialKind::RunnerToken).find(&headers, Vec::new()).unwrap().is_none());
    }
    assert!(shared_headers > 0);
}

#[test]
fn an_empty_header_is_none_and_an_empty_parameter_yields_to_any_other() {
    let kind = CredentialKind::RunnerToken;
    for (headers, parameters) in carried(kind, "") {
        let is_parameter = !parameters.is_empty();
        assert_eq!(plan(kind).find(&headers, parameters).unwrap().is_some(), is_parameter);
    }
    let text = token(kind, 'a');
    for tokens in [vec![Token::new(""), Token::new(text.clone())], vec![Token::new(text.clone()), Token::new("")]] {
        assert_eq!(plan(kind).find(&HeaderMap::new(), tokens).unwrap().unwrap().expose(), text);
    }
}

#[test]
fn the_form_is_checked_before_anybody_is_asked() {
    for kind in CredentialKind::ALL {
        let spec = kind.spec().unwrap();
        let good = token(kind, 'a');
        let others = CredentialKind::ALL.into_iter().filter(|other| *other != kind).map(|other| token(other, 'a'));
        let mut cases: Vec<_> = others.map(|text| (text, spec.wrong_kind)).collect();
        for bad in ["", "x", "\u{e9}", &good[1..], &format!("{good} "), &format!("{}x", spec.prefix)] {
            cases.push((bad.to_owned(), spec.malformed));
        }
        // Only the holder of the key can check the signature of a web token. The gateway can check a checksum.
        if spec.form == CredentialForm::Checksum {
            for bad in [&good[..good.len() - 1], &good.replacen('a', "b", 1)] {
                cases.push((bad.to_owned(), spec.malformed));
            }
        }
        for (text, reason) in cases {
            assert_eq!(plan(kind).check(&Token::new(text.clone())).unwrap_err().reason(), reason, "{text}");
        }
    }
}

#[test]
fn a_token_does_not_show_itself() {
    let text = token(CredentialKind::UserToken, 'a');
    assert!(!format!("{:?}", Token::new(text.clone())).contains(&text));
}

#[test]
fn a_method_without_credentials_has_no_plan() {
    assert!(plan_of(&[CredentialKind::None]).unwrap().is_none());
    assert!(plan_of(&[CredentialKind::UserToken, CredentialKind::None]).unwrap().unwrap().optional);
    assert!(plan_of(&CredentialKind::ALL).is_err());
}

#[test]
fn a_method_may_have_its_own_reason_for_what_starts_like_no_credential() {
    let method = METHODS.iter().find(|method| method.unrecognized == Reason::RegistrationDisallowed).unwrap();
    let plan = CredentialPlan::new(method).unwrap().unwrap();
    for (text, reason) in [
        ("GR1348941abcdefghijklmnop", Reason::RegistrationDisallowed),
        (&format!("{}rubbish", plan.spec.prefix), Reason::RunnerTokenMalformed),
        (&token(CredentialKind::UserToken, 'a'), Reason::RunnerTokenWrongKind),
    ] {
        assert_eq!(plan.check(&Token::new(text)).unwrap_err().reason(), reason, "{text}");
    }
}

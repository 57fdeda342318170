//! Personal access tokens: their creation, and the user of a presented one.

use chassis::client_id::{ClientId, ResolvedClient};
use proto::{
    iso8601,
    paddock::{
        contract::v1::{CredentialKind, TokenScope},
        directory::v1::{
            AuthenticateUserTokenResponse, CreatePersonalAccessTokenRequest, CreatePersonalAccessTokenResponse,
        },
    },
    timestamp,
};
use time::{Date, Duration, OffsetDateTime, format_description::well_known::Iso8601};

use super::State;
use crate::{
    directory::{text, user_token::UserToken},
    entity::personal_access_token::Model,
    error::{Error, FieldErrors, Result},
    store::{
        self,
        access_tokens::{self, New},
        users,
    },
};

/// How many days a token is valid when the caller does not say.
const DEFAULT_DAYS: i64 = 365;

/// How many days a token can be valid. Source: <https://docs.gitlab.com/user/profile/personal_access_tokens/>
const MAX_DAYS: i64 = 400;

/// Creates a token. The response is the only one that shows it.
pub async fn create(
    state: &State,
    request: CreatePersonalAccessTokenRequest,
) -> Result<CreatePersonalAccessTokenResponse> {
    let now = state.clock.now();
    users::find(&state.database, request.user_id).await?;
    let mut errors = FieldErrors::default();
    text::check_required(&mut errors, "name", &request.name, text::MAX_NAME);
    let scopes = requested_scopes(&mut errors, &request.scopes);
    let day = expiry_day(&mut errors, request.expires_at.as_deref(), now.date())?;
    errors.check()?;
    let token = UserToken::generate().map_err(Error::internal)?;
    let new = New {
        user_id: request.user_id,
        name: request.name,
        digest: token.digest(),
        scopes: &scopes,
        expires_at: Some(day.midnight().assume_utc()),
    };
    let tx = store::begin(&state.database).await?;
    let row = access_tokens::create(&tx, new, now).await?;
    tx.commit().await?;
    token_message(row, &token, now)
}

/// The scopes, each once.
fn requested_scopes(errors: &mut FieldErrors, names: &[String]) -> Vec<TokenScope> {
    if names.is_empty() {
        errors.push("scopes", "can't be blank");
    }
    let mut scopes = Vec::new();
    for name in names {
        match TokenScope::from_name(name) {
            Some(scope) if !scopes.contains(&scope) => scopes.push(scope),
            Some(_) => {}
            None => {
                errors.push("scopes", "can only contain available scopes");
                break;
            }
        }
    }
    scopes
}

/// The day at whose start the token expires.
fn expiry_day(errors: &mut FieldErrors, text: Option<&str>, today: Date) -> Result<Date> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Ok(today.saturating_add(Duration::days(DEFAULT_DAYS)));
    };
    let time = iso8601::parse(text).ok_or_else(|| Error::ParameterInvalid("expires_at is invalid".to_owned()))?;
    let day = time.date();
    let last = today.saturating_add(Duration::days(MAX_DAYS));
    if day <= today {
        errors.push("expires_at", "must be in the future");
    } else if day > last {
        errors.push("expires_at", format!("must be on or before {}", format_date(last)?));
    }
    Ok(day)
}

/// Returns the user of a token, and records its use once per interval. `client` gets the name of the user, also when the token
/// is refused.
pub async fn authenticate(
    state: &State,
    token: &str,
    client: &ResolvedClient,
) -> Result<AuthenticateUserTokenResponse> {
    let digest = UserToken::parse(token).map_err(|_| wrong_form(token))?.digest();
    let (row, user) = access_tokens::find(&state.database, &digest).await?.ok_or(Error::UserTokenUnknown)?;
    client.set(ClientId::new("user", user.id));
    let now = state.clock.now();
    if row.revoked_at.is_some() {
        return Err(Error::UserTokenRevoked);
    }
    if has_expired(&row, now) {
        return Err(Error::UserTokenExpired);
    }
    let write_interval = state.config.heartbeat.write_interval();
    let is_due = row.last_used_at.is_none_or(|last| (now - timestamp::time(last)).abs() >= write_interval);
    if is_due && let Err(error) = access_tokens::touch(&state.database, row.id, now).await {
        // The token is valid anyway.
        tracing::warn!(%error, "cannot note the use of a personal access token");
    }
    let scopes = row.scopes.0.iter().filter_map(|name| TokenScope::from_name(name));
    Ok(AuthenticateUserTokenResponse {
        user_id: user.id,
        username: user.username,
        admin: user.admin,
        scopes: scopes.map(i32::from).collect(),
        expires_at: row.expires_at.map(timestamp::from_millis),
    })
}

/// The error for a text that is not a personal access token.
fn wrong_form(text: &str) -> Error {
    let other_kind = CredentialKind::RunnerToken.spec().is_some_and(|spec| text.starts_with(spec.prefix));
    if other_kind { Error::UserTokenWrongKind } else { Error::UserTokenMalformed }
}

fn has_expired(row: &Model, now: OffsetDateTime) -> bool {
    row.expires_at.is_some_and(|expires_at| now >= timestamp::time(expires_at))
}

fn token_message(row: Model, token: &UserToken, now: OffsetDateTime) -> Result<CreatePersonalAccessTokenResponse> {
    let active = row.revoked_at.is_none() && !has_expired(&row, now);
    Ok(CreatePersonalAccessTokenResponse {
        id: row.id,
        name: row.name,
        revoked: row.revoked_at.is_some(),
        created_at: Some(timestamp::from_millis(row.created_at)),
        scopes: row.scopes.0,
        user_id: row.user_id,
        active,
        expires_at: row.expires_at.map(|expires_at| format_date(timestamp::time(expires_at).date())).transpose()?,
        token: token.expose().to_owned(),
    })
}

fn format_date(date: Date) -> Result<String> {
    date.format(&Iso8601::DATE).map_err(Error::internal)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn a_day_is_between_tomorrow_and_the_last_one() {
        let today = date!(2026 - 11 - 23);
        let cases = [
            (None, Some(date!(2027 - 11 - 23))),
            (Some(""), Some(date!(2027 - 11 - 23))),
            (Some("2026-11-24"), Some(date!(2026 - 11 - 24))),
            (Some("2026-11-24T10:00:00Z"), Some(date!(2026 - 11 - 24))),
            (Some("2027-12-28"), Some(date!(2027 - 12 - 28))),
            (Some("2027-12-29"), None),
            (Some("2026-11-23"), None),
            (Some("1999-01-01"), None),
        ];
        for (text, expected) in cases {
            let mut errors = FieldErrors::default();
            let day = expiry_day(&mut errors, text, today).unwrap();
            assert_eq!(errors.check().ok().map(|()| day), expected, "{text:?}");
        }
        for text in ["tomorrow", "2026-02-30", "0"] {
            let error = expiry_day(&mut FieldErrors::default(), Some(text), today).unwrap_err();
            assert!(matches!(error, Error::ParameterInvalid(_)), "{text}");
        }
    }

    #[test]
    fn scopes_are_known_and_counted_once() {
        let cases: [(&[&str], Option<&[TokenScope]>); 5] = [
            (&["api"], Some(&[TokenScope::Api])),
            (&["read_api", "api", "read_api"], Some(&[TokenScope::ReadApi, TokenScope::Api])),
            (&[], None),
            (&["unspecified"], None),
            (&["api", "everything", "more"], None),
        ];
        for (names, expected) in cases {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut errors = FieldErrors::default();
            let scopes = requested_scopes(&mut errors, &names);
            assert_eq!(errors.check().ok().map(|()| scopes).as_deref(), expected, "{names:?}");
        }
    }
}

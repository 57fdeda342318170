//! The REST API as the operator's commands use it: as an administrator, and with failures that say what to do.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use proto::contract::Place;
use proto::paddock::contract::v1::CredentialKind;
use reqwest::{Client, RequestBuilder, StatusCode, redirect::Policy};
use serde::{Deserialize, de::DeserializeOwned};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How long the question whether it can serve may take.
const READINESS_TIMEOUT: Duration = Duration::from_secs(5);

/// How many items a page of a list holds; the API gives no more.
const PAGE: usize = 100;

/// A server, and the token of an administrator.
pub struct Api {
    client: Client,
    base: String,
    token: String,
}

/// What a refusal says in its body.
#[derive(Deserialize)]
struct Refused {
    message: serde_json::Value,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    remedy: String,
}

impl Api {
    /// The server at this address, `http://host:port`.
    ///
    /// # Errors
    /// If the address is none that can be called.
    fn new(server: &str, token: String) -> anyhow::Result<Self> {
        let base = server.trim_end_matches('/').to_owned();
        ensure!(
            base.starts_with("http://"),
            "{base}: give the address of the gateway itself, as in http://127.0.0.1:8080"
        );
        // The gateway redirects nowhere, and the token is for nobody else.
        let client = Client::builder().timeout(TIMEOUT).no_proxy().redirect(Policy::none()).build();
        let client = client.context("cannot make a client")?;
        Ok(Self { client, base, token })
    }

    /// The server at this address, and the token in this file.
    ///
    /// # Errors
    /// If the address is none, or the file cannot be read or holds no token.
    pub fn with_token_file(server: &str, file: &Path) -> anyhow::Result<Self> {
        let remedy = "set PADDOCK_DATA to the folder that `paddock serve` uses, or give --token-file FILE with the token of \
                      an administrator";
        let shown = file.display();
        let token =
            fs::read_to_string(file).map_err(|error| anyhow!("cannot read a token from {shown}: {error}; {remedy}"))?;
        let token = token.trim();
        ensure!(
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
            "{shown} holds no token; {remedy}"
        );
        Self::new(server, token.to_owned())
    }

    /// A GET under `/api/v4`, to be sent.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).header(token_header(), &self.token)
    }

    /// A POST under `/api/v4`, to be sent.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path)).header(token_header(), &self.token)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v4{path}", self.base)
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// If there is no answer, or it is a refusal.
    pub async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let answer = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.no_answer(&error))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| {
                let base = &self.base;
                anyhow!("{base} answered {status}, but not as the gateway of this version does ({error}); is it one?")
            });
        }
        let Ok(refused) = serde_json::from_str::<Refused>(&text) else {
            bail!("{} answered {status}; is it the gateway?", self.base);
        };
        let message = refused.message.as_str().map_or_else(|| refused.message.to_string(), ToOwned::to_owned);
        bail!("{message} ({}): {}", refused.reason, refused.remedy)
    }

    /// Every item of a list.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        for page in 1.. {
            let page = page.to_string();
            let query = [("per_page", PAGE.to_string()), ("page", page)];
            let items: Vec<T> = self.send(self.get(path).query(&query)).await?;
            let is_last = items.len() < PAGE;
            all.extend(items);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    fn no_answer(&self, error: &reqwest::Error) -> anyhow::Error {
        let (base, cause) = (&self.base, cause(error));
        anyhow!(
            "{base}: {cause}; start `paddock serve`, set PADDOCK_PORT to the port that it uses, or give --server URL"
        )
    }
}

/// Whether a gateway can serve.
///
/// # Errors
/// If it cannot be asked, or says what is missing.
pub async fn readiness(base: &str) -> Result<(), NotReady> {
    let client = Client::builder().timeout(READINESS_TIMEOUT).no_proxy().build();
    let asked = async { client?.get(format!("{base}/-/readiness")).send().await };
    let answer = asked.await.map_err(|error| NotReady::Unreachable(cause(&error)))?;
    match answer.status() {
        StatusCode::OK => Ok(()),
        status => Err(NotReady::Says(format!("{status} {}", answer.text().await.unwrap_or_default()))),
    }
}

/// Why a gateway cannot serve.
pub enum NotReady {
    /// It does not answer.
    Unreachable(String),
    /// What it answers.
    Says(String),
}

/// What kept an answer from coming. The innermost cause says what happened, the outer ones name an address that is told
/// already.
pub fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

/// The header that carries a personal access token.
fn token_header() -> &'static str {
    let carriers = CredentialKind::UserToken.spec().map(|spec| spec.carriers).unwrap_or_default();
    let header = carriers.iter().find_map(|carrier| match carrier.place {
        Place::Header(name) => Some(name),
        Place::Parameter(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
    });
    header.unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_or_no_token_is_said_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let said = |server: &str| Api::with_token_file(server, &file).err().map(|error| format!("{error:#}"));
        assert!(said("http://h:1").unwrap().contains("--token-file"), "a missing file");
        fs::write(&file, " \n").unwrap();
        assert!(said("http://h:1").unwrap().contains("holds no token"));
        fs::write(&file, "secret with spaces").unwrap();
        assert!(!said("http://h:1").unwrap().contains("secret"), "what stands there may be half a token");
        fs::write(&file, "token\n").unwrap();
        assert_eq!(said("http://h:1"), None);
        assert!(said("h:1").unwrap().contains("http://"));
    }
}

//! A client of the REST API for the operator's commands. It calls as an administrator, and its errors say what to do.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use proto::{contract::Place, paddock::contract::v1::CredentialKind};
use reqwest::{Client, RequestBuilder, StatusCode, redirect::Policy};
use serde::{Deserialize, de::DeserializeOwned};

/// The maximum time that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The maximum time that the answer of a readiness probe may take.
const READINESS_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of items on a page of a list. It is the maximum that the API allows.
const PAGE_SIZE: usize = 100;

/// A gateway, and the token of an administrator.
pub struct Api {
    client: Client,
    base: String,
    token: String,
}

/// The body of a refusal.
#[derive(Deserialize)]
struct RefusalBody {
    message: serde_json::Value,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    remedy: String,
}

impl Api {
    /// Creates a client of the gateway at an address, as in `http://host:port`.
    ///
    /// # Errors
    /// If the address cannot be called.
    fn new(server: &str, token: String) -> anyhow::Result<Self> {
        let base = server.trim_end_matches('/').to_owned();
        ensure!(
            base.starts_with("http://"),
            "{base}: give the address of the gateway itself, as in http://127.0.0.1:8080"
        );
        // The gateway never redirects, and another server must not get the token.
        let client = Client::builder().timeout(TIMEOUT).no_proxy().redirect(Policy::none()).build();
        let client = client.context("cannot make a client")?;
        Ok(Self { client, base, token })
    }

    /// Creates a client of the gateway at an address, with the token in a file.
    ///
    /// # Errors
    /// If the address cannot be called, or the file cannot be read or holds no token.
    pub fn with_token_file(server: &str, file: &Path) -> anyhow::Result<Self> {
        let remedy = "set PADDOCK_DATA to the folder that `paddock serve` uses, or give --token-file FILE with the token of \
                      an administrator";
        let shown = file.display();
        let content =
            fs::read_to_string(file).map_err(|error| anyhow!("cannot read a token from {shown}: {error}; {remedy}"))?;
        let token = content.trim();
        ensure!(
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
            "{shown} holds no token; {remedy}"
        );
        Self::new(server, token.to_owned())
    }

    /// Builds a GET request for a path below `/api/v4`.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).header(token_header(), &self.token)
    }

    /// Builds a POST request for a path below `/api/v4`.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path)).header(token_header(), &self.token)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v4{path}", self.base)
    }

    /// Sends a request and reads the JSON of the answer.
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
        let Ok(refusal) = serde_json::from_str::<RefusalBody>(&text) else {
            bail!("{} answered {status}; is it the gateway?", self.base);
        };
        // Some refusals have an object as their message.
        let message = match refusal.message.as_str() {
            Some(text) => text.to_owned(),
            None => refusal.message.to_string(),
        };
        bail!("{message} ({}): {}", refusal.reason, refusal.remedy)
    }

    /// Fetches every page of a list.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        for page in 1_usize.. {
            let request = self.get(path).query(&[("per_page", PAGE_SIZE), ("page", page)]);
            let items: Vec<T> = self.send(request).await?;
            let is_last = items.len() < PAGE_SIZE;
            all.extend(items);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    fn no_answer(&self, error: &reqwest::Error) -> anyhow::Error {
        let base = &self.base;
        let cause = root_cause(error);
        anyhow!(
            "{base}: {cause}; start `paddock serve`, set PADDOCK_PORT to the port that it uses, or give --server URL"
        )
    }
}

/// Asks a gateway whether it is ready.
///
/// # Errors
/// If it does not answer, or is not ready.
pub async fn readiness(base: &str) -> Result<(), NotReady> {
    let answer = request_readiness(base).await.map_err(|error| NotReady::Unreachable(root_cause(&error)))?;
    match answer.status() {
        StatusCode::OK => Ok(()),
        status => Err(NotReady::Answered(format!("{status} {}", answer.text().await.unwrap_or_default()))),
    }
}

async fn request_readiness(base: &str) -> reqwest::Result<reqwest::Response> {
    let client = Client::builder().timeout(READINESS_TIMEOUT).no_proxy().build()?;
    client.get(format!("{base}/-/readiness")).send().await
}

/// Why a gateway is not ready.
pub enum NotReady {
    /// It does not answer, for this cause.
    Unreachable(String),
    /// It answered with this status and text.
    Answered(String),
}

/// Returns why there was no answer: the innermost cause. The outer ones repeat the address.
pub fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

/// Returns the header that carries a personal access token.
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

    fn error_of(server: &str, file: &Path) -> Option<String> {
        Api::with_token_file(server, file).err().map(|error| format!("{error:#}"))
    }

    #[test]
    fn a_wrong_address_or_token_file_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(error_of("http://h:1", &file).unwrap().contains("--token-file"), "a missing file");
        fs::write(&file, " \n").unwrap();
        assert!(error_of("http://h:1", &file).unwrap().contains("holds no token"));
        fs::write(&file, "secret with spaces").unwrap();
        assert!(!error_of("http://h:1", &file).unwrap().contains("secret"), "the content may be part of a token");
        fs::write(&file, "token\n").unwrap();
        assert_eq!(error_of("http://h:1", &file), None);
        assert!(error_of("h:1", &file).unwrap().contains("http://"));
    }
}

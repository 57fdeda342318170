//! A client of the REST API, with assertions on answers.

use proto::{
    contract::Place,
    paddock::contract::v1::{CredentialKind, Reason},
};
use reqwest::{Client, Method, RequestBuilder, header::HeaderMap, redirect::Policy};
use serde_json::Value;

/// A caller, with the address of the server and a personal access token.
#[derive(Clone, Debug)]
pub struct Api {
    http: Client,
    base: String,
    token: Option<String>,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null if it is not JSON.
    pub body: Value,
    /// The verb and the path of the request, for messages.
    request: String,
}

impl Api {
    /// A caller without a token. The base is the address without `/api/v4`.
    #[must_use]
    pub fn anonymous(base: &str) -> Self {
        // Tests connect to this machine only, so a proxy of the environment is ignored. They check redirects themselves.
        let http = Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
        Self { http, base: base.to_owned(), token: None }
    }

    /// The same caller with a personal access token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same without a token.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The same caller on a new connection.
    #[must_use]
    pub fn on_new_connection(&self) -> Self {
        Self { token: self.token.clone(), ..Self::anonymous(&self.base) }
    }

    /// The header that carries a personal access token.
    #[must_use]
    pub fn user_header() -> &'static str {
        header_of(CredentialKind::UserToken)
    }

    /// The header that carries a runner token.
    #[must_use]
    pub fn runner_header() -> &'static str {
        header_of(CredentialKind::RunnerToken)
    }

    /// The header that carries a job token.
    #[must_use]
    pub fn job_header() -> &'static str {
        header_of(CredentialKind::JobToken)
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::PATCH, path).json(&body)).await
    }

    /// GET with a job token.
    pub async fn get_as_job(&self, path: &str, token: &str) -> Answer {
        send(self.request(Method::GET, path).header(Self::job_header(), token)).await
    }

    /// A request under `/api/v4`, to be completed.
    pub fn request(&self, verb: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(verb, format!("{}/api/v4{path}", self.base));
        match &self.token {
            Some(token) => request.header(Self::user_header(), token),
            None => request,
        }
    }

    /// A request outside `/api/v4`.
    pub async fn get_outside(&self, path: &str) -> Answer {
        send(self.http.get(format!("{}{path}", self.base))).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::POST, path).json(&body)).await
    }

    /// PUT with a JSON body.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::PUT, path).json(&body)).await
    }

    /// DELETE without a body.
    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }
}

/// The header that carries a credential of the kind.
#[must_use]
pub fn header_of(kind: CredentialKind) -> &'static str {
    let carriers = kind.spec().expect("a kind of the contract").carriers;
    let header = carriers.iter().find_map(|carrier| match carrier.place {
        Place::Header(name) => Some(name),
        Place::Parameter(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
    });
    header.expect("a header carries it")
}

/// Sends a request and reads the whole answer.
pub async fn send(request: RequestBuilder) -> Answer {
    let (client, request) = request.build_split();
    let request = request.expect("a well-formed request");
    // A query may contain a token, which must not be in the messages of tests.
    let shown = format!("{} {}", request.method(), request.url().path());
    let response = client.execute(request).await.unwrap_or_else(|error| panic!("{shown}: no answer: {error:?}"));
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap_or_else(|error| panic!("{shown}: no whole answer: {error:?}"));
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, headers, text, body, request: shown }
}

impl Answer {
    /// Asserts the status and returns the body.
    #[track_caller]
    pub fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, self.text);
        self.body
    }

    /// Asserts that this is the refusal with this reason, complete in all its parts.
    #[track_caller]
    pub fn refused(&self, reason: Reason) {
        let spec = reason.spec().expect("a reason of the contract");
        assert_eq!(self.body["reason"], spec.code, "{} {}: {}", self.request, self.status, self.text);
        assert_eq!(self.status, spec.http_status, "{}: {}", self.request, self.text);
        self.assert_complete();
        if spec.error_key {
            assert!(self.body["error"].is_string(), "{}: no error in {}", self.request, self.text);
        }
    }

    /// Asserts that this is a refusal with a reason, a remedy and the id of the request.
    #[track_caller]
    pub fn assert_complete(&self) {
        let has_all_texts = ["reason", "remedy", "request_id"]
            .iter()
            .all(|key| self.body[key].as_str().is_some_and(|text| !text.is_empty()));
        assert!(has_all_texts && !self.body["message"].is_null(), "{} {}: {}", self.request, self.status, self.text);
        assert!((400..500).contains(&self.status), "{} {}: {}", self.request, self.status, self.text);
        assert_eq!(
            self.header("x-request-id"),
            self.body["request_id"].as_str().unwrap_or_default(),
            "{}",
            self.request
        );
        assert!(self.header("content-type").starts_with("application/json"), "{}: {:?}", self.request, self.headers);
    }

    /// A header as text; empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

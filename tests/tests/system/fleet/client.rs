//! The calls of the official runner program: what it sends, and how it judges the answers.

use serde_json::{Value, json};
use system::{
    Api,
    raw::{Connection, RawAnswer},
};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// How often one call is sent, at most.
const ATTEMPTS: u32 = 5;

/// What the program does before the next attempt of a call if the server does not say how long to wait.
const BACKOFF: Duration = Duration::SECOND;

/// A call with the runner token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `gitlab-runner register` verifies the token.
    Register,
    /// Asks for a job.
    Poll,
    /// Asks for the next token.
    Rotate,
}

/// What happens to the answer on its way to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrives.
    Arrives,
    /// The server sends it, and it is lost.
    Lost,
    /// The connection is cut before the server sends it.
    Cut,
}

/// How the program judges the end of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Success.
    Done(Value),
    /// It sends the call again after this time.
    Again(Duration),
    /// 403.
    Forbidden,
    /// Any other failure.
    Failed,
}

/// A runner in the configuration file.
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    pub token: String,
    /// By the clock of the client.
    pub obtained_at: OffsetDateTime,
    /// By the clock of the server.
    pub expires_at: OffsetDateTime,
}

impl RunnerConfig {
    /// What the program saves of an answer. `now` is the time of the client.
    pub fn from_answer(token: &str, body: &Value, now: OffsetDateTime) -> Self {
        let expires_at = body["token_expires_at"].as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let expires_at = expires_at.unwrap_or_else(|| panic!("the token of a fleet expires: {body}"));
        Self { token: token.to_owned(), obtained_at: now, expires_at }
    }

    /// When the program rotates the token, by the clock of the client: after three quarters of the life that it sees.
    pub fn rotation_due(&self) -> OffsetDateTime {
        self.obtained_at + (self.expires_at - self.obtained_at) * 3 / 4
    }
}

/// A connection to the gateway. Like the HTTP client of the program, it is opened when it is needed.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    connection: Option<Connection>,
}

impl Wire {
    pub fn new(port: u16) -> Self {
        Self { port, connection: None }
    }

    /// Forgets the connection.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Sends a call once. Returns none if there is no answer.
    pub async fn send(&mut self, call: Call, token: &str, system_id: &str, delivery: Delivery) -> Option<RawAnswer> {
        let header = [(Api::runner_header(), token)];
        let headers: &[_] = if call == Call::Rotate { &[] } else { &header };
        let body = call.body(token, system_id).to_string();
        let mut connection = match self.connection.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => Connection::try_open(self.port).await.ok()?,
        };
        if delivery == Delivery::Cut {
            // The server may have ended before.
            let _ = connection.send_and_hang_up(call.path(), headers, &body).await;
            return None;
        }
        let answer = connection.try_post(call.path(), headers, &body).await.ok()?;
        self.connection = Some(connection);
        Some(answer)
    }
}

impl Call {
    fn path(self) -> &'static str {
        match self {
            Self::Register => "/api/v4/runners/verify",
            Self::Poll => "/api/v4/jobs/request",
            Self::Rotate => "/api/v4/runners/reset_authentication_token",
        }
    }

    /// A rotation carries no system id.
    fn body(self, token: &str, system_id: &str) -> Value {
        if self == Self::Rotate {
            return json!({ "token": token });
        }
        let info = json!({
            "name": "gitlab-runner", "version": "18.4.0", "revision": "139a0ac0", "platform": "linux",
            "architecture": "amd64", "executor": "shell", "features": { "refspecs": true, "trace_reset": true },
        });
        json!({ "token": token, "system_id": system_id, "info": info })
    }

    /// Judges the end of an attempt, the first one being number 1.
    pub fn judge(self, answer: Option<&RawAnswer>, attempt: u32) -> Outcome {
        let Some(answer) = answer else { return Outcome::Failed };
        let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        match (self, answer.status) {
            (Self::Register, 200) | (Self::Rotate, 201) | (Self::Poll, 201 | 204) => Outcome::Done(body),
            (_, 408 | 429 | 500 | 502 | 503 | 504 | 512..) if attempt < ATTEMPTS => Outcome::Again(wait(answer)),
            (_, 403) => Outcome::Forbidden,
            _ => Outcome::Failed,
        }
    }
}

/// How long the program waits before the next attempt: it reads whole seconds only, and ignores zero.
fn wait(answer: &RawAnswer) -> Duration {
    let seconds = answer.header("retry-after").and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(BACKOFF, Duration::seconds)
}

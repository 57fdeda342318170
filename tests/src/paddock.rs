//! `paddock serve` as `make run` starts it, on a free port and with a temporary folder.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Api, Program, free_port};

/// A running `paddock serve`.
#[derive(Debug)]
pub struct Paddock {
    program: Program,
    port: u16,
    metrics_port: u16,
    data: PathBuf,
    /// Deleted at the end, if this value created the folder.
    _folder: Option<TempDir>,
}

impl Paddock {
    /// Starts it in a fresh folder and waits until it serves.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with settings in the environment.
    #[must_use]
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        Self { _folder: Some(folder), ..Self::start_in(&data, settings) }
    }

    /// The same in a folder that is not deleted at the end.
    #[must_use]
    pub fn start_in(data: &Path, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let metrics_port = free_port();
        let port_text = port.to_string();
        let metrics = format!("127.0.0.1:{metrics_port}");
        let folder = data.to_str().expect("a path in UTF-8");
        let own = [
            ("PADDOCK_PORT", port_text.as_str()),
            ("PADDOCK_DATA", folder),
            ("PADDOCK_PADDOCK__METRICS_LISTEN", metrics.as_str()),
            ("PADDOCK_TELEMETRY__LOG_FORMAT", "json"),
        ];
        let program = Program::start("paddock", &["serve"], &[own.as_slice(), settings].concat());
        program.wait_for_output("paddock ready");
        Self { program, port, metrics_port, data: data.to_owned(), _folder: None }
    }

    /// The process.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The process, to kill it and to start it again.
    pub fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }

    /// The port of the REST API.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address and port of `/metrics`.
    #[must_use]
    pub fn metrics_listen(&self) -> String {
        format!("127.0.0.1:{}", self.metrics_port)
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The address of the REST API, without `/api/v4`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The token of the first user.
    #[must_use]
    pub fn root_token(&self) -> String {
        std::fs::read_to_string(self.data.join("root.token")).expect("the token file").trim().to_owned()
    }

    /// A caller without a token.
    #[must_use]
    pub fn anonymous(&self) -> Api {
        Api::anonymous(&self.url())
    }

    /// The first user, an administrator.
    #[must_use]
    pub fn root(&self) -> Api {
        self.anonymous().with_token(&self.root_token())
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let answer = Api::anonymous(&format!("http://{}", self.metrics_listen())).get_outside("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    }

    /// Stops it, and asserts that it ends cleanly.
    pub fn stop(mut self) {
        self.program.stop();
    }

    /// Kills it, as a crash would.
    pub fn kill(mut self) {
        self.program.signal("KILL");
        self.program.wait();
    }
}

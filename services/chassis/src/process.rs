//! The start and the end of a process: listening, limits, signals and the exit code.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// Listens on an address, `host:port`.
///
/// # Errors
/// If the address cannot be used. The message names it.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// Raises the soft limit of open files to the hard limit and returns the limit in force. Most systems start a process with a low
/// soft limit, which one client could use up with connections.
pub fn raise_open_file_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = if raised.is_ok() { maximum } else { current };
    allowed.unwrap_or(u64::MAX)
}

/// Returns the exit code for `main`. A failure writes one line with the error to standard error.
pub fn exit_code(name: &str, result: Result<ExitCode, impl Display>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // `{:#}` is the whole chain of causes in one line. A closed standard error does not matter.
        let _ = writeln!(io::stderr(), "{name}: {error:#}");
        ExitCode::FAILURE
    })
}

/// Writes a line to standard output when the process serves. Supervisors and tests may wait for it.
pub fn announce_ready(name: &str) {
    // A closed standard output is not a reason to stop.
    let mut output = io::stdout().lock();
    let _ = writeln!(output, "{name} ready").and_then(|()| output.flush());
}

/// Returns a token that the first SIGTERM or SIGINT cancels.
///
/// # Errors
/// If the operating system refuses to watch a signal.
pub fn shutdown_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("received SIGTERM, draining"),
            _ = interrupt.recv() => tracing::info!("received SIGINT, draining"),
        }
        cancelled.cancel();
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_open_files_becomes_the_hard_one() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let low = Rlimit { current: maximum.map(|maximum| maximum.min(256)).or(Some(256)), maximum };
        assert!(setrlimit(Resource::Nofile, low).is_ok());
        assert_eq!(raise_open_file_limit(), maximum.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}

//! The life of a process.

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
/// If it cannot; the message names the address.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// Lets the process open as many files and connections as the system allows it, and tells how many that are. Most systems
/// start a process with a low soft limit, which one client could use up with connections.
pub fn allow_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = if raised.is_ok() { maximum } else { current };
    allowed.unwrap_or(u64::MAX)
}

/// What `main` returns: success, or failure after one line on standard error that says what went wrong.
pub fn exit_code(name: &str, result: Result<ExitCode, impl Display>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // `{:#}` is the whole chain of causes in one line. Nobody reading it changes nothing.
        let _ = writeln!(io::stderr(), "{name}: {error:#}");
        ExitCode::FAILURE
    })
}

/// Says on standard output that the process serves; whoever started it may wait for this line.
pub fn announce_ready(name: &str) {
    // Nobody reading it is no reason to stop.
    let mut output = io::stdout().lock();
    let _ = writeln!(output, "{name} ready").and_then(|()| output.flush());
}

/// A token that is cancelled by the first SIGTERM or SIGINT.
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
        assert_eq!(allow_open_files(), maximum.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}

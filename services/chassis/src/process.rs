//! The life of a process.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

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

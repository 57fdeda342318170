//! Requests that ask to change the protocol. On routes that allow one, the connection becomes a tunnel as soon as the
//! upstream has accepted that protocol and the access is recorded. The gateway does not look at the bytes in the
//! tunnel.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use chassis::status::{Fault, Refusal};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use proto::paddock::contract::v1::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::slot::Slot;
use crate::connection::activity::Activity;

/// A request to change the protocol.
pub struct Upgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl Upgrade {
    /// Returns the change that the request asks for, if it asks for one.
    ///
    /// # Errors
    /// Fails if it asks for another protocol than the route allows.
    pub fn requested(parts: &mut Parts, allowed: Option<&str>) -> Result<Option<Self>, Refusal> {
        let is_requested = parts.headers.get_all(header::CONNECTION).iter().any(names_upgrade);
        if !is_requested && !parts.headers.contains_key(header::UPGRADE) {
            return Ok(None);
        }
        let client = parts.extensions.remove::<OnUpgrade>();
        match (client, allowed_protocol(&parts.headers, allowed)) {
            (Some(client), Some(protocol)) if is_requested => Ok(Some(Self { protocol: protocol.clone(), client })),
            _ => Err(Refusal::new(Reason::UpgradeRefused)),
        }
    }

    /// Asks the upstream for the same change.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// Returns the tunnel to the upstream that has accepted the protocol. It keeps its slot, and ends when no byte has
    /// come from either side for the idle timeout.
    pub fn tunnel(
        self,
        response: &mut Response<Incoming>,
        protocol: HeaderValue,
        idle_timeout: Duration,
        slot: Slot,
    ) -> impl Future<Output = ()> + use<> {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
        let upstream = hyper::upgrade::on(response);
        let client = self.client;
        async move {
            let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
            let activity = Activity::default();
            let mut client = TunnelEnd { io: TokioIo::new(client), activity: activity.clone() };
            let mut upstream = TunnelEnd { io: TokioIo::new(upstream), activity: activity.clone() };
            // Either side may break off. The other one then sees the end of the connection.
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
                () = activity.idle_for(idle_timeout) => {}
            }
            drop(slot);
        }
    }
}

/// Returns the protocol that the upstream changes to, if it changes.
///
/// # Errors
/// Returns a fault if it changes to another protocol than was requested.
pub fn accepted_protocol(
    requested: Option<&Upgrade>,
    response: &Response<Incoming>,
) -> Result<Option<HeaderValue>, Fault> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let allowed = requested.and_then(|upgrade| upgrade.protocol.to_str().ok());
    match allowed_protocol(response.headers(), allowed) {
        Some(protocol) => Ok(Some(protocol.clone())),
        None => Err(Fault::of(Reason::UpstreamUnavailable, "the upstream changed the protocol without being asked")),
    }
}

/// Reports whether a value of the Connection header names the Upgrade header.
fn names_upgrade(value: &HeaderValue) -> bool {
    let mut names = value.as_bytes().split(|byte| *byte == b',');
    names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Returns the value of the only Upgrade header, if it is this protocol.
fn allowed_protocol<'h>(headers: &'h HeaderMap, allowed: Option<&str>) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(header::UPGRADE).iter();
    let value = values.next()?;
    if values.next().is_some() || !value.as_bytes().eq_ignore_ascii_case(allowed?.as_bytes()) {
        return None;
    }
    Some(value)
}

/// One end of a tunnel. Bytes that come from it count as activity.
struct TunnelEnd {
    io: TokioIo<Upgraded>,
    activity: Activity,
}

impl AsyncRead for TunnelEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            drop(self.activity.begin());
        }
        polled
    }
}

impl AsyncWrite for TunnelEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

//! Requests that ask to change the protocol. Where a route names one, the connection becomes a tunnel once the upstream
//! has agreed to just that and the access is recorded; nothing of what runs through it is looked at.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use chassis::status::{Fault, Refusal};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use proto::paddock::contract::v1::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::upstream::Place;
use crate::server::activity::Activity;

/// A request to change the protocol.
pub struct Upgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl Upgrade {
    /// What the request asks for; none if it does not ask.
    ///
    /// # Errors
    /// If it asks for anything but the protocol that the route allows.
    pub fn of(parts: &mut Parts, allowed: Option<&str>) -> Result<Option<Self>, Refusal> {
        let names_upgrade = |value: &HeaderValue| {
            value.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        };
        let is_asked = parts.headers.get_all(header::CONNECTION).iter().any(names_upgrade);
        if !is_asked && !parts.headers.contains_key(header::UPGRADE) {
            return Ok(None);
        }
        let client = parts.extensions.remove::<OnUpgrade>();
        match (client, protocol(&parts.headers, allowed)) {
            (Some(client), Some(protocol)) if is_asked => Ok(Some(Self { protocol: protocol.clone(), client })),
            _ => Err(Refusal::new(Reason::UpgradeRefused)),
        }
    }

    /// Asks the upstream the same.
    pub fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// The tunnel to the upstream that has agreed. It ends when nothing has come from either side for so long, and keeps its
    /// place until then.
    pub fn tunnel(
        self,
        answer: &mut Response<Incoming>,
        agreed: HeaderValue,
        idle_timeout: Duration,
        place: Place,
    ) -> impl Future<Output = ()> + use<> {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        answer.headers_mut().insert(header::UPGRADE, agreed);
        let upstream = hyper::upgrade::on(answer);
        let client = self.client;
        async move {
            let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
            let activity = Activity::default();
            let mut client = Side { io: TokioIo::new(client), activity: activity.clone() };
            let mut upstream = Side { io: TokioIo::new(upstream), activity: activity.clone() };
            // Either side may break off; there is nobody left to tell.
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
                () = activity.idle_for(idle_timeout) => {}
            }
            drop(place);
        }
    }
}

/// What an upstream that was asked, or was not, says of the protocol; none if it goes on as before.
///
/// # Errors
/// If it changes to another one than it was asked for.
pub fn agreed(asked: Option<&Upgrade>, answer: &Response<Incoming>) -> Result<Option<HeaderValue>, Fault> {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let allowed = asked.and_then(|upgrade| upgrade.protocol.to_str().ok());
    let agreed = protocol(answer.headers(), allowed).cloned();
    let fault = || Fault::of(Reason::UpstreamUnavailable, "the upstream changed the protocol without being asked");
    agreed.map(Some).ok_or_else(fault)
}

/// The value of the only Upgrade header, if it is this protocol.
fn protocol<'h>(headers: &'h HeaderMap, allowed: Option<&str>) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(header::UPGRADE).iter();
    let (value, rest, allowed) = (values.next()?, values.next(), allowed?);
    (rest.is_none() && value.as_bytes().eq_ignore_ascii_case(allowed.as_bytes())).then_some(value)
}

/// One end of a tunnel. What comes from it is activity.
struct Side {
    io: TokioIo<Upgraded>,
    activity: Activity,
}

impl AsyncRead for Side {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            drop(self.activity.begin());
        }
        polled
    }
}

impl AsyncWrite for Side {
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

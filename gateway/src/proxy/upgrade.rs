//! Requests that ask to change the protocol. Where a route allows it, the connection becomes a tunnel once the upstream
//! has agreed and the access is recorded; nothing of what runs through it is looked at.

use std::future::Future;

use chassis::status::Refusal;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use proto::paddock::contract::v1::Reason;

/// A request to change the protocol.
pub struct Upgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl Upgrade {
    /// What the request asks for; none if it does not ask.
    ///
    /// # Errors
    /// If it asks and the route does not allow it, or asks for what cannot be told.
    pub fn of(parts: &mut Parts, is_allowed: bool) -> Result<Option<Self>, Refusal> {
        let names_upgrade = |value: &HeaderValue| {
            value.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        };
        let is_asked = parts.headers.get_all(header::CONNECTION).iter().any(names_upgrade);
        let mut protocols = parts.headers.get_all(header::UPGRADE).iter();
        let protocol = (protocols.next().cloned(), protocols.next());
        if !is_asked && protocol.0.is_none() {
            return Ok(None);
        }
        let client = parts.extensions.remove::<OnUpgrade>();
        match (client, protocol) {
            (Some(client), (Some(protocol), None)) if is_allowed && is_asked => Ok(Some(Self { protocol, client })),
            _ => Err(Refusal::new(Reason::UpgradeRefused)),
        }
    }

    /// Asks the upstream the same.
    pub fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// The tunnel to the upstream that has agreed.
    pub fn tunnel(self, response: &mut Response<Incoming>) -> impl Future<Output = ()> + use<> {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, self.protocol);
        let upstream = hyper::upgrade::on(response);
        let client = self.client;
        async move {
            let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            // Either side may break off; there is nobody left to tell.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        }
    }
}

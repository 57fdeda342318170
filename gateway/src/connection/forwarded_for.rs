//! The address of a client that connects through proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use super::networks::Networks;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose `X-Forwarded-For` is trusted. The default is none, because a client can write any address.
#[derive(Debug, Default)]
pub struct TrustedProxies(Networks);

impl TrustedProxies {
    /// Reads addresses and networks, separated by commas.
    ///
    /// # Errors
    /// Names the first entry that is neither an address nor a network.
    pub fn parse(text: &str) -> Result<Self, String> {
        Networks::parse(text).map(Self)
    }

    /// Returns the address of the client: the last address that a trusted proxy wrote and that is not itself a trusted
    /// proxy; without a trusted proxy, the address of the peer.
    ///
    /// Each proxy appends the address that connected to it, so the header is read from its end, as far as it is
    /// trusted.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut forwarded = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        let mut client = peer.to_canonical();
        while self.0.contains(client) {
            let Some(next) = forwarded.next().and_then(parse_address) else { break };
            client = next;
        }
        client
    }
}

/// Reads an address with or without a port.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let without_brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = match without_brackets.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_from_its_end_as_far_as_it_is_believed() {
        for (trusted, peer, forwarded, expected) in [
            ("", "10.0.0.1", &["192.0.2.7"][..], "10.0.0.1"),
            ("10.0.0.0/8", "192.0.2.1", &["192.0.2.7"], "192.0.2.1"),
            ("10.0.0.0/8", "10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.0/8", "10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", &["::ffff:192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", "10.0.0.1", &["198.51.100.9, 192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", "10.0.0.2", &["192.0.2.7"], "10.0.0.2"),
            ("10.0.0.0/8, fd00::/8", "fd00::1", &["198.51.100.9, 192.0.2.7 ,10.1.2.3"], "192.0.2.7"),
            ("10.0.0.0/8", "10.0.0.1", &["198.51.100.9", "192.0.2.7", "10.1.2.3"], "192.0.2.7"),
            ("10.0.0.0/8", "10.0.0.1", &["10.9.9.9"], "10.9.9.9"),
            ("10.0.0.0/8", "10.0.0.1", &["192.0.2.7:4711"], "192.0.2.7"),
            ("10.0.0.0/8", "10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.0/8", "10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", &["192.0.2.7"], "192.0.2.7"),
            ("10.0.0.0/8", "10.0.0.1", &["192.0.2.7, unknown"], "10.0.0.1"),
            ("10.0.0.0/8", "10.0.0.1", &["192.0.2.7,"], "10.0.0.1"),
        ] {
            let headers: HeaderMap = forwarded.iter().map(|value| (FORWARDED_FOR, value.parse().unwrap())).collect();
            let client = TrustedProxies::parse(trusted).unwrap().client_address(peer.parse().unwrap(), &headers);
            assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{trusted}: {peer}, {forwarded:?}");
        }
    }
}

//! The address of a client that comes through proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies that are believed to tell whom they forward. By default there is none: a client can write what it likes.
#[derive(Debug, Default)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Reads addresses and networks, separated by commas.
    ///
    /// # Errors
    /// With the first that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let net = |name: &str| {
            let net = name.parse::<IpNet>().or_else(|_| name.parse::<IpAddr>().map(IpNet::from));
            net.map(canonical)
                .map_err(|_| format!("{name} is neither an address nor a network, for example 10.0.0.0/8"))
        };
        names.map(net).collect::<Result<_, _>>().map(Self)
    }

    /// The address of the client: that of the peer, or the last one that a believed proxy tells and that is none itself. Each proxy
    /// appends the address that it was called from, so the header is read from its end, and no further than it is believed.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut told =
            headers.get_all(FORWARDED_FOR).iter().rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        while self.0.iter().any(|net| net.contains(&client)) {
            let Some(next) = told.next().and_then(address) else { break };
            client = next;
        }
        client
    }
}

/// A network of IPv4, also where it is written as one of IPv6 (RFC 4291, 2.5.5.2).
fn canonical(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(net) => net.addr().to_ipv4_mapped().zip(net.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(address, length)| IpNet::new(address.into(), length).ok()).unwrap_or(net)
}

/// An address, with or without a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    let plain = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    plain.parse::<IpAddr>().or_else(|_| with_port()).ok().map(|address| address.to_canonical())
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
            let client = Proxies::parse(trusted).unwrap().client(peer.parse().unwrap(), &headers);
            assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{trusted}: {peer}, {forwarded:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in ["x", "10.0.0.0/33", "10.0.0.1, proxy.example", "10.0.0.1/"] {
            assert!(Proxies::parse(text).is_err_and(|problem| problem.contains("neither")), "{text}");
        }
    }
}

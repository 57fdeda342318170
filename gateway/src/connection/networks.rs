//! Addresses and networks, as settings list them.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of networks. The default is empty.
#[derive(Debug, Default)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads addresses and networks, separated by commas.
    ///
    /// # Errors
    /// Names the first entry that is neither an address nor a network.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut networks = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            networks.push(parse_network(entry)?);
        }
        Ok(Self(networks))
    }

    /// Reports whether one of the networks contains the address. An IPv4-mapped address must be given in its IPv4 form.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

fn parse_network(entry: &str) -> Result<IpNet, String> {
    let network = match entry.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => entry
            .parse::<IpAddr>()
            .map(IpNet::from)
            .map_err(|_| format!("{entry} is neither an address nor a network, for example 10.0.0.0/8"))?,
    };
    Ok(canonical_network(network))
}

/// Turns an IPv4-mapped network of IPv6 into the network of IPv4 (RFC 4291, 2.5.5.2).
fn canonical_network(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let Some(address) = mapped.addr().to_ipv4_mapped() else { return network };
    let Some(length) = mapped.prefix_len().checked_sub(96) else { return network };
    IpNet::new(address.into(), length).unwrap_or(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_address_is_named() {
        for text in ["x", "10.0.0.0/33", "10.0.0.1, proxy.example", "10.0.0.1/"] {
            assert!(Networks::parse(text).is_err_and(|problem| problem.contains("neither")), "{text}");
        }
    }
}

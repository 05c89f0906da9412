//! Who is at the other end: the address of the connection, or, where that is a proxy the operator trusts, the address
//! that the proxy says it asks for.

use http::HeaderMap;
use std::net::IpAddr;

/// What proxies say of whom they ask for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of a connection; stands among the extensions of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    bits: u32,
}

impl Net {
    /// Reads an address (`10.0.0.7`, `::1`) or a net (`10.0.0.0/8`, `fd00::/8`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Net> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => all,
            Some(b) if b.bytes().all(|c| c.is_ascii_digit()) => b.parse().ok().filter(|b| *b <= all)?,
            Some(_) => return None,
        };
        Some(Net { address, bits })
    }

    fn holds(&self, ip: IpAddr) -> bool {
        let alike = |a: u128, b: u128, all: u32| {
            let cut = all.saturating_sub(self.bits);
            a.checked_shr(cut).unwrap_or(0) == b.checked_shr(cut).unwrap_or(0)
        };
        match (self.address, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => alike(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => alike(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

/// Whether an address is that of a trusted proxy.
pub(crate) fn is_trusted(ip: IpAddr, trusted: &[Net]) -> bool {
    // A socket of both families tells of IPv4 in the form of IPv6.
    trusted.iter().any(|net| net.holds(ip.to_canonical()))
}

/// Who asks: read from the right, the first address that no trusted proxy has. What anybody else says of it does not
/// count.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Net]) -> IpAddr {
    let mut client = peer.to_canonical();
    let said: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok()).collect();
    let mut hops = said.iter().flat_map(|line| line.split(',')).map(str::trim).rev();
    while is_trusted(client, trusted) {
        // What is no address ends it: whoever wrote it need not be asked what stands before.
        let Some(next) = hops.next().and_then(|hop| hop.parse::<IpAddr>().ok()) else { break };
        client = next.to_canonical();
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<Net> {
        list.iter().map(|n| Net::parse(n).unwrap()).collect()
    }

    #[test]
    fn nets_are_addresses_that_begin_alike() {
        for (net, ip, within) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "::1", true),
        ] {
            assert_eq!(is_trusted(ip.parse().unwrap(), &nets(&[net])), within, "{ip} in {net}");
        }
        for wrong in
            ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::/129", "proxy", "10.0.0.0/+8", "10.0.0.0/-1"]
        {
            assert_eq!(Net::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_trusted_proxies_say_who_asks() {
        let check = |peer: &str, said: &[&str], want: &str| {
            let mut headers = HeaderMap::new();
            for line in said {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            let trusted = nets(&["10.0.0.0/8", "::1"]);
            let got = client(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(got, want.parse::<IpAddr>().unwrap(), "{peer} {said:?}");
        };
        check("1.2.3.4", &["9.9.9.9"], "1.2.3.4");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["9.9.9.9"], "9.9.9.9");
        check("10.0.0.1", &["6.6.6.6, 9.9.9.9, 10.0.0.2"], "9.9.9.9");
        check("10.0.0.1", &["6.6.6.6", "9.9.9.9 ,10.0.0.2"], "9.9.9.9");
        check("10.0.0.1", &["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["10.0.0.3"], "10.0.0.3");
        check("::1", &["fd00::7"], "fd00::7");
    }
}

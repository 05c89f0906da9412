//! Whether the name by which a server was reached is one that only those can have who mean it.
//!
//! While no key exists whoever reaches the address may ask, and a web page reaches it too: its owner has its name point to
//! this machine once it is loaded (DNS rebinding), and the browser takes both for one site. Such a name is one that the
//! public DNS has.

use http::header::HOST;
use http::request::Parts;
use std::net::IpAddr;

/// Ends of names that no public DNS has (RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`).
const PRIVATE: &[&str] = &[".localhost", ".local", ".internal", ".home.arpa"];

/// The name that a head gives where it may be anybody's; `None` = it is an address, or a name that no web page has.
pub(crate) fn foreign(parts: &Parts) -> Option<&str> {
    let given = parts.uri.host().or_else(|| parts.headers.get(HOST)?.to_str().ok())?;
    let name = name_of(given);
    (!is_own(name)).then_some(name)
}

/// Without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_own(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || PRIVATE.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_without_a_public_place_are_ones_own() {
        for own in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "localhost:8080",
            "turnout:80",
            "a.localhost",
            "box.local.",
            "10.1.2.3",
        ] {
            assert!(is_own(name_of(own)), "{own}");
        }
        for other in ["evil.example:8080", "127.0.0.1.nip.io", "localhost.evil.example", "LOCAL.example."] {
            assert!(!is_own(name_of(other)), "{other}");
        }
    }
}

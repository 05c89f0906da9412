//! Which hosts may be spoken to: webhooks, tools, services that check. The operator names them.

use http::Uri;

/// Hosts that an operator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Names, or `*.` and a domain. Empty = none.
    pub allow_hosts: Vec<String>,
    /// Also without TLS.
    pub allow_http: bool,
    /// Also at addresses that are not public.
    pub allow_private: bool,
}

/// Why an address may not be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// What is wrong with it.
    Address(&'static str),
    /// Its host is not among those that are allowed.
    Host,
}

impl Refused {
    /// The same to who calls tools.
    pub(crate) const fn for_tools(self) -> &'static str {
        match self {
            Refused::Address(why) => why,
            Refused::Host => "its host is not among those that may be asked (tools.allow_hosts)",
        }
    }
}

impl Config {
    /// Whether an address may be spoken to.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, url: &str) -> Result<(), Refused> {
        let uri: Uri = url.parse().map_err(|_| Refused::Address("expected an absolute address"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !(scheme == "https" || scheme == "http" && self.allow_http) {
            return Err(Refused::Address("expected https"));
        }
        let authority = uri.authority().map_or("", |a| a.as_str());
        if authority.contains('@') {
            return Err(Refused::Address("expected an address without a user"));
        }
        let host = uri.host().unwrap_or_default().to_lowercase();
        let fits = |allowed: &String| match allowed.strip_prefix("*.") {
            Some(domain) => {
                host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
            }
            None => host == allowed.to_lowercase(),
        };
        if self.allow_hosts.iter().any(fits) { Ok(()) } else { Err(Refused::Host) }
    }
}

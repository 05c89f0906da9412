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
    /// It is plain http.
    Plain,
    /// Its host is not among those that are allowed.
    Host,
}

impl Refused {
    /// The same to who calls tools.
    pub(crate) const fn for_tools(self) -> &'static str {
        match self {
            Refused::Address(why) => why,
            Refused::Plain => "expected https (tools.allow_http: true lets plain http pass)",
            Refused::Host => "its host is not among those that may be asked (tools.allow_hosts)",
        }
    }

    /// The same to who wants to be told of runs.
    pub(crate) const fn for_webhooks(self) -> &'static str {
        match self {
            Refused::Address(why) => why,
            Refused::Plain => "expected https (webhooks.allow_http: true lets plain http pass)",
            Refused::Host => "its host is not among those that may be told (webhooks.allow_hosts)",
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
        match scheme {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err(Refused::Plain),
            _ => return Err(Refused::Address("expected an absolute https address")),
        }
        let authority = uri.authority().map_or("", |a| a.as_str());
        if authority.contains('@') {
            return Err(Refused::Address("expected an address without a user"));
        }
        let host = uri.host().unwrap_or_default().to_lowercase();
        let fits = |allowed: &String| match allowed.to_lowercase().strip_prefix("*.") {
            Some(domain) => {
                host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
            }
            None => host == allowed.to_lowercase(),
        };
        if self.allow_hosts.iter().any(fits) { Ok(()) } else { Err(Refused::Host) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_setting_that_would_allow_it() {
        let hosts = |allow_http| Config {
            allow_hosts: vec!["tools.example.com".to_owned()],
            allow_http,
            allow_private: false,
        };
        let check = |allow_http, url: &str, setting: Option<&str>| {
            let refused = hosts(allow_http).check(url).err();
            assert_eq!(refused.is_some(), setting.is_some(), "{url}");
            for (refused, setting) in refused.into_iter().zip(setting) {
                let (tools, webhooks) = (refused.for_tools(), refused.for_webhooks());
                assert!(tools.contains(&setting.replace("$", "tools")), "{url}: {tools}");
                assert!(webhooks.contains(&setting.replace("$", "webhooks")), "{url}: {webhooks}");
            }
        };
        check(false, "https://tools.example.com/x", None);
        check(true, "http://tools.example.com/x", None);
        check(false, "http://tools.example.com/x", Some("$.allow_http"));
        check(false, "https://other.example.com/x", Some("$.allow_hosts"));
        check(true, "ftp://tools.example.com/x", Some("https"));
    }
}

//! What a provider's entry and the environment make of each other: keys, headers and addresses, ready to use.

use super::connect::is_public;
use super::keys::Own;
use crate::matrix::{Unexpanded, expand, first_reference};
use crate::secrets::Secrets;
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use std::net::IpAddr;
use std::sync::Arc;
use types::matrix::{KeyLimits, Provider, Tier};
use zeroize::Zeroizing;

/// Headers that an operator may not set: they frame the message.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What stands before a key that is the bearer's.
const BEARER: &str = "Bearer ";

/// Why a provider cannot be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// None of these variables is set.
    NoKey(Vec<String>),
    /// Anything else, in words for the operator.
    Unusable(String),
}

/// A provider ready to be called. Equal settings may share a connection pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    provider: Arc<Provider>,
    /// As header values of the dialect, marked sensitive.
    keys: Vec<HeaderValue>,
    /// Where each key came from: the name of its variable.
    names: Vec<String>,
    /// Further names of keys that have one already, each with that one.
    aliases: Vec<(String, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Values of the environment among them.
    from_env: Vec<HeaderValue>,
    scheme: Scheme,
    authority: Authority,
    /// Without a `/` at its end.
    path: String,
    query: Option<String>,
}

impl Settings {
    /// Reads the environment through `env`; variables that are set but empty count as not set. `bearer` says how
    /// keys are written.
    ///
    /// # Errors
    /// The first reason why the provider cannot be called.
    pub(crate) fn new(
        provider: &Arc<Provider>,
        bearer: bool,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problem> {
        let (scheme, authority, path, query) = base(&provider.base_url).map_err(Problem::Unusable)?;
        let env = |name: &str| {
            let value = Zeroizing::new(env(name)?);
            let value = Zeroizing::new(value.trim().to_owned());
            (!value.is_empty()).then_some(value)
        };
        let (mut keys, mut names, mut aliases) = (Vec::new(), Vec::<String>::new(), Vec::new());
        for name in &provider.api_key_env {
            let Some(key) = env(name) else { continue };
            // What is sent lives as long as the provider, and no longer; copies on the way to it are wiped.
            let text = if bearer { Zeroizing::new(format!("{BEARER}{}", *key)) } else { key };
            let key = secret(&text).ok_or_else(|| {
                Problem::Unusable(format!("the value of {name} holds characters that no key has"))
            })?;
            // One key under two names is one: its vendor counts what both use together.
            match keys.iter().position(|known| *known == key).and_then(|at| names.get(at)) {
                Some(known) => aliases.push((name.clone(), known.clone())),
                None => {
                    keys.push(key);
                    names.push(name.clone());
                }
            }
        }
        if keys.is_empty() && !provider.api_key_env.is_empty() {
            return Err(Problem::NoKey(provider.api_key_env.clone()));
        }
        let text = |name: &str| env(name).map(|value| value.to_string());
        let headers = provider.headers.iter().map(|(name, value)| header(name, value, &text));
        let headers = headers.collect::<Result<_, _>>().map_err(Problem::Unusable)?;
        let read = std::cell::RefCell::new(Vec::new());
        for (_, value) in &provider.headers {
            let read_one = |name: &str| text(name).inspect(|v| read.borrow_mut().extend(secret(v)));
            let _ = expand(value, &read_one).map(Zeroizing::new);
        }
        let (provider, from_env) = (Arc::clone(provider), read.into_inner());
        Ok(Settings { provider, keys, names, aliases, headers, from_env, scheme, authority, path, query })
    }

    pub(super) fn keys(&self) -> &[HeaderValue] {
        &self.keys
    }

    /// What nobody may read in what the vendor says.
    pub(super) fn secrets(&self) -> Secrets {
        Secrets::of(self.keys.iter().chain(&self.from_env).map(bare))
    }

    /// The host and, where it is said, the port.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The provider's name.
    pub(crate) fn id(&self) -> &str {
        &self.provider.id
    }

    /// Names of the keys, in their order; none of a provider that needs no key.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// What the key of that name may use by limits of its own: those of all its names.
    pub(super) fn own(&self, name: &str) -> Own {
        let is_its =
            |of: &str| of == name || self.aliases.iter().any(|(alias, key)| alias == of && key == name);
        let stated = self.provider.key_limits.iter().filter(|(of, _)| is_its(of));
        let limits: Vec<_> = stated.flat_map(|(_, limits)| limits.clone()).collect();
        Own::of(self.id(), name, &limits)
    }

    /// Calls cost nothing and are limited instead.
    pub(super) fn is_free(&self) -> bool {
        self.provider.tier == Tier::Free
    }

    /// What a key may use of all models together: for nothing, where calls cost nothing, and in any case.
    pub(super) fn limits(&self) -> [Option<&KeyLimits>; 2] {
        [self.provider.free_tier.as_ref().filter(|_| self.is_free()), self.provider.limits.as_ref()]
    }

    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// False if the host is written as an address that is not public; names are checked when they resolve.
    pub(crate) fn may_be_public(&self) -> bool {
        let literal: Option<IpAddr> = self.authority.host().trim_matches(['[', ']']).parse().ok();
        literal.is_none_or(is_public)
    }

    /// Whether a key, or a header from the environment, would go in clear to a host that is not known to be near.
    pub(crate) fn tells_secrets(&self) -> bool {
        let has_secret = !self.keys.is_empty() || !self.from_env.is_empty();
        self.scheme == Scheme::HTTP && has_secret && !is_near(self.authority.host())
    }

    /// `Host` for connections without TLS. Others may speak HTTP/2, which has no such header; there the client
    /// adds what is needed.
    pub(super) fn host(&self) -> Option<HeaderValue> {
        if self.scheme != Scheme::HTTP {
            return None;
        }
        HeaderValue::from_str(self.authority.as_str()).ok()
    }

    /// The base address with a path (that starts with `/`) and a query added to its own.
    pub(super) fn address(&self, path: &str, query: Option<&str>) -> Option<Uri> {
        let mut all = format!("{}{path}", self.path);
        for (i, q) in self.query.as_deref().into_iter().chain(query).enumerate() {
            all.push(if i == 0 { '?' } else { '&' });
            all.push_str(q);
        }
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(all)
            .build()
            .ok()
    }
}

/// The key of a header, as its vendor gave it.
pub(super) fn bare(value: &HeaderValue) -> &str {
    let text = value.to_str().unwrap_or("");
    text.strip_prefix(BEARER).unwrap_or(text)
}

/// Whether a host is of this machine or of a network of its own: an address that is not public, a name of one word, as
/// containers have, or one under a domain that no public server answers for (RFC 6761, RFC 6762, RFC 8375, RFC 9476,
/// and `internal` as ICANN reserved it in 2024).
fn is_near(host: &str) -> bool {
    const LOCAL: [&str; 6] = [".localhost", ".local", ".internal", ".home.arpa", ".test", ".alt"];
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return !is_public(address);
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    !host.contains('.') || LOCAL.iter().any(|domain| host.ends_with(domain))
}

fn base(url: &str) -> Result<(Scheme, Authority, String, Option<String>), String> {
    if let Some(variable) = first_reference(url) {
        return Err(format!("base_url names {variable}, which is not set"));
    }
    // A query may hold a secret.
    let shown = url.split('?').next().unwrap_or("");
    let wrong = || format!("base_url {shown:?} is not of the form https://host/path");
    let parts = url.trim().parse::<Uri>().map_err(|_| wrong())?.into_parts();
    let scheme = parts.scheme.filter(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS).ok_or_else(wrong)?;
    let authority = parts.authority.filter(|a| !a.host().is_empty()).ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err("base_url holds credentials; name them in api_key_env or headers".to_owned());
    }
    let path = parts.path_and_query;
    let query = path.as_ref().and_then(|p| p.query()).filter(|q| !q.is_empty()).map(str::to_owned);
    let path = path.as_ref().map_or("", |p| p.path()).trim_end_matches('/').to_owned();
    Ok((scheme, authority, path, query))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A static header with its `${ENV:NAME}` filled in.
fn header(
    name: &str,
    value: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(HeaderName, HeaderValue), String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("header {name:?} is no header name"))?;
    if FRAMING.contains(&parsed.as_str()) {
        return Err(format!("header {name:?} frames the message and cannot be set"));
    }
    let text = expand(value, env).map(Zeroizing::new).map_err(|e| match e {
        Unexpanded::Unset(variable) => format!("header {name:?} names {variable}, which is not set"),
        Unexpanded::Malformed => format!("header {name:?}: a reference has the form ${{ENV:NAME}}"),
    })?;
    // It may come from the environment: never printed.
    let value =
        secret(&text).ok_or_else(|| format!("header {name:?}: the value holds control characters"))?;
    Ok((parsed, value))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use types::matrix::Dialect;

    pub(crate) fn provider(base_url: &str) -> Provider {
        Provider { base_url: base_url.into(), ..Provider::new("p", Dialect::OpenaiChat) }
    }

    fn env(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("hunter2 ".into()),
            "SAME_KEY" => Some("hunter2".into()),
            "OTHER" => Some("s3cret".into()),
            "EMPTY" => Some(" ".into()),
            "BAD" => Some("a\nb".into()),
            _ => None,
        }
    }

    fn check(url: &str, want: &str) {
        let got = Settings::new(&Arc::new(provider(url)), true, &env);
        let got = match got {
            Ok(s) => s.address("/chat/completions", Some("alt=sse")).unwrap().to_string(),
            Err(Problem::Unusable(e)) => e,
            Err(Problem::NoKey(_)) => "no key".into(),
        };
        assert_eq!(got, want, "{url}");
    }

    #[test]
    fn addresses_join() {
        check("https://x/v1", "https://x/v1/chat/completions?alt=sse");
        check("https://x/v1/", "https://x/v1/chat/completions?alt=sse");
        check("http://127.0.0.1:8000", "http://127.0.0.1:8000/chat/completions?alt=sse");
        check("https://x/a/b?api-version=2", "https://x/a/b/chat/completions?api-version=2&alt=sse");
        check("https://x/${ENV:ACCOUNT}/v1", "base_url names ACCOUNT, which is not set");
        check("x/v1", "base_url \"x/v1\" is not of the form https://host/path");
        check("ftp://x/v1", "base_url \"ftp://x/v1\" is not of the form https://host/path");
        check("https://u:p@x/v1", "base_url holds credentials; name them in api_key_env or headers");
    }

    #[test]
    fn a_key_has_the_limits_of_all_its_names() {
        let limits = |amount: u32| {
            let text = format!(r#"[{{"metric":"requests","amount":{amount},"per":"day"}}]"#);
            serde_json::from_str::<Vec<types::control::Quota>>(&text).unwrap()
        };
        let mut p = provider("https://x");
        p.api_key_env = vec!["KEY".into(), "OTHER".into(), "SAME_KEY".into()];
        p.key_limits = vec![("SAME_KEY".into(), limits(5)), ("KEY".into(), limits(7))];
        let settings = Settings::new(&Arc::new(p), true, &env).unwrap();
        assert_eq!(settings.names(), ["KEY", "OTHER"]);
        let stated = |name: &str| settings.own(name).told(None, 0).len();
        assert_eq!((stated("KEY"), stated("OTHER")), (2, 0));
    }

    #[test]
    fn keys_and_headers_come_from_the_environment_and_do_not_print() {
        let mut p = provider("https://x");
        p.api_key_env = vec!["NONE".into(), "EMPTY".into()];
        let none = Settings::new(&Arc::new(p.clone()), true, &env);
        assert_eq!(none, Err(Problem::NoKey(vec!["NONE".into(), "EMPTY".into()])));
        p.api_key_env.push("KEY".into());
        p.headers = vec![("x-account".into(), "a-${ENV:OTHER}-b".into())];
        let settings = Settings::new(&Arc::new(p.clone()), true, &env).unwrap();
        assert_eq!(settings.keys(), ["Bearer hunter2"]);
        assert_eq!(settings.headers()[0].1, "a-s3cret-b");
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("s3cret"), "{printed}");
        for (name, value, want) in [
            ("x-a", "${ENV:NONE}", "header \"x-a\" names NONE, which is not set"),
            ("x-a", "${ENV:KEY", "header \"x-a\": a reference has the form ${ENV:NAME}"),
            ("Host", "y", "header \"Host\" frames the message and cannot be set"),
            ("x a", "y", "header \"x a\" is no header name"),
        ] {
            p.headers = vec![(name.into(), value.into())];
            let got = Settings::new(&Arc::new(p.clone()), true, &env);
            assert_eq!(got, Err(Problem::Unusable(want.into())));
        }
        p.headers = Vec::new();
        p.api_key_env = vec!["KEY".into(), "OTHER".into(), "KEY".into(), "SAME_KEY".into()];
        let settings = Settings::new(&Arc::new(p.clone()), true, &env).unwrap();
        assert_eq!(settings.names(), ["KEY", "OTHER"], "a key counts once, by whatever names it comes");
        p.api_key_env = vec!["BAD".into()];
        assert!(matches!(Settings::new(&Arc::new(p), true, &env), Err(Problem::Unusable(_))));
    }
}

//! One entry of `providers`.

use super::expand::{Unexpanded, expand, is_variable};
use super::{MAX_PRICE_AGE_DAYS, string};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Uri, header};
use std::borrow::Cow;
use std::time::Duration;
use types::calendar::{self, Date};
use types::credential;
use types::doc::{Fields, Key, Node, Reader};
use types::matrix::{DataPolicy, Dialect, Provider, Quirks, Tier, Timeouts, ToolCallIds};

/// Longest time a phase of a call may be given.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Most tokens per second that an answer may be made to come with.
const MAX_FLOOR: f64 = 1_000.0;

/// Of the warning about a variable that is to hold a key and holds nothing.
pub(super) const EMPTY_KEY: &str = "302";

const NEVER_IN_A_FILE: &str = "put the key into the environment, never into a file";

/// Headers that belong to the transport.
const FRAMING: &[HeaderName] =
    &[header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE];

/// Reads a provider. `None` if its dialect is not known; every other problem is noted and the default taken.
pub(super) fn lower(
    key: &Key,
    node: &Node,
    r: &mut Reader<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    today: Option<Date>,
) -> Option<Provider> {
    check_name(key, r);
    let path = format!("providers.{}", key.name);
    let mut f = r.fields(node, &path)?;
    let dialect = f
        .require(r, "dialect")
        .and_then(|n| r.one_of(n, &format!("{path}.dialect"), Dialect::NAMES).and_then(Dialect::parse));
    let mut p = Provider::new(&*key.name, dialect.unwrap_or(Dialect::OpenaiChat));
    p.region = string(&mut f, r, "region");
    p.source = string(&mut f, r, "source");
    if let Some(n) = f.take("tier")
        && r.one_of(n, &f.at("tier"), &["free", "paid"]) == Some("free")
    {
        p.tier = Tier::Free;
    }
    p.free_tier = f.take("free_tier").and_then(|n| super::model::key_limits(n, &f.at("free_tier"), r));
    p.limits = f.take("limits").and_then(|n| super::model::key_limits(n, &f.at("limits"), r));
    if let Some(n) = f.take("enabled") {
        p.enabled = r.boolean(n, &f.at("enabled")).unwrap_or(true);
    }
    let enabled = p.enabled;
    p.api_key_env = f
        .take("api_key_env")
        .map(|n| keys(n, &f.at("api_key_env"), r, &|name| enabled && env(name).is_some_and(|v| is_blank(&v))))
        .unwrap_or_default();
    let limits = f.take("key_limits");
    p.key_limits = limits
        .map(|n| super::key_limits::lower(n, &f.at("key_limits"), &p.api_key_env, r))
        .unwrap_or_default();
    p.headers = f.take("headers").map(|n| headers(n, &f.at("headers"), r, env)).unwrap_or_default();
    p.data = f.take("data").map(|n| data(n, &f.at("data"), r)).unwrap_or_default();
    p.quirks = f.take("quirks").map(|n| quirks(n, &f.at("quirks"), r)).unwrap_or_default();
    p.timeouts = f.take("timeouts").map(|n| timeouts(n, &f.at("timeouts"), r)).unwrap_or_default();
    p.as_of = f.take("as_of").and_then(|n| as_of(n, &f.at("as_of"), r, &p, today));
    for_dialect(&mut p, dialect, &mut f, r, env);
    let known = r.problems.len();
    f.finish(r);
    for d in r.problems.iter_mut().skip(known) {
        let key = d.field.rsplit('.').next().unwrap_or_default();
        if credential::is_name(key) {
            // What comes from elsewhere has the key itself there; the nearest name would lead to the next mistake.
            d.expected = Some("`api_key_env: NAME`, the name of a variable of the environment".to_owned());
            d.hint = Some(NEVER_IN_A_FILE.to_owned());
        }
    }
    dialect.map(|_| p)
}

fn check_name(key: &Key, r: &mut Reader<'_>) {
    let ok = key.name.len() <= 63
        && key.name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && key.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
        && !super::RESERVED.contains(&key.name.as_str());
    if !ok {
        let d = r.error("104", key.span, format!("`{}` cannot name a provider", key.name));
        d.expected =
            Some("lower-case letters, digits, - and _, at most 63, other than auto and workflow".into());
    }
}

/// What only some dialects take: an address, a table, a seed.
fn for_dialect(
    p: &mut Provider,
    dialect: Option<Dialect>,
    f: &mut Fields<'_>,
    r: &mut Reader<'_>,
    env: &dyn Fn(&str) -> Option<String>,
) {
    let (url, file, seed, keys) = (f.take("base_url"), f.take("file"), f.take("seed"), f.take("api_key_env"));
    let mut misplaced = |name: &str, node: Option<&Node>, belongs: bool| {
        if let (Some(node), Some(_), false) = (node, dialect, belongs) {
            let message = format!("`{name}` has no meaning for dialect `{}`", name_of(p.dialect));
            r.error("204", node.span, message).field = f.at(name);
        }
    };
    let remote = p.dialect.is_remote();
    misplaced("base_url", url, remote);
    misplaced("api_key_env", keys, remote);
    misplaced("file", file, p.dialect == Dialect::Recorded);
    misplaced("seed", seed, p.dialect == Dialect::Simulated);
    let mut missing = |name: &str| {
        r.error("102", f.span, format!("`{name}` is missing")).field = f.at(name);
    };
    match dialect {
        Some(d) if d.is_remote() && url.is_none() => missing("base_url"),
        Some(Dialect::Recorded) if file.is_none() => missing("file"),
        _ => {}
    }
    if let (Some(n), true) = (url, remote) {
        p.base_url = base_url(n, &f.at("base_url"), r, env);
    }
    p.file = file.and_then(|n| r.string(n, &f.at("file")));
    p.seed = seed
        .and_then(|n| r.integer(n, &f.at("seed"), 0, i64::MAX))
        .and_then(|s| u64::try_from(s).ok())
        .unwrap_or_default();
}

fn name_of(dialect: Dialect) -> &'static str {
    Dialect::NAMES.iter().find(|n| Dialect::parse(n) == Some(dialect)).copied().unwrap_or_default()
}

/// The address with its variables filled in and without a slash at its end; as written if one is not set.
fn base_url(node: &Node, field: &str, r: &mut Reader<'_>, env: &dyn Fn(&str) -> Option<String>) -> String {
    let Some(written) = r.string(node, field) else { return String::new() };
    match expand(&written, env) {
        Ok(url) if is_base_url(&url) => return url.trim_end_matches('/').to_owned(),
        Err(Unexpanded::Unset(_)) => return written,
        Err(Unexpanded::Malformed) => malformed(node, field, r),
        // The value may come from the environment: it is not repeated.
        Ok(_) => {
            let d = r.error("205", node.span, format!("`{field}` is not the address of a server"));
            d.expected = Some("http:// or https://, a host, and a path without `?`, `#` or `@`".to_owned());
            field.clone_into(&mut d.field);
        }
    }
    String::new()
}

fn is_base_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let http = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().is_some_and(|h| !h.is_empty());
    http && host && uri.query().is_none() && !url.contains(['@', '#'])
}

fn malformed(node: &Node, field: &str, r: &mut Reader<'_>) {
    let d = r.error("206", node.span, format!("`{field}` holds a `${{` that is no reference"));
    d.expected = Some("${ENV:NAME}, with a name that does not begin with TURNOUT_".to_owned());
    field.clone_into(&mut d.field);
}

/// `is_empty` tells of a variable whether it is set and holds no key.
fn keys(node: &Node, field: &str, r: &mut Reader<'_>, is_empty: &dyn Fn(&str) -> bool) -> Vec<String> {
    let names = r.strings(node, field).unwrap_or_default();
    if names.iter().any(|n| !is_variable(n)) {
        // What stands here may be a key: it is not repeated.
        let d = r.error("104", node.span, format!("`{field}` does not name an environment variable"));
        d.expected = Some(
            "a name such as GROQ_API_KEY, none that begins with TURNOUT_, or a list of names".to_owned(),
        );
        d.hint = Some(NEVER_IN_A_FILE.to_owned());
        field.clone_into(&mut d.field);
    }
    let names: Vec<String> = names.into_iter().filter(|n| is_variable(n)).collect();
    for name in names.iter().filter(|name| is_empty(name)) {
        let d = r.warning(EMPTY_KEY, node.span, format!("the variable `{name}` is set and empty"));
        d.expected = Some("a key in it, or no such variable where the provider is not to be used".to_owned());
        field.clone_into(&mut d.field);
    }
    names
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn headers(
    node: &Node,
    field: &str,
    r: &mut Reader<'_>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (key, value) in r.map(node, field).unwrap_or_default() {
        let field = format!("{field}.{}", key.name);
        match HeaderName::from_bytes(key.name.as_bytes()) {
            Ok(name) if !FRAMING.contains(&name) => {}
            _ => {
                let d = r.error("104", key.span, format!("`{}` cannot be set as a header", key.name));
                d.expected = Some("the name of a header, other than those of the transport".to_owned());
                d.field = field;
                continue;
            }
        }
        let Some(text) = r.string(value, &field) else { continue };
        match expand(&text, env) {
            Err(Unexpanded::Malformed) => malformed(value, &field, r),
            _ if holds_credential(&key.name, &text) => {
                let d = r.error("104", value.span, format!("`{field}` holds a credential"));
                d.expected =
                    Some("a reference, such as \"${ENV:NAME}\" or \"Bearer ${ENV:NAME}\"".to_owned());
                d.hint = Some(NEVER_IN_A_FILE.to_owned());
                d.field = field;
            }
            Ok(full) if HeaderValue::from_str(&full).is_err() => {
                let d = r.error("104", value.span, format!("`{field}` is not the value of a header"));
                d.expected = Some("visible characters in one line".to_owned());
                d.field = field;
            }
            _ => headers.push((key.name.clone(), text)),
        }
    }
    headers
}

/// Whether the value of a header is a credential as it is written: files are kept, and shown to whoever may see them.
fn holds_credential(name: &str, text: &str) -> bool {
    matches!(credential::masked(text), Cow::Owned(_)) || credential::is_name(name) && !text.contains("${")
}

fn data(node: &Node, field: &str, r: &mut Reader<'_>) -> DataPolicy {
    let Some(mut f) = r.fields(node, field) else { return DataPolicy::default() };
    let policy = DataPolicy {
        retention_days: f
            .take("retention_days")
            .and_then(|n| r.integer(n, &f.at("retention_days"), 0, 36_500))
            .and_then(|d| u32::try_from(d).ok()),
        trains: f.take("trains").and_then(|n| r.boolean(n, &f.at("trains"))),
        zdr: f.take("zdr").and_then(|n| r.boolean(n, &f.at("zdr"))),
    };
    f.finish(r);
    policy
}

fn quirks(node: &Node, field: &str, r: &mut Reader<'_>) -> Quirks {
    let mut q = Quirks::default();
    let Some(mut f) = r.fields(node, field) else { return q };
    let mut flag = |key: &'static str, default: bool, r: &mut Reader<'_>| {
        f.take(key).and_then(|n| r.boolean(n, &f.at(key))).unwrap_or(default)
    };
    q.stream_usage = flag("stream_usage", q.stream_usage, r);
    q.stop_for_tool_calls = flag("stop_for_tool_calls", q.stop_for_tool_calls, r);
    q.developer_as_system = flag("developer_as_system", q.developer_as_system, r);
    q.reasoning_history = flag("reasoning_history", q.reasoning_history, r);
    q.prefill_echoed = flag("prefill_echoed", q.prefill_echoed, r);
    let names = &["max_tokens", "max_completion_tokens"];
    if let Some(s) = f.take("max_tokens_field").and_then(|n| r.one_of(n, &f.at("max_tokens_field"), names)) {
        s.clone_into(&mut q.max_tokens_field);
    }
    let ids = f.take("tool_call_ids").and_then(|n| r.one_of(n, &f.at("tool_call_ids"), ToolCallIds::NAMES));
    q.tool_call_ids = ids.and_then(ToolCallIds::parse).unwrap_or_default();
    let members = f.take("message_members");
    q.message_members = members.and_then(|n| r.strings(n, &f.at("message_members"))).unwrap_or_default();
    q.drop = f.take("drop").and_then(|n| r.strings(n, &f.at("drop"))).unwrap_or_default();
    f.finish(r);
    q
}

fn timeouts(node: &Node, field: &str, r: &mut Reader<'_>) -> Timeouts {
    let mut t = Timeouts::default();
    let Some(mut f) = r.fields(node, field) else { return t };
    let mut set = |key: &'static str, slot: &mut Duration| {
        let Some(node) = f.take(key) else { return };
        let field = f.at(key);
        let Some(d) = r.duration(node, &field) else { return };
        if d.is_zero() || d > MAX_TIMEOUT {
            let e = r.error("104", node.span, format!("`{field}` is {d:?}"));
            e.expected = Some("more than 0s and at most 1h".to_owned());
            e.field = field;
        } else {
            *slot = d;
        }
    };
    set("connect", &mut t.connect);
    set("first_token", &mut t.first_token);
    set("inter_token", &mut t.inter_token);
    set("total", &mut t.total);
    let floor = "min_tokens_per_second";
    if let Some(tps) = f.take(floor).and_then(|n| r.number(n, &f.at(floor), 0.0, MAX_FLOOR)) {
        t.min_tokens_per_second = tps;
    }
    f.finish(r);
    t
}

fn as_of(node: &Node, field: &str, r: &mut Reader<'_>, p: &Provider, today: Option<Date>) -> Option<String> {
    let written = r.string(node, field)?;
    let Some(then) = calendar::parse(&written) else {
        let d = r.error("207", node.span, format!("`{field}` is not a date"));
        d.expected = Some("a date as YYYY-MM-DD".to_owned());
        field.clone_into(&mut d.field);
        return None;
    };
    let age = today.and_then(Date::days).map_or(0, |now| now.saturating_sub(then));
    if age > MAX_PRICE_AGE_DAYS && p.enabled {
        let d = r.warning("301", node.span, format!("the prices of `{}` are {age} days old", p.id));
        d.hint = Some(match &p.source {
            Some(source) => format!("compare them with {source} and set `as_of`"),
            None => "compare them with the vendor's page and set `as_of`".to_owned(),
        });
        field.clone_into(&mut d.field);
    }
    Some(written)
}

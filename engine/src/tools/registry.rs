//! The tools that an operator declares for workflows: services over HTTP, each with a schema of its arguments.

use crate::outside::{Auth, Surroundings};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use types::diagnostic::suggestion;
use types::doc::{Fields, Key, Node, Reader};
use types::runs::SideEffect;
use workflows::ToolSpec;

/// Most tools of one configuration.
const MAX_TOOLS: usize = 256;
/// Longest schema of one tool, in bytes of its JSON.
const MAX_SCHEMA: usize = 64 << 10;
/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 4 << 10;
/// Longest time of a call where the file sets none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a file may set.
const LONGEST: Duration = Duration::from_secs(600);
/// What variables of the server itself begin with: its secrets are among them.
const OWN: &str = "TURNOUT_";
/// Words that stand for several tools, or for none.
const RESERVED: &[&str] = &["inherit", "none", "registered"];

/// A tool as it was declared.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    /// What workflows know of it.
    pub(crate) spec: Arc<ToolSpec>,
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) auth: Option<Auth>,
    /// The tenants that may call it; `None` = all.
    tenants: Option<Vec<String>>,
}

impl Tool {
    /// Whether a tenant may call it.
    pub(crate) fn is_open_to(&self, tenant: &str) -> bool {
        self.tenants.as_ref().is_none_or(|all| all.iter().any(|t| t == tenant))
    }
}

/// All tools of a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Vec<Tool>);

impl Registry {
    /// The operator declares no tool.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the section `tools` of the rules. `known`: the names of the workflows that there are.
    pub(crate) fn lower(
        r: &mut Reader<'_>,
        node: Option<&Node>,
        known: &[String],
        around: Option<&dyn Surroundings>,
    ) -> Registry {
        let Some(members) = node.and_then(|n| r.map(n, "tools")) else { return Registry::default() };
        if let (Some((key, _)), true) = (members.get(MAX_TOOLS), members.len() > MAX_TOOLS) {
            r.error("104", key.span, format!("{} tools are declared", members.len())).expected =
                Some(format!("at most {MAX_TOOLS}"));
        }
        Registry(members.iter().filter_map(|(key, n)| one(r, key, n, known, around)).collect())
    }

    /// What workflows know of the tools.
    pub(crate) fn specs(&self) -> Vec<Arc<ToolSpec>> {
        self.0.iter().map(|t| t.spec.clone()).collect()
    }

    /// The tool of that name.
    /// Where credentials of tools go: an address, and what it is sent.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = (&str, &str, &Auth)> {
        self.0.iter().filter_map(|t| Some((&*t.spec.name, &*t.url, t.auth.as_ref()?)))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tool> {
        self.0.iter().find(|t| *t.spec.name == *name)
    }
}

fn one(
    r: &mut Reader<'_>,
    key: &Key,
    n: &Node,
    known: &[String],
    around: Option<&dyn Surroundings>,
) -> Option<Tool> {
    let told = r.problems.len();
    let name = name(r, key);
    let mut f = r.fields(n, &format!("tools.{}", key.name))?;
    let description = f.require(r, "description").and_then(|n| {
        let text = r.string(n, &f.at("description"))?;
        within(r, n, &f.at("description"), text.len(), MAX_DESCRIPTION).then_some(text)
    });
    let method = f.take("method").map_or(Some("POST"), |n| method(r, n, &f.at("method")));
    let url = f.require(r, "url").and_then(|n| url(r, n, &f.at("url"), around));
    let auth = f.take("auth").and_then(|n| auth(r, n, &f.at("auth"), around));
    let input_schema = f.require(r, "input_schema").and_then(|n| schema(r, n, &f.at("input_schema")));
    let side_effect = f.require(r, "side_effect").and_then(|n| side_effect(r, n, &f.at("side_effect")));
    let timeout = f.take("timeout").map_or(Some(TIMEOUT), |n| timeout(r, n, &f.at("timeout")));
    let interruptible = f.take("interruptible").and_then(|n| r.boolean(n, &f.at("interruptible")));
    let trust = f.take("trust").and_then(|n| r.one_of(n, &f.at("trust"), &["trusted", "untrusted"]));
    let workflows = f.take("workflows").map(|n| workflows(r, n, &f, known));
    let tenants = f.take("tenants").map(|n| r.strings(n, &f.at("tenants")).unwrap_or_default());
    f.finish(r);
    let broken = r.problems.iter().skip(told).any(|d| d.severity == types::diagnostic::Severity::Error);
    if broken {
        // Workflows that name it are not told of it a second time.
        let spec = ToolSpec { name: key.name.as_str().into(), ..nothing() };
        return Some(Tool { spec: Arc::new(spec), method: "POST", url: String::new(), auth, tenants });
    }
    let spec = ToolSpec {
        name: name?.into(),
        description: description?,
        input_schema: Arc::new(input_schema?),
        side_effect: side_effect?,
        timeout: timeout?,
        interruptible: interruptible.unwrap_or(false),
        trusted: trust == Some("trusted"),
        workflows,
    };
    Some(Tool { spec: Arc::new(spec), method: method?, url: url?, auth, tenants })
}

/// What stands for a tool that is not declared well: the configuration is refused anyway.
fn nothing() -> ToolSpec {
    ToolSpec {
        name: "".into(),
        description: String::new(),
        input_schema: Arc::new(Value::Null),
        side_effect: SideEffect::Unsafe,
        timeout: TIMEOUT,
        interruptible: false,
        trusted: false,
        workflows: None,
    }
}

/// A name that models can be told and that files can write.
fn name(r: &mut Reader<'_>, key: &Key) -> Option<String> {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let first = key.name.starts_with(|c: char| c.is_ascii_lowercase());
    if RESERVED.contains(&key.name.as_str()) {
        r.error("104", key.span, format!("`{}` stands for something else in workflows", key.name)).expected =
            Some("another name".to_owned());
        return None;
    }
    if first && key.name.len() <= 63 && key.name.chars().all(rest) {
        return Some(key.name.clone());
    }
    r.error("103", key.span, format!("`{}` is no name of a tool", key.name)).expected =
        Some("lower-case letters, digits and `_`, a letter first, at most 63".to_owned());
    None
}

fn within(r: &mut Reader<'_>, n: &Node, field: &str, bytes: usize, most: usize) -> bool {
    if bytes <= most {
        return true;
    }
    let d = r.error("104", n.span, format!("`{field}` has {bytes} bytes"));
    d.expected = Some(format!("at most {most}"));
    field.clone_into(&mut d.field);
    false
}

fn method(r: &mut Reader<'_>, n: &Node, field: &str) -> Option<&'static str> {
    const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];
    let said = r.one_of(n, field, METHODS)?;
    METHODS.iter().find(|m| **m == said).copied()
}

fn url(r: &mut Reader<'_>, n: &Node, field: &str, around: Option<&dyn Surroundings>) -> Option<String> {
    let url = r.string(n, field)?;
    let why = match around {
        _ if !(url.starts_with("https://") || url.starts_with("http://")) => {
            Some("expected an absolute address over http or https".to_owned())
        }
        _ if url.contains('#') => Some("expected an address without `#`".to_owned()),
        Some(around) => around.may_ask(&url).err(),
        None => None,
    };
    let Some(why) = why else { return Some(url) };
    let d = r.error("103", n.span, format!("`{url}` cannot be called: {why}"));
    d.hint = Some("hosts that tools may ask stand under `tools.allow_hosts` in turnout.yaml".to_owned());
    field.clone_into(&mut d.field);
    None
}

/// `{ header, prefix, env }`: a header whose value comes from a variable of the environment.
fn auth(r: &mut Reader<'_>, n: &Node, field: &str, around: Option<&dyn Surroundings>) -> Option<Auth> {
    let mut f = r.fields(n, field)?;
    let header = f.take("header").map_or(Some("authorization".to_owned()), |n| {
        let text = r.string(n, &f.at("header"))?.to_lowercase();
        let fits = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !fits {
            let d = r.error("103", n.span, format!("`{text}` is no name of a header"));
            d.expected = Some("letters, digits and `-`".to_owned());
        }
        fits.then_some(text)
    });
    let given = f.take("prefix").map(|n| r.string(n, &f.at("prefix")).unwrap_or_default());
    let env = f.require(r, "env").map(|n| (r.string(n, &f.at("env")), n.span));
    let at = f.at("env");
    f.finish(r);
    let (env, span) = env?;
    if env.as_ref().is_some_and(|name| name.starts_with(OWN)) {
        let d = r.error("103", span, "the server's own variables go to no tool");
        d.expected = Some(format!("a variable whose name does not begin with {OWN}"));
        d.field = at;
        return None;
    }
    let (header, env) = (header?, env?);
    if around.is_some_and(|a| !a.has_secret(&env)) {
        r.warning("411", span, format!("the environment has no variable `{env}`")).hint =
            Some("calls of the tool fail until it is set and the server started again".to_owned());
    }
    let usual = if header == "authorization" { "Bearer " } else { "" };
    Some(Auth { header, prefix: given.unwrap_or_else(|| usual.to_owned()), env })
}

fn schema(r: &mut Reader<'_>, n: &Node, field: &str) -> Option<Value> {
    r.map(n, field)?;
    let schema = n.to_json();
    if !within(r, n, field, schema.to_string().len(), MAX_SCHEMA) {
        return None;
    }
    let why = match schema.get("type").and_then(Value::as_str) {
        Some("object") => workflows::check_schema(&schema).err(),
        _ => Some("arguments are an object: expected `type: object`".to_owned()),
    };
    let Some(why) = why else { return Some(schema) };
    let d = r.error("103", n.span, format!("`{field}` is no schema of arguments: {why}"));
    field.clone_into(&mut d.field);
    None
}

fn side_effect(r: &mut Reader<'_>, n: &Node, field: &str) -> Option<SideEffect> {
    Some(match r.one_of(n, field, &["none", "idempotent", "unsafe"])? {
        "none" => SideEffect::None,
        "idempotent" => SideEffect::Idempotent,
        _ => SideEffect::Unsafe,
    })
}

fn timeout(r: &mut Reader<'_>, n: &Node, field: &str) -> Option<Duration> {
    let length = r.duration(n, field)?;
    if !length.is_zero() && length <= LONGEST {
        return Some(length);
    }
    let d = r.error("104", n.span, format!("`{field}` is out of range"));
    d.expected = Some("more than 0s, at most 10m".to_owned());
    field.clone_into(&mut d.field);
    None
}

fn workflows(r: &mut Reader<'_>, n: &Node, f: &Fields<'_>, known: &[String]) -> Arc<[Arc<str>]> {
    let field = f.at("workflows");
    let list = r.list(n, &field).unwrap_or(&[]);
    let mut all: Vec<Arc<str>> = Vec::new();
    for n in list {
        let Some(name) = r.string(n, &field) else { continue };
        if !known.contains(&name) {
            let hint = suggestion(&name, known.iter().map(String::as_str));
            let d = r.error("205", n.span, format!("workflow `{name}` does not exist"));
            d.hint = Some(hint);
            field.clone_into(&mut d.field);
        }
        all.push(name.into());
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::doc::{self, SourceFile};

    #[derive(Debug)]
    struct Here;

    impl Surroundings for Here {
        fn may_ask(&self, url: &str) -> Result<(), String> {
            if url.contains("tools.test") { Ok(()) } else { Err("its host is not allowed".to_owned()) }
        }

        fn has_secret(&self, env: &str) -> bool {
            env == "KEY"
        }
    }

    const GOOD: &str = "\
tools:
  search:
    description: Finds documents.
    url: https://tools.test/search
    auth: { env: KEY }
    input_schema: { type: object, properties: { q: { type: string } }, required: [q] }
    side_effect: none
    timeout: 3s
    workflows: [tool_loop]
    tenants: [acme]
";

    fn load(text: &str) -> (Registry, Vec<types::Diagnostic>) {
        let file = SourceFile::new("routing_rules.yaml", text);
        let root = doc::parse(&file, "PL").unwrap();
        let mut r = Reader::new(&file, "PL");
        let known = ["default".to_owned(), "tool_loop".to_owned()];
        let registry = Registry::lower(&mut r, root.get("tools"), &known, Some(&Here));
        (registry, r.problems)
    }

    #[test]
    fn what_is_declared_is_known() {
        let (registry, problems) = load(GOOD);
        assert!(problems.is_empty(), "{problems:?}");
        let tool = registry.get("search").unwrap();
        assert_eq!((tool.method, &*tool.url), ("POST", "https://tools.test/search"));
        let auth = tool.auth.as_ref().unwrap();
        assert_eq!((&*auth.header, &*auth.prefix, &*auth.env), ("authorization", "Bearer ", "KEY"));
        assert!(tool.is_open_to("acme") && !tool.is_open_to("other"));
        assert!(tool.spec.is_for("tool_loop") && !tool.spec.is_for("default"));
        assert!(!tool.spec.trusted && !tool.spec.interruptible);
        assert_eq!(tool.spec.timeout, Duration::from_secs(3));
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let check = |from: &str, to: &str, want: (&str, u32), says: &str| {
            let (_, problems) = load(&GOOD.replace(from, to));
            let d = problems.first().unwrap_or_else(|| panic!("{to}: nothing is told"));
            let all = format!("{} {:?} {:?}", d.message, d.expected, d.hint);
            assert_eq!((d.code.as_str(), u32::try_from(d.line).unwrap()), want, "{to}: {all}");
            assert!(all.contains(says) && d.column > 1, "{to}: {all}");
        };
        check("  search:", "  Search:", ("PL103", 2), "lower-case");
        check("  search:", "  inherit:", ("PL104", 2), "another name");
        check("timeout", "timeuot", ("PL101", 8), "timeout");
        check("none\n", "nune\n", ("PL104", 7), "idempotent");
        check("    side_effect: none\n", "", ("PL102", 3), "side_effect");
        check("https://tools.test", "https://else.test", ("PL103", 4), "allow_hosts");
        check("https://tools.test/search", "/search", ("PL103", 4), "absolute");
        check("type: string", "type: sting", ("PL103", 6), "schema");
        check("type: object", "type: array", ("PL103", 6), "object");
        check("[tool_loop]", "[tool_lop]", ("PL205", 9), "tool_loop");
        check("3s", "3", ("PL111", 8), "3");
        check("3s", "1h", ("PL104", 8), "10m");
        check("env: KEY", "env: KEI", ("PL411", 5), "KEI");
        check("env: KEY", "header: a b, env: KEY", ("PL103", 5), "header");
        check("url:", "method: TRACE\n    url:", ("PL104", 4), "DELETE");
    }
}

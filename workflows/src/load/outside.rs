//! Checks that are somebody else's: what a file says of `code_tests`, `http` and `script`.

use super::Cx;
use crate::canonical;
use crate::reference::Ref;
use serde_json::{Value, json};
use std::time::Duration;
use types::doc::{Fields, Node};
use types::run::Severity;
use validators::Keys;

/// What such a check is about.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The code of the answer against tests.
    CodeTests {
        /// The language; `None` = that of the tests, else of the code.
        language: Option<String>,
        /// Where the tests are; `None` = in the request.
        tests: Option<Ref>,
        /// Processor time.
        cpu: Option<Duration>,
        /// Bytes.
        memory: Option<u64>,
    },
    /// A service that is asked.
    Http {
        /// Its address.
        url: String,
    },
    /// A function of a policy file.
    Script {
        /// Its name.
        name: String,
    },
}

impl What {
    /// As files name it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            What::CodeTests { .. } => "code_tests",
            What::Http { .. } => "http",
            What::Script { .. } => "script",
        }
    }
}

/// A check that leaves the process.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) what: What,
    pub(crate) severity: Severity,
    /// Longest time, beside what the node leaves it.
    pub(crate) timeout: Option<Duration>,
    pub(crate) keys: Keys,
}

/// Names of the checks that leave the process.
pub(crate) const NAMES: &[&str] = &["code_tests", "http", "script"];

/// What such a check is, in a few words, and its parameters.
pub(crate) fn about(name: &str) -> (&'static str, &'static [&'static str]) {
    match name {
        "http" => ("a service is asked", &["url", "timeout"]),
        "script" => ("a function of a policy file says what is wrong", &["name"]),
        _ => (
            "the code of the answer passes the tests of the request, in the code runner",
            &["language", "tests", "cpu", "memory", "network", "runner"],
        ),
    }
}

/// Longest time of an `http` check, unless the file says otherwise.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);

impl Outside {
    /// Reads the parameters of a check of that name. `at`: where the entry stands.
    pub(super) fn lower(
        cx: &mut Cx<'_>,
        (name, at): (&str, &Node),
        with: Option<&Node>,
        (severity, timeout, keys): (Option<Severity>, Option<Duration>, Keys),
        path: &str,
    ) -> Option<Self> {
        let at = with.unwrap_or(at);
        let mut f = match with {
            Some(n) => Some(cx.r.fields(n, &format!("{path}.with"))?),
            None => None,
        };
        let what = match (name, &mut f) {
            ("http", Some(f)) => f.require(&mut cx.r, "url").and_then(|n| http(cx, n, &f.at("url"))),
            ("http", None) => {
                cx.r.error("102", at.span, "`with.url` is missing").expected =
                    Some("the address of the service that checks".to_owned());
                None
            }
            ("script", Some(f)) => f.require(&mut cx.r, "name").and_then(|n| script(cx, n, &f.at("name"))),
            ("script", None) => {
                cx.r.error("102", at.span, "`with.name` is missing").expected =
                    Some("the name of a function of a policy file".to_owned());
                None
            }
            (_, Some(f)) => Some(code_tests(cx, f)),
            (_, None) => Some(What::CodeTests { language: None, tests: None, cpu: None, memory: None }),
        };
        let mut timeout = timeout;
        if let Some(mut f) = f {
            if name == "http" {
                let own = f.take("timeout").and_then(|n| cx.time_limit(n, &f.at("timeout")));
                timeout = timeout.or(own).or(Some(HTTP_TIMEOUT));
            }
            f.finish(&mut cx.r);
        }
        Some(Outside { what: what?, severity: severity.unwrap_or(Severity::Repair), timeout, keys })
    }

    /// For the hash of the plan.
    pub(super) fn canonical(&self) -> Value {
        let what = match &self.what {
            What::Http { url } => json!({ "url": url }),
            What::Script { name } => json!({ "name": name }),
            What::CodeTests { language, tests, cpu, memory } => json!({
                "language": language, "tests": tests.as_ref().map(Ref::canonical),
                "cpu_ms": cpu.map(|d| d.as_millis() as u64), "memory": memory,
            }),
        };
        let timeout = self.timeout.map(|d| d.as_millis() as u64);
        json!([
            self.what.name(),
            what,
            self.severity.weight().to_string(),
            timeout,
            canonical::keys(&self.keys)
        ])
    }

    /// The reference that it reads.
    pub(super) fn tests(&self) -> Option<&Ref> {
        match &self.what {
            What::CodeTests { tests, .. } => tests.as_ref(),
            What::Http { .. } | What::Script { .. } => None,
        }
    }
}

fn code_tests(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> What {
    if let Some(n) = f.take("network")
        && n.as_str() != Some("off")
    {
        // Code of a model is never given a network, whoever asks for it.
        cx.r.wrong_type(n, &f.at("network"), "off: tests run without a network");
    }
    if let Some(n) = f.take("runner") {
        cx.r.one_of(n, &f.at("runner"), &["default"]);
    }
    What::CodeTests {
        language: f.take("language").and_then(|n| cx.r.string(n, &f.at("language"))).filter(|l| l != "auto"),
        tests: f.take("tests").and_then(|n| Ref::lower(cx, n, &f.at("tests"))),
        cpu: f.take("cpu").and_then(|n| cx.time_limit(n, &f.at("cpu"))),
        memory: f.take("memory").and_then(|n| cx.r.bytes(n, &f.at("memory"))),
    }
}

fn http(cx: &mut Cx<'_>, n: &Node, path: &str) -> Option<What> {
    let url = cx.r.string(n, path)?;
    if url.starts_with("https://") || url.starts_with("http://") {
        if let Some(Err(why)) = cx.may_ask(&url) {
            let message = format!("`{url}` may not be asked, so the answer stays unverified: {why}");
            let d = cx.r.warning("422", n.span, message);
            d.hint = Some("add its host to `tools.allow_hosts` in turnout.yaml".to_owned());
            path.clone_into(&mut d.field);
        }
        return Some(What::Http { url });
    }
    let d = cx.r.error("104", n.span, format!("`{url}` is no address of a service"));
    d.expected = Some("an address that begins with https://".to_owned());
    path.clone_into(&mut d.field);
    None
}

fn script(cx: &mut Cx<'_>, n: &Node, path: &str) -> Option<What> {
    let name = cx.r.string(n, path)?;
    if cx.has_script(&name) {
        return Some(What::Script { name });
    }
    let hint = cx.like_scripts(&name);
    let message = format!("no policy file has a function `{name}(answer, ctx)`");
    let d = cx.r.error("203", n.span, message);
    d.hint = Some(hint);
    path.clone_into(&mut d.field);
    None
}

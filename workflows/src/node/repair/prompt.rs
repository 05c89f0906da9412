//! What a model is told of its failed answer: the findings, bounded, after the original messages.

use crate::load::Cx;
use crate::node::count;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;
use types::chat::{Message, ResponseFormat, Role};
use types::doc::Node;
use types::{Completion, Finding};

/// Most of the previous answer that is shown, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Fewest bytes of findings that can say anything.
const LEAST_BYTES: usize = 64;

/// How much is told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bounds {
    max_findings: usize,
    max_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { max_findings: 20, max_bytes: 4096 }
    }
}

impl Bounds {
    pub(super) fn lower(cx: &mut Cx<'_>, node: &Node, path: &str) -> Self {
        let usual = Bounds::default();
        let Some(mut f) = cx.r.fields(node, path) else { return usual };
        let max_findings = count(cx, &mut f, "max_findings", (1, 50), 20) as usize;
        let max_bytes = f.take("max_bytes").and_then(|n| {
            let at = f.at("max_bytes");
            let bytes = cx.r.bytes(n, &at).and_then(|b| usize::try_from(b).ok())?;
            if bytes < LEAST_BYTES {
                let d = cx.r.error("104", n.span, format!("`{at}` is {bytes}"));
                d.expected = Some(format!("{LEAST_BYTES} at least: less says nothing"));
                d.field = at;
            }
            Some(bytes)
        });
        let max_bytes = max_bytes.unwrap_or(usual.max_bytes);
        f.finish(&mut cx.r);
        Bounds { max_findings, max_bytes }
    }
}

/// The original messages, the previous answer if it is shown, and what the checks found. Attempts do not
/// pile up: each is told of the latest answer only.
pub(super) fn messages(
    original: &[Message],
    previous: Option<&Completion>,
    findings: &[Finding],
    bounds: &Bounds,
) -> Vec<Message> {
    let mut messages = original.to_vec();
    let shown = previous.map(Completion::text).filter(|t| !t.is_empty());
    if let Some(text) = shown {
        messages.push(Message::text(Role::Assistant, cut(text, MAX_ANSWER)));
    }
    let opening = match shown {
        Some(_) => "That answer did not pass these checks:",
        None => "An earlier answer to this did not pass these checks:",
    };
    let text = format!(
        "{opening}\n{}\nAnswer the request again so that all of them hold. Give only the answer itself.",
        list(findings, bounds)
    );
    messages.push(Message::text(Role::User, text));
    messages
}

/// The findings, worst first, as many as fit.
fn list(findings: &[Finding], bounds: &Bounds) -> String {
    let mut worst: Vec<&Finding> = findings.iter().collect();
    worst.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let mut out = String::new();
    for f in worst.into_iter().take(bounds.max_findings) {
        let mut line = format!("- {}", f.code);
        if let Some(p) = &f.path {
            let _ = write!(line, " at {p}");
        }
        let _ = write!(line, ": {}", f.message);
        if let Some(e) = &f.expected {
            let _ = write!(line, "; expected {e}");
        }
        if let Some(a) = &f.actual {
            let _ = write!(line, "; found {a}");
        }
        if let Some(h) = &f.hint {
            let _ = write!(line, "; {h}");
        }
        if out.len().saturating_add(line.len()) > bounds.max_bytes {
            if out.is_empty() {
                // The worst of them is told in any case, as much of it as fits.
                out.push_str(cut(&line, bounds.max_bytes));
                out.push('\n');
            }
            break;
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// The strictest form of what was asked for, or of what a check goes by; the provider's side falls back where a
/// model lacks it.
pub(super) fn strictest(
    format: &ResponseFormat,
    schema: Option<Arc<Value>>,
    wants_json: bool,
) -> Option<ResponseFormat> {
    let strict =
        |name: &str, schema| ResponseFormat::JsonSchema { name: name.to_owned(), schema, strict: true };
    match (format, schema) {
        (ResponseFormat::JsonSchema { name, schema, .. }, _) => Some(strict(name, schema.clone())),
        (_, Some(schema)) => Some(strict("answer", schema)),
        _ => wants_json.then_some(ResponseFormat::JsonObject),
    }
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or("")
}

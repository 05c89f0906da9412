//! Which tools a model is offered, and what becomes of its calls of the client's own.

use crate::load::Cx;
use crate::node::tool::{self, REGISTERED};
use crate::world::ToolSpec;
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use types::ChatRequest;
use types::chat::{Tool, ToolCall, ToolChoice};
use types::doc::{Fields, Node, Value};
use types::provider::Edits;
use types::runs::SideEffect;

/// Which tools a model is offered.
#[derive(Clone, Debug)]
pub(crate) enum Offer {
    /// The client's, if it has any.
    Inherit,
    /// None.
    None,
    /// These of the registry.
    Own {
        tools: Arc<[Tool]>,
        /// The client's as well.
        clients: bool,
        /// The first of them that is `unsafe`.
        harmful: Option<Arc<str>>,
    },
}

/// What becomes of calls of the client's own tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Clients {
    /// The run ends with them.
    End,
    /// The run waits for their results.
    Suspend,
    /// There must be none.
    Forbid,
}

impl Offer {
    pub(super) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Offer {
        let Some(n) = f.take("tools") else { return Offer::Inherit };
        let path = f.at("tools");
        let Value::List(list) = &n.value else {
            return match cx.r.one_of(n, &path, &["inherit", "none", REGISTERED]) {
                Some("none") => Offer::None,
                Some(REGISTERED) => own(cx, std::slice::from_ref(n), &path),
                _ => Offer::Inherit,
            };
        };
        own(cx, list, &path)
    }

    /// For the hash of the plan: what models are told of tools is part of it.
    pub(super) fn canonical(&self) -> Json {
        match self {
            Offer::Inherit => json!("inherit"),
            Offer::None => json!("none"),
            Offer::Own { tools, clients, .. } => {
                json!([tools.iter().map(|t| t.raw.get()).collect::<Vec<_>>(), clients])
            }
        }
    }

    /// Whether it names tools of the registry.
    pub(crate) const fn is_own(&self) -> bool {
        matches!(self, Offer::Own { .. })
    }

    /// A tool among them that changes the world each time it is called. What a client's own tools do, nobody here knows.
    pub(super) fn harmful(&self) -> Option<&str> {
        match self {
            Offer::Own { harmful, .. } => harmful.as_deref(),
            Offer::Inherit | Offer::None => None,
        }
    }

    /// Whether a model is offered any.
    pub(super) fn offers(&self, request: &ChatRequest, clients: Clients) -> bool {
        let mut edits = Edits::default();
        self.put(&mut edits, request, clients);
        !edits.without_tools && (edits.tools.is_some() || !request.tools.is_empty())
    }

    /// Puts into a call what is offered.
    pub(super) fn put(&self, edits: &mut Edits, request: &ChatRequest, clients: Clients) {
        let kept = clients != Clients::Forbid && request.tool_choice != ToolChoice::None;
        match self {
            Offer::Inherit => edits.without_tools |= !kept && !request.tools.is_empty(),
            Offer::None => edits.without_tools = true,
            Offer::Own { tools, clients, .. } => {
                let known = |t: &&Tool| !t.name.is_empty() && tools.iter().all(|own| own.name != t.name);
                let more = request.tools.iter().filter(|_| *clients && kept).filter(known);
                let all: Vec<Tool> = tools.iter().chain(more).cloned().collect();
                edits.without_tools |= all.is_empty();
                edits.tools = (!all.is_empty()).then(|| Arc::new(all));
            }
        }
    }

    /// The calls of an answer that are of the client's own tools.
    pub(super) fn of_client(&self, calls: &[ToolCall], request: &ChatRequest) -> Vec<ToolCall> {
        let own = |name: &str| match self {
            Offer::Own { tools, .. } => tools.iter().any(|t| t.name == name),
            Offer::Inherit | Offer::None => false,
        };
        let theirs = |c: &&ToolCall| {
            !own(&c.name) && request.tools.iter().any(|t| t.called().is_some_and(|name| name == c.name))
        };
        calls.iter().filter(theirs).cloned().collect()
    }
}

impl Clients {
    pub(super) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Clients {
        let said = f.take("client_tools");
        let path = f.at("client_tools");
        match said.and_then(|n| cx.r.one_of(n, &path, &["end", "suspend", "forbid"])) {
            Some("suspend") => Clients::Suspend,
            Some("forbid") => Clients::Forbid,
            _ => Clients::End,
        }
    }
}

fn own(cx: &mut Cx<'_>, list: &[Node], path: &str) -> Offer {
    let mut clients = false;
    let mut tools: Vec<Tool> = Vec::new();
    let mut harmful = None;
    for n in list {
        if n.as_str() == Some("inherit") {
            clients = true;
            continue;
        }
        for name in tool::names(cx, n, path) {
            let Some(spec) = cx.tool(&name).filter(|_| tools.iter().all(|t| *t.name != *name)) else {
                continue;
            };
            if spec.side_effect == SideEffect::Unsafe {
                harmful.get_or_insert_with(|| spec.name.clone());
            }
            tools.extend(told(spec));
        }
    }
    Offer::Own { tools: tools.into(), clients, harmful }
}

/// A tool as models are told of it.
fn told(spec: &ToolSpec) -> Option<Tool> {
    let raw = json!({"type": "function", "function": {
        "name": &*spec.name, "description": spec.description, "parameters": &*spec.input_schema,
    }});
    Some(Tool {
        name: spec.name.to_string(),
        other: String::new(),
        description: Some(spec.description.clone()),
        parameters: Some(spec.input_schema.clone()),
        strict: None,
        // A JSON value is always one.
        raw: serde_json::value::to_raw_value(&raw).ok()?,
    })
}

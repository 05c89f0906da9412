//! `messages`: the conversation that a model is asked to go on with.

use crate::ending::RunFailure;
use crate::load::{Cx, Expr, Prompt, Template};
use crate::node::{Fault, Read};
use crate::reference::Ref;
use crate::run::At;
use serde_json::{Value as Json, json};
use types::chat::{Message, Role};
use types::doc::{Fields, Node, Value};

/// The conversation that a model is asked to go on with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    /// `None` = the request's.
    base: Option<Ref>,
    /// One more instruction after those of the base.
    system: Option<Template>,
    prepend: Prompt,
    append: Prompt,
    /// It is the request's own, unchanged.
    is_request: bool,
}

impl Conversation {
    pub(super) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Conversation {
        let plain = Conversation { is_request: true, ..Conversation::default() };
        let Some(n) = f.take("messages") else { return plain };
        let path = f.at("messages");
        if !matches!(n.value, Value::Map(_)) {
            return match base(cx, n, &path) {
                None => plain,
                base => Conversation { base, ..Conversation::default() },
            };
        }
        let Some(mut own) = cx.r.fields(n, &path) else { return plain };
        let base = own.take("base").and_then(|n| base(cx, n, &own.at("base")));
        let system = own.take("system").and_then(|n| Template::lower(cx, n, &own.at("system")));
        let mut prompt = |key, own: &mut Fields<'_>| {
            own.take(key).map(|n| Prompt::lower(cx, n, &own.at(key), Role::User)).unwrap_or_default()
        };
        let (prepend, append) = (prompt("prepend", &mut own), prompt("append", &mut own));
        own.finish(&mut cx.r);
        Conversation { base, system, prepend, append, is_request: false }
    }

    /// For the hash of the plan.
    pub(super) fn canonical(&self) -> Json {
        json!([
            self.base.as_ref().map(Ref::canonical),
            self.system.as_ref().map(Template::source),
            self.prepend.canonical(),
            self.append.canonical(),
            self.is_request,
        ])
    }

    pub(super) fn reads(&self) -> impl Iterator<Item = Read<'_>> {
        self.base.iter().map(|reference| Read { reference, may_be_absent: false })
    }

    pub(super) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let system = self.system.iter().flat_map(Template::exprs);
        system.chain(self.prepend.exprs()).chain(self.append.exprs())
    }

    /// The messages; `None` = the request's own.
    pub(super) fn messages(&self, at: &At<'_>) -> Result<Option<Vec<Message>>, Fault> {
        if self.is_request {
            return Ok(None);
        }
        let mut all = match &self.base {
            None => at.host.messages().to_vec(),
            Some(r) => at.value(r).messages().ok_or_else(|| {
                let message = format!("node `{}`: `{}` is no list of messages", at.node.id, r.canonical());
                RunFailure::new("expression", "type", 500, message)
            })?,
        };
        let instructions = all.iter().take_while(|m| m.role.is_instruction()).count();
        let mut own = Vec::new();
        if let Some(t) = &self.system {
            own.push(Message::text(Role::System, t.render(at.frame, at.host, &[])?));
        }
        own.extend(self.prepend.render(at.frame, at.host)?);
        all.splice(instructions..instructions, own);
        all.extend(self.append.render(at.frame, at.host)?);
        Ok(Some(all))
    }
}

/// `request`, or a reference to messages.
fn base(cx: &mut Cx<'_>, n: &Node, path: &str) -> Option<Ref> {
    if n.as_str() == Some("request") {
        return None;
    }
    Ref::lower(cx, n, path)
}

//! Texts with expressions in them, data with such texts in it, and prompts made of them.

use super::{Cx, Expr, Gives};
use crate::run::Frame;
use crate::run::Host;
use serde_json::{Map, Value as Json};
use std::sync::Arc;
use types::chat::{Message, Role};
use types::diagnostic::suggestion;
use types::doc::{self, Node};
use types::expr::{Error, Type};

/// A text in which `${ expr }` stands for the value of an expression and `$${` for `${`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Template {
    parts: Vec<Part>,
    text: Arc<str>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Value(Box<Expr>),
}

impl Template {
    /// Reads a template.
    pub(crate) fn lower(cx: &mut Cx<'_>, n: &Node, path: &str) -> Option<Template> {
        Template::lower_with(cx, n, path, &[])
    }

    /// The same with some more variables.
    pub(crate) fn lower_with(
        cx: &mut Cx<'_>,
        n: &Node,
        path: &str,
        more: &[(&str, Type)],
    ) -> Option<Template> {
        let text = cx.r.string(n, path)?;
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
            if rest.starts_with("$${") {
                plain.push_str("${");
                at += 3;
            } else if let Some(inner) = rest.strip_prefix("${") {
                let Some(len) = end(inner) else {
                    let d = cx.r.error("103", n.span, format!("`{path}` has `${{` without its `}}`"));
                    d.expected = Some("${ expression }, or $${ for the characters themselves".to_owned());
                    path.clone_into(&mut d.field);
                    return None;
                };
                let part = (inner.get(..len).unwrap_or(""), at + 2);
                let value = cx.expr_at(n, part, path, None, more);
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.extend(value.map(Box::new).map(Part::Value));
                at += len + 3;
            } else {
                let next =
                    rest.char_indices().skip(1).find(|(_, c)| *c == '$').map_or(rest.len(), |(i, _)| i);
                plain.push_str(rest.get(..next).unwrap_or(""));
                at += next;
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Some(Template { parts, text: text.into() })
    }

    /// As it is written.
    pub(crate) fn source(&self) -> &str {
        &self.text
    }

    /// The expressions in it.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.parts.iter().filter_map(|p| match p {
            Part::Text(_) => None,
            Part::Value(e) => Some(&**e),
        })
    }

    /// The text with the values put in. They are data: nothing in them is looked at again.
    pub(crate) fn render(
        &self,
        frame: &Frame<'_>,
        host: &Host,
        more: &[(&str, Json)],
    ) -> Result<String, Error> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(t) => out.push_str(t),
                Part::Value(e) => match frame.eval_with(e, host, more)?.json(&host.table()) {
                    Json::Null => {}
                    Json::String(s) => out.push_str(&s),
                    other => out.push_str(&other.to_string()),
                },
            }
        }
        Ok(out)
    }

    /// The value itself where the text is nothing but one expression, else the text.
    fn value(&self, frame: &Frame<'_>, host: &Host) -> Result<Json, Error> {
        match self.parts.as_slice() {
            [Part::Value(e)] => Ok(frame.eval_with(e, host, &[])?.json(&host.table())),
            _ => self.render(frame, host, &[]).map(Json::String),
        }
    }
}

/// Length of an expression up to the `}` that ends it: braces within it and in its strings do not.
fn end(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted && depth == 0 => return Some(i),
            '}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Data whose texts are templates.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Plain(Json),
    Text(Template),
    List(Vec<Data>),
    Map(Vec<(String, Data)>),
}

impl Data {
    /// What is known of it before a run.
    pub(crate) fn gives(&self) -> Gives {
        match self {
            Data::Plain(value) => Gives::Value(value.clone()),
            Data::Text(_) => Gives::Type(Type::Str),
            Data::List(_) => Gives::Type(Type::Any.list()),
            Data::Map(_) => Gives::Type(Type::map([])),
        }
    }

    /// What is written, with nothing where a run puts something in, and the places of those as JSON pointers.
    pub(crate) fn written(&self) -> (Json, Vec<String>) {
        let mut open = Vec::new();
        (self.write("", &mut open), open)
    }

    fn write(&self, at: &str, open: &mut Vec<String>) -> Json {
        match self {
            Data::Plain(j) => j.clone(),
            Data::Text(_) => {
                open.push(at.to_owned());
                Json::Null
            }
            Data::List(l) => {
                let items = l.iter().enumerate();
                items.map(|(i, d)| d.write(&format!("{at}/{i}"), open)).collect()
            }
            Data::Map(m) => {
                let pointed = |k: &str| k.replace('~', "~0").replace('/', "~1");
                let members = m.iter();
                members.map(|(k, d)| (k.clone(), d.write(&format!("{at}/{}", pointed(k)), open))).collect()
            }
        }
    }

    /// Reads data.
    pub(crate) fn lower(cx: &mut Cx<'_>, n: &Node, path: &str) -> Data {
        match &n.value {
            doc::Value::Str(s) if s.contains("${") => {
                Template::lower(cx, n, path).map_or(Data::Plain(Json::Null), Data::Text)
            }
            doc::Value::List(l) => Data::List(l.iter().map(|n| Data::lower(cx, n, path)).collect()),
            doc::Value::Map(m) => Data::Map(
                m.iter()
                    .map(|(k, n)| (k.name.clone(), Data::lower(cx, n, &format!("{path}.{}", k.name))))
                    .collect(),
            ),
            _ => Data::Plain(n.to_json()),
        }
    }

    /// The expressions in it.
    pub(crate) fn exprs(&self) -> Vec<&Expr> {
        match self {
            Data::Plain(_) => Vec::new(),
            Data::Text(t) => t.exprs().collect(),
            Data::List(l) => l.iter().flat_map(Data::exprs).collect(),
            Data::Map(m) => m.iter().flat_map(|(_, d)| d.exprs()).collect(),
        }
    }

    /// For the hash of the plan.
    pub(crate) fn canonical(&self) -> Json {
        match self {
            Data::Plain(j) => j.clone(),
            Data::Text(t) => Json::from(t.source()),
            Data::List(l) => Json::Array(l.iter().map(Data::canonical).collect()),
            Data::Map(m) => Json::Object(m.iter().map(|(k, d)| (k.clone(), d.canonical())).collect()),
        }
    }

    /// With the values put in. A text that is nothing but one expression becomes its value.
    pub(crate) fn value(&self, frame: &Frame<'_>, host: &Host) -> Result<Json, Error> {
        Ok(match self {
            Data::Plain(j) => j.clone(),
            Data::Text(t) => t.value(frame, host)?,
            Data::List(l) => Json::Array(l.iter().map(|d| d.value(frame, host)).collect::<Result<_, _>>()?),
            Data::Map(m) => {
                let members = m.iter().map(|(k, d)| Ok((k.clone(), d.value(frame, host)?)));
                Json::Object(members.collect::<Result<Map<_, _>, Error>>()?)
            }
        })
    }
}

/// Messages made of templates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompt(Vec<(Role, Template)>);

impl Prompt {
    /// Reads a prompt: a text (one message of that role), or a list of `{role, content}`.
    pub(crate) fn lower(cx: &mut Cx<'_>, n: &Node, path: &str, role: Role) -> Prompt {
        let doc::Value::List(list) = &n.value else {
            let text = Template::lower(cx, n, path);
            return Prompt(text.into_iter().map(|t| (role, t)).collect());
        };
        let all = list.iter().enumerate().map(|(i, n)| Prompt::one(cx, n, &format!("{path}[{i}]")));
        Prompt(all.flat_map(|p| p.0).collect())
    }

    /// Reads the file's own prompts that no place names, for what is wrong with them wherever they stood. Which names
    /// there are is up to the place.
    pub(super) fn unused(cx: &mut Cx<'_>) {
        for (name, node) in cx.top.prompts.clone() {
            let told = !matches!(node.value, doc::Value::Str(_) | doc::Value::List(_));
            if told || cx.top.used_prompts.contains(&name) {
                continue;
            }
            let first = cx.r.problems.len();
            Prompt::lower(cx, &node, &format!("prompts.{name}"), Role::System);
            let own = cx.r.problems.split_off(first);
            cx.r.problems.extend(own.into_iter().filter(|d| d.code != "WF301"));
        }
    }

    /// Reads one message, `{role, content}`.
    pub(crate) fn one(cx: &mut Cx<'_>, n: &Node, path: &str) -> Prompt {
        let Some(mut f) = cx.r.fields(n, path) else { return Prompt::default() };
        let role = f
            .require(&mut cx.r, "role")
            .and_then(|n| cx.r.one_of(n, &f.at("role"), &["system", "user", "assistant"]))
            .and_then(Role::parse);
        let content = f.require(&mut cx.r, "content").and_then(|n| Template::lower(cx, n, &f.at("content")));
        f.finish(&mut cx.r);
        Prompt(role.zip(content).into_iter().collect())
    }

    /// The prompt of that name; whatever it names, it is noted where there is none.
    pub(crate) fn named(cx: &mut Cx<'_>, n: &Node, name: &str, path: &str, role: Role) -> Prompt {
        if let Some(found) = cx.own_prompt(name) {
            return Prompt::lower(cx, &found, path, role);
        }
        let hint = suggestion(name, cx.top.prompts.iter().map(|(n, _)| n.as_str()));
        let d = cx.r.error("206", n.span, format!("there is no prompt `{name}`"));
        d.hint = Some(hint);
        path.clone_into(&mut d.field);
        Prompt::default()
    }

    /// Reads a prompt or the name of one (`prompts`): a single word is a name.
    pub(crate) fn lower_or_name(cx: &mut Cx<'_>, n: &Node, path: &str, role: Role) -> Prompt {
        let is_word = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match n.as_str().filter(|s| is_word(s)) {
            Some(name) => Prompt::named(cx, n, name, path, role),
            None => Prompt::lower(cx, n, path, role),
        }
    }

    /// The expressions in it.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.0.iter().flat_map(|(_, t)| t.exprs())
    }

    /// For the hash of the plan.
    pub(crate) fn canonical(&self) -> Json {
        Json::Array(
            self.0.iter().map(|(r, t)| Json::from(format!("{}: {}", r.as_str(), t.source()))).collect(),
        )
    }

    /// The messages with the values put in.
    pub(crate) fn render(&self, frame: &Frame<'_>, host: &Host) -> Result<Vec<Message>, Error> {
        self.0.iter().map(|(role, t)| Ok(Message::text(*role, t.render(frame, host, &[])?))).collect()
    }
}

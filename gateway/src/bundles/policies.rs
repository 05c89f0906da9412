//! Rules and scripts as things of their own: listed with where they stand, put and removed one by one.

use super::Terms;
use super::bring::Change;
use super::edit::{self, Member, Section};
use super::refusal;
use crate::app::App;
use crate::clock;
use crate::config::Texts;
use crate::config::sources::{self, is_built_in};
use crate::control::{Actor, fields};
use crate::error::Failure;
use engine::Bundle;
use http::StatusCode;
use policies::{Kind, Listed};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use types::Diagnostic;
use types::diagnostic::suggestion;
use types::doc::{self, Node, SourceFile, Span};

/// Longest text of a rule or script, bytes.
pub(crate) const MAX_SOURCE: usize = 64 * 1024;

/// A file of rules before it has any.
const NO_RULES: &str = "version: 1\n";

/// A rule or script as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    /// YAML of one rule, or Rhai.
    source: String,
    /// Which of both; only a new one has to say.
    #[serde(default, deserialize_with = "fields::given")]
    kind: Option<Kind>,
    /// Whose requests alone a new one is about; none = everybody's.
    #[serde(default, deserialize_with = "fields::given")]
    tenant: Option<String>,
}

impl App {
    /// All of them, in the order in which they are evaluated.
    pub(crate) fn policies(&self) -> Vec<Value> {
        let bundle = self.engine.bundle();
        let texts = self.bundles.texts(bundle.hash());
        let listing = bundle.policies().listing(clock::unix_ms());
        listing.iter().map(|l| row(&bundle, &texts, l)).collect()
    }

    /// One of them with its text.
    ///
    /// # Errors
    /// 404 with the nearest name.
    pub(crate) fn policy(&self, id: &str) -> Result<Value, Failure> {
        let bundle = self.engine.bundle();
        let texts = self.bundles.texts(bundle.hash());
        let listed = find(&bundle, id).ok_or_else(|| unknown(&bundle, id))?;
        let text = texts.get(&path(&bundle, &texts, &listed));
        let source = match listed.kind {
            Kind::Rule => text.and_then(|t| edit::lines_of(t, Section::Rules, id)),
            Kind::Script => text.map(ToString::to_string),
        };
        let mut row = row(&bundle, &texts, &listed);
        if let Some(row) = row.as_object_mut() {
            row.insert("source".to_owned(), json!(source));
        }
        Ok(row)
    }

    /// Puts a rule or script, or checks what would come of that.
    ///
    /// # Errors
    /// What is wrong with it, or all problems of what would come of it, or it would change more than the settings allow.
    pub(crate) async fn put_policy(
        self: &Arc<Self>,
        actor: &Actor,
        id: &str,
        policy: &Policy,
        terms: Terms,
    ) -> Result<Value, Failure> {
        fields::identifier("policy", id)?;
        if policy.source.len() > MAX_SOURCE {
            let text = format!("`source` has up to {MAX_SOURCE} bytes");
            return Err(Failure::bad_request("invalid_value", text).param("source"));
        }
        policy.tenant.as_deref().map_or(Ok(()), |tenant| fields::identifier("tenant", tenant))?;
        let edit = Box::new(|bundle: &Bundle, texts: &Texts| with(bundle, texts, id, policy));
        let check = Box::new(|bundle: &Bundle| match find(bundle, id) {
            Some(_) => Ok(()),
            None => {
                let text = format!(
                    "`describe()` of the script names another id than `{id}`, under which it was sent"
                );
                Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "other_id", text).param("source"))
            }
        });
        self.change(actor, Change { action: "policy.put", target: id, terms, edit, check }).await
    }

    /// Removes a rule or script.
    ///
    /// # Errors
    /// There is none, or a test of the bundle needs it.
    pub(crate) async fn remove_policy(
        self: &Arc<Self>,
        actor: &Actor,
        id: &str,
        terms: Terms,
    ) -> Result<Value, Failure> {
        let edit = Box::new(|bundle: &Bundle, texts: &Texts| without(bundle, texts, id));
        let change = Change { action: "policy.delete", target: id, terms, edit, check: Box::new(|_| Ok(())) };
        self.change(actor, change).await
    }
}

fn find(bundle: &Bundle, id: &str) -> Option<Listed> {
    bundle.policies().listing(clock::unix_ms()).into_iter().find(|l| l.id == id)
}

fn unknown(bundle: &Bundle, id: &str) -> Failure {
    let all = bundle.policies().listing(clock::unix_ms());
    let hint = suggestion(id, all.iter().map(|l| l.id.as_str()));
    Failure::not_found(format!("there is no such rule or script; {hint}"))
}

/// The path within the bundle.
fn path(bundle: &Bundle, texts: &Texts, listed: &Listed) -> String {
    let own = |path: &&String| {
        let rest = listed.file.strip_suffix(path.as_str());
        rest.is_some_and(|r| r.is_empty() || r.ends_with('/'))
    };
    match (listed.kind, &listed.tenant) {
        (Kind::Rule, None) => sources::RULES.to_owned(),
        // `policies/rules/a.rhai` ends as `rules/a.rhai` would: the longest that fits is the one.
        _ => texts.keys().filter(own).max_by_key(|p| p.len()).cloned().unwrap_or_else(|| {
            tracing::error!(bundle = &**bundle.hash(), file = listed.file, "a policy has no text");
            listed.file.clone()
        }),
    }
}

fn row(bundle: &Bundle, texts: &Texts, listed: &Listed) -> Value {
    let mut row = json!(listed);
    if let Some(m) = row.as_object_mut() {
        let rules = bundle.policies().rules_file();
        m.insert("file".to_owned(), path(bundle, texts, listed).into());
        m.insert("shipped".to_owned(), (listed.file == rules.path && is_built_in(rules)).into());
    }
    row
}

/// The texts with one rule or script put.
fn with(bundle: &Bundle, texts: &Texts, id: &str, policy: &Policy) -> Result<Texts, Failure> {
    let known = find(bundle, id);
    let kind = match (&known, policy.kind) {
        (Some(known), given) if given.is_none_or(|k| k == known.kind) => known.kind,
        (Some(known), _) => {
            let path = path(bundle, texts, known);
            let text = format!("`{id}` stands in {path} and is of another kind; remove it first");
            return Err(Failure::new(StatusCode::CONFLICT, "other_kind", text).param("kind"));
        }
        (None, Some(kind)) => kind,
        (None, None) => {
            let text = format!("there is no `{id}` yet: say whether it is a `rule` or a `script`");
            return Err(Failure::bad_request("invalid_value", text).param("kind"));
        }
    };
    same_tenant(id, known.as_ref(), policy)?;
    let own = known.map(|k| path(bundle, texts, &k));
    let folder = policy.tenant.as_deref().map(sources::of_tenant);
    let mut texts = texts.clone();
    let (path, text) = match kind {
        Kind::Rule => {
            let value = rule(id, &policy.source)?;
            let rules = || folder.map_or_else(|| sources::RULES.to_owned(), |f| format!("{f}/rules.yaml"));
            let path = own.unwrap_or_else(rules);
            let text = texts.get(&path).map_or(NO_RULES, |text| text);
            let member = Member::Lines(&policy.source, &value);
            let text = edit::put(text, Section::Rules, id, member).map_err(edit::refused)?;
            (path, text)
        }
        Kind::Script => {
            let folder = folder.as_deref().unwrap_or(sources::POLICIES);
            let path = own.clone().unwrap_or_else(|| format!("{folder}/{id}.rhai"));
            if own.is_none() && texts.contains_key(&path) {
                let text = format!("{path} holds a script of another id");
                return Err(Failure::new(StatusCode::CONFLICT, "path_taken", text));
            }
            (path, policy.source.clone())
        }
    };
    texts.insert(path, text.into());
    Ok(texts)
}

/// Refuses to move a rule or script from one tenant to another: what replaces it stands where it stood.
fn same_tenant(id: &str, known: Option<&Listed>, policy: &Policy) -> Result<(), Failure> {
    let (Some(known), Some(asked)) = (known, &policy.tenant) else { return Ok(()) };
    if known.tenant.as_ref() == Some(asked) {
        return Ok(());
    }
    let whose = known.tenant.as_ref().map_or_else(|| "of all tenants".to_owned(), |t| format!("of `{t}`"));
    let text = format!("`{id}` is there already and is {whose}; remove it first, or choose another id");
    Err(Failure::new(StatusCode::CONFLICT, "other_tenant", text).param("tenant"))
}

/// The value of one rule that was sent.
fn rule(id: &str, source: &str) -> Result<Value, Failure> {
    let file = SourceFile::new(format!("{id}.yaml"), source);
    let wrong = |d: Diagnostic| {
        let report = d.render(Some(source), false);
        refusal(&[d], format!("the rule has errors:\n\n{report}")).param("source")
    };
    let root = doc::parse(&file, "PL").map_err(|d| wrong(*d))?;
    let start = Span { line: 1, column: 1, ..Span::default() };
    let named = root.get("id").and_then(Node::as_str);
    if named == Some(id) {
        return Ok(root.to_json());
    }
    let (code, found) = match (&root.value, named) {
        (_, Some(other)) => ("PL104", format!("`id` is `{other}`")),
        (doc::Value::Map(_), None) => ("PL102", "there is no `id`".to_owned()),
        _ => ("PL103", format!("it is {}", root.kind())),
    };
    let at = root.get("id").map_or(start, |n| n.span);
    let d = Diagnostic::error(code, &file, at, found);
    Err(wrong(d.expected(format!("one rule, a map with `id: {id}`, the name under which it was sent"))))
}

/// The texts with one rule or script removed.
fn without(bundle: &Bundle, texts: &Texts, id: &str) -> Result<Texts, Failure> {
    let known = find(bundle, id).ok_or_else(|| unknown(bundle, id))?;
    let mut texts = texts.clone();
    let path = path(bundle, &texts, &known);
    let text = texts.remove(&path).ok_or_else(Failure::internal)?;
    if known.kind == Kind::Rule {
        let text = edit::put(&text, Section::Rules, id, Member::Gone).map_err(edit::refused)?;
        texts.insert(path, text.into());
    }
    Ok(texts)
}

//! Bundles as the control API shows them.

use super::book::{Book, Entry, Refused};
use super::{Bundles, listed};
use crate::config::Texts;
use crate::error::Failure;
use engine::Bundle;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Bundles {
    /// All of them, those in use first, then the newest first.
    pub(crate) fn list(&self, watched: bool) -> Value {
        let book = self.book();
        let mut entries: Vec<&Entry> = book.entries.iter().collect();
        let last = |e: &Entry| e.activated_ms.max(Some(e.at_ms));
        entries.sort_by_key(|e| (book.state(&e.hash) as u8, std::cmp::Reverse(last(e))));
        // Texts that are kept are listed as what they are, whatever else was wrong with them once.
        let rejected = book.rejected.iter().rev().chain(&book.refused);
        let rejected = rejected.filter(|r| book.entry(&r.hash).is_none()).map(row_of_refused);
        let rows: Vec<Value> = entries.into_iter().map(|e| row(&book, e)).chain(rejected).collect();
        json!({
            "object": "list", "data": rows, "active": book.at.active, "previous": book.at.previous,
            "files": files(&book, watched),
        })
    }

    /// One of them with its texts.
    ///
    /// # Errors
    /// 404 with what there is.
    pub(crate) fn one(&self, name: &str) -> Result<Value, Failure> {
        let book = self.book();
        let refused = book.rejected.iter().chain(&book.refused).find(|r| &*r.hash == name);
        if let Some(r) = refused.filter(|_| book.entry(name).is_none()) {
            return Ok(row_of_refused(r));
        }
        let entry = book.find(name).map_err(Failure::not_found)?;
        let mut shown = row(&book, entry);
        if let Some(m) = shown.as_object_mut() {
            m.insert("files".to_owned(), json!(entry.files));
        }
        Ok(shown)
    }

    /// The whole name of a bundle.
    ///
    /// # Errors
    /// 404 with what there is.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<str>, Failure> {
        self.book().find(name).map(|e| e.hash.clone()).map_err(Failure::not_found)
    }

    /// What the configuration folder held when it was good last.
    pub(crate) fn folder_texts(&self) -> Texts {
        let book = self.book();
        book.entry(&book.at.folder).map(|e| e.files.clone()).unwrap_or_default()
    }

    /// The texts of a bundle that is kept.
    pub(crate) fn texts(&self, hash: &str) -> Texts {
        self.book().entry(hash).map(|e| e.files.clone()).unwrap_or_default()
    }
}

fn row(book: &Book, e: &Entry) -> Value {
    json!({
        "hash": e.hash, "state": book.state(&e.hash), "origin": e.origin, "by": e.by, "at_ms": e.at_ms,
        "message": e.message, "activated_ms": e.activated_ms, "paths": e.files.keys().collect::<Vec<_>>(),
        "parent": e.parent, "went_back": book.at.went_back.as_ref().filter(|fault| fault.hash == e.hash).map(|fault| &fault.why),
    })
}

fn row_of_refused(r: &Refused) -> Value {
    json!({
        "hash": r.hash, "state": "rejected", "origin": r.origin, "by": r.by, "at_ms": r.at_ms,
        "message": r.message, "problems": listed(&r.problems),
    })
}

/// How the configuration folder stands to what is in force.
fn files(book: &Book, watched: bool) -> Value {
    match &book.refused {
        Some(r) => json!({
            "state": "refused", "hash": r.hash, "at_ms": r.at_ms, "watched": watched, "problems": listed(&r.problems),
        }),
        None => {
            let state = if book.at.folder == book.at.active { "active" } else { "overruled" };
            json!({ "state": state, "hash": book.at.folder, "watched": watched })
        }
    }
}

/// How one bundle differs from another: text by text, and by what the texts say.
pub(crate) fn diff(from: (&Bundle, &Texts), to: (&Bundle, &Texts)) -> Value {
    let paths: BTreeSet<&String> = from.1.keys().chain(to.1.keys()).collect();
    let files: Vec<Value> = paths.into_iter().filter_map(|path| changed(path, from.1, to.1)).collect();
    let models = |b: &Bundle| b.matrix().models().iter().map(|m| m.id.to_string()).collect::<BTreeSet<_>>();
    let workflows = |b: &Bundle| b.workflow_names().into_iter().collect::<BTreeSet<_>>();
    json!({
        "from": from.0.hash(), "to": to.0.hash(), "files": files,
        "rules": from.0.policies().changes(to.0.policies()),
        "models": came_and_went(&models(from.0), &models(to.0)),
        "workflows": came_and_went(&workflows(from.0), &workflows(to.0)),
    })
}

fn changed(path: &str, from: &Texts, to: &Texts) -> Option<Value> {
    let (a, b) = (from.get(path), to.get(path));
    if a == b {
        return None;
    }
    let change = match (a, b) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let text = |t: Option<&Arc<str>>| t.map_or("", |t| &**t).to_owned();
    let patch = diffy::create_patch(&text(a), &text(b)).to_string();
    // The names of the two sides are those of the path, which is told beside.
    let body = patch.split_inclusive('\n').skip(2).collect::<String>();
    Some(json!({ "path": path, "change": change, "diff": body }))
}

fn came_and_went(from: &BTreeSet<String>, to: &BTreeSet<String>) -> Value {
    json!({
        "added": to.difference(from).collect::<Vec<_>>(),
        "removed": from.difference(to).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::book::{Origin, State};
    use crate::config::{Environment, Simulated, Source, load};

    fn bundle(texts: &[(&str, &str)]) -> (Bundle, Texts) {
        let texts: Texts = texts.iter().map(|(p, t)| ((*p).to_owned(), (*t).into())).collect();
        let loaded = load(&Source::kept(&texts, &[]), &Environment::default(), Simulated::AsWritten);
        let report = loaded.report(false);
        (loaded.bundle.unwrap_or_else(|| panic!("{report}")), loaded.files)
    }

    #[test]
    fn a_difference_is_told_by_text_and_by_meaning() {
        const RULE: &str = "version: 1\nrules:\n  - id: a\n    actions: { tag: { x: y } }\n";
        let a = bundle(&[("routing_rules.yaml", "version: 1\n")]);
        let b = bundle(&[
            ("routing_rules.yaml", RULE),
            (
                "matrix.d/own.yaml",
                "models:\n  openai/own: { context_window: 1000, max_output_tokens: 100, quality_tier: 1, speed_tier: 1 }\n",
            ),
        ]);
        let d = diff((&a.0, &a.1), (&b.0, &b.1));
        assert_eq!(d["rules"]["added"], json!(["a"]));
        assert_eq!(d["models"], json!({"added": ["openai/own"], "removed": []}));
        let files = d["files"].as_array().unwrap();
        assert_eq!(files.len(), 2, "{d}");
        assert_eq!(
            (files[0]["path"].as_str(), files[0]["change"].as_str()),
            (Some("matrix.d/own.yaml"), Some("added"))
        );
        let text = files[1]["diff"].as_str().unwrap();
        assert!(text.starts_with("@@") && text.contains("\n+  - id: a\n"), "{text}");
        assert_eq!(diff((&a.0, &a.1), (&a.0, &a.1))["files"], json!([]));
    }

    #[test]
    fn those_in_use_are_listed_first() {
        let order = [State::Active, State::Previous, State::Shadow, State::Kept].map(|s| s as u8);
        assert!(order.is_sorted());
        assert_eq!(serde_json::to_value(Origin::Upload).ok(), Some(json!("upload")));
    }
}

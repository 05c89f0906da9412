//! Votes: which answers say the same, and how much each of them counts.

use super::{Fit, Select};
use crate::load::{Cx, Expr};
use crate::run::RowId;
use crate::value::completion;
use std::cmp::Ordering;
use types::doc::{self, Fields};
use types::expr::Type;

/// What makes two votes the same.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// The text, but for case, spacing and how its characters are composed.
    Text,
    /// The JSON value.
    Json,
    /// The value of an expression over the completion.
    Expr(Expr),
}

impl Key {
    pub(super) fn canonical(&self) -> &str {
        match self {
            Key::Text => "text",
            Key::Json => "json",
            Key::Expr(e) => e.source(),
        }
    }
}

/// An expression over one completion that gives a number.
pub(super) fn number(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<Expr> {
    cx.expr(n, path, Some(&Type::Float), &[("completion", completion())])
}

/// An expression over one completion.
fn over(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<Expr> {
    cx.expr(n, path, None, &[("completion", completion())])
}

pub(super) fn vote_key(cx: &mut Cx<'_>, v: &mut Fields<'_>) -> Key {
    let said = v.take("key").map(|n| (cx.r.one_of(n, &v.at("key"), &["text", "json", "expr"]), n.span));
    let by = v.take("by").map(|n| (over(cx, n, &v.at("by")), n.span));
    match (said, by) {
        (Some((Some("expr"), span)), None) => {
            cx.r.error("102", span, "`by` is missing").expected =
                Some("an expression over `completion`".to_owned());
            Key::Text
        }
        (Some((Some("text" | "json"), _)), Some((_, span))) => {
            cx.r.error("103", span, "`by` without `key: expr`");
            Key::Text
        }
        (_, Some((by, _))) => by.map_or(Key::Text, Key::Expr),
        (Some((Some("json"), _)), None) => Key::Json,
        _ => Key::Text,
    }
}

impl Select {
    pub(super) fn vote(&self, fit: &[Fit<'_>]) -> (Option<RowId>, Option<f64>) {
        struct Group<'a> {
            key: String,
            votes: usize,
            weight: f64,
            first: RowId,
            /// Which of them comes first where another group weighs as much.
            best: Fit<'a>,
        }
        let mut groups: Vec<Group<'_>> = Vec::new();
        for f in fit {
            let key = self.key(f);
            let Some(g) = groups.iter_mut().find(|g| g.key == key) else {
                groups.push(Group { key, votes: 1, weight: f.weighed.weight, first: f.id(), best: *f });
                continue;
            };
            (g.votes, g.weight) = (g.votes.saturating_add(1), g.weight + f.weighed.weight);
            if self.tie(f, &g.best) == Ordering::Less {
                g.best = *f;
            }
        }
        let all: f64 = groups.iter().map(|g| g.weight).sum();
        // The heaviest group; of equals the one whose best comes first, or which stands first.
        let before = |a: &Group<'_>, b: &Group<'_>| {
            b.weight.total_cmp(&a.weight).then_with(|| self.tie(&a.best, &b.best)) == Ordering::Less
        };
        let heaviest = groups.iter().reduce(|a, b| if before(b, a) { b } else { a });
        let Some(g) = heaviest.filter(|_| all > 0.0) else { return (None, None) };
        let agreement = g.weight / all;
        // One voice among several is no agreement.
        let enough = agreement >= self.min_agreement && (g.votes > 1 || fit.len() == 1);
        (enough.then_some(g.first), Some(agreement))
    }

    pub(super) fn key(&self, f: &Fit<'_>) -> String {
        if let Some(key) = &f.weighed.key {
            return key.clone();
        }
        let text = f.row.completion.text();
        if matches!(self.key, Key::Json)
            && let Some(v) = validators::fix::value(text)
        {
            return crate::canonical::sorted(&v).to_string();
        }
        types::alike::normalised(text)
    }
}

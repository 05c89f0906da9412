//! `select`: picks one completion. Deterministic given its inputs.

use super::{Begun, NodeType, Out, Read, Resolved, Spec, no_labels};
use crate::load::{Cx, later};
use crate::outcome::{Outcome, OutcomeSet};
use crate::reference::Ref;
use crate::run::{At, Row, RowId, Table};
use crate::value::{Ty, Value};
use serde_json::{Value as Json, json};
use std::cmp::Ordering;
use std::time::Duration;
use types::Verdict;
use types::doc::{self, Fields};
use types::expr::Type;

pub(crate) static TYPE: NodeType = NodeType {
    name: "select",
    outcomes: &[Outcome::Selected, Outcome::NoConsensus, Outcome::None],
    words: &["selected", "no_consensus", "none", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(5),
    sink: false,
    cacheable: false,
    retries: false,
    outputs: |_| {
        vec![
            Out::new("completion", Ty::Completion),
            Out::new("runner_up", Ty::Completion),
            Out::data("agreement", Type::Float.optional()),
            Out::data("considered", Type::Int),
            Out::data("reason", Type::Str.optional()),
            Out::data("verdict", Type::Str.optional()),
        ]
    },
    labels: no_labels,
    lower: |cx, f| Box::new(Select::lower(cx, f)),
};

/// How to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    First,
    FirstPassing,
    BestScore,
    CheapestPassing,
    Fastest,
    Vote,
}

/// What to do when nothing can be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenNone {
    Outcome,
    Best,
    Fail,
}

/// What decides between equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tie {
    Score,
    Cost,
    Latency,
    Index,
}

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Select {
    pub(crate) from: Vec<Ref>,
    method: Method,
    require_passing: Option<bool>,
    /// Votes are compared as JSON values.
    vote_json: bool,
    min_agreement: f64,
    ties: Vec<Tie>,
    when_none: WhenNone,
}

impl Select {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let from =
            f.require(&mut cx.r, "from").map(|n| Ref::lower_list(cx, n, &f.at("from"))).unwrap_or_default();
        let method = f.take("method").map_or(Method::BestScore, |n| method(cx, n, &f.at("method")));
        let require_passing =
            f.take("require_passing").and_then(|n| cx.r.boolean(n, &f.at("require_passing")));
        let (mut vote_json, mut min_agreement) = (false, 0.5);
        if let Some(n) = f.take("vote")
            && let Some(mut v) = cx.r.fields(n, &f.at("vote"))
        {
            if let Some(n) = v.take("key") {
                vote_json = cx.r.one_of(n, &v.at("key"), &["text", "json"]) == Some("json");
            }
            if let Some(n) = v.take("min_agreement") {
                min_agreement = cx.r.number(n, &v.at("min_agreement"), 0.0, 1.0).unwrap_or(0.5);
            }
            later(cx, &mut v, &["by", "weight"]);
            v.finish(&mut cx.r);
        }
        let ties = f
            .take("tie_break")
            .map_or_else(|| vec![Tie::Score, Tie::Cost, Tie::Index], |n| ties(cx, n, &f.at("tie_break")));
        let when_none = f.take("when_none").map_or(WhenNone::Outcome, |n| {
            match cx.r.one_of(n, &f.at("when_none"), &["outcome", "best", "fail"]) {
                Some("best") => WhenNone::Best,
                Some("fail") => WhenNone::Fail,
                _ => WhenNone::Outcome,
            }
        });
        later(cx, f, &["score"]);
        Select { from, method, require_passing, vote_json, min_agreement, ties, when_none }
    }

    /// Whether it asks the sources to agree.
    pub(crate) fn is_vote(&self) -> bool {
        self.method == Method::Vote
    }

    /// Whether something known to fail still becomes the choice when there is nothing better.
    pub(crate) fn takes_failed(&self) -> bool {
        self.when_none == WhenNone::Best || self.require_passing == Some(false)
    }

    fn run(&self, all: &[RowId], table: &Table) -> Resolved {
        let rows: Vec<(RowId, &Row)> = all.iter().filter_map(|id| Some((*id, table.row(*id)?))).collect();
        let checked = rows.iter().any(|(_, r)| r.verdict != Verdict::None);
        let mut fit = rows.clone();
        if self.require_passing.unwrap_or(checked) {
            fit.retain(|(_, r)| r.verdict != Verdict::Failed);
            // A stable sort: within a verdict the order of the sources stays.
            fit.sort_by_key(|(_, r)| r.verdict == Verdict::Unverified);
        }
        let (picked, agreement) = self.pick(&fit);
        let considered = rows.len();
        let choice = match picked {
            Some(id) => Choice::of(id, &fit, format!("{} of {considered}", self.method.as_str())),
            None => self.nothing(&rows, fit.is_empty()),
        };
        let verdict = choice.completion.and_then(|id| table.row(id)).map(|r| r.verdict.as_str());
        let outputs = vec![
            Value::row(choice.completion),
            Value::row(choice.runner_up),
            Value::float(agreement),
            Value::count(considered),
            choice.note.as_deref().map_or(Value::Nothing, |n| Value::Text(n.into())),
            verdict.map_or(Value::Nothing, |v| Value::Text(v.into())),
        ];
        Resolved { note: choice.note, ..Resolved::with(choice.outcome, outputs) }
    }

    fn pick(&self, fit: &[(RowId, &Row)]) -> (Option<RowId>, Option<f64>) {
        let passing = |r: &Row| r.verdict != Verdict::Unverified;
        let any_passing = fit.iter().any(|(_, r)| passing(r));
        let best_by = |key: fn(&Row) -> f64, only_passing: bool| {
            let list = fit.iter().filter(|(_, r)| !only_passing || !any_passing || passing(r));
            list.min_by(|(_, a), (_, b)| key(a).total_cmp(&key(b)).then_with(|| self.tie(a, b)))
                .map(|(id, _)| *id)
        };
        match self.method {
            // The order of `fit` already puts passing ones first.
            Method::First | Method::FirstPassing => (fit.first().map(|(id, _)| *id), None),
            Method::BestScore => (best_by(|r| -r.quality(), false), None),
            Method::CheapestPassing => (best_by(Row::cost, true), None),
            Method::Fastest => (best_by(|r| r.total_ms, false), None),
            Method::Vote => self.vote(fit),
        }
    }

    fn tie(&self, a: &Row, b: &Row) -> Ordering {
        self.ties.iter().fold(Ordering::Equal, |o, t| {
            o.then_with(|| match t {
                Tie::Score => b.quality().total_cmp(&a.quality()),
                Tie::Cost => a.cost().total_cmp(&b.cost()),
                Tie::Latency => a.total_ms.total_cmp(&b.total_ms),
                // `min_by` keeps the first of equals.
                Tie::Index => Ordering::Equal,
            })
        })
    }

    fn vote(&self, fit: &[(RowId, &Row)]) -> (Option<RowId>, Option<f64>) {
        let mut groups: Vec<(String, usize, usize)> = Vec::new();
        for (i, (_, row)) in fit.iter().enumerate() {
            let key = self.key(row);
            match groups.iter_mut().find(|(k, _, _)| *k == key) {
                Some((_, n, _)) => *n = n.saturating_add(1),
                None => groups.push((key, 1, i)),
            }
        }
        // The largest group; of equals the one that stands first.
        let largest = groups.iter().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let Some((_, votes, first)) = largest else { return (None, None) };
        let agreement = *votes as f64 / fit.len() as f64;
        let enough = agreement >= self.min_agreement && (*votes > 1 || fit.len() == 1);
        let id = fit.get(*first).map(|(id, _)| *id);
        (id.filter(|_| enough), Some(agreement))
    }

    fn key(&self, row: &Row) -> String {
        let text = row.completion.text();
        if self.vote_json
            && let Ok(v) = serde_json::from_str::<Json>(text)
        {
            return crate::plan::sorted(&v).to_string();
        }
        text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn nothing(&self, rows: &[(RowId, &Row)], empty: bool) -> Choice {
        let best = rows
            .iter()
            .min_by(|(_, a), (_, b)| {
                a.weight().total_cmp(&b.weight()).then(b.quality().total_cmp(&a.quality()))
            })
            .map(|(id, _)| *id);
        match (self.when_none, best) {
            (WhenNone::Best, Some(id)) => {
                Choice::of(id, rows, "nothing passed; the best of the rest".to_owned())
            }
            (WhenNone::Fail | WhenNone::Best, _) => {
                Choice::none(Outcome::Error, Some("there is nothing to select"))
            }
            _ if empty => Choice::none(Outcome::None, None),
            _ => Choice::none(Outcome::NoConsensus, Some("too few sources agree")),
        }
    }
}

impl Spec for Select {
    fn canonical(&self) -> Json {
        let from: Vec<&str> = self.from.iter().map(Ref::canonical).collect();
        json!({
            "from": from, "method": self.method.as_str(), "require_passing": self.require_passing,
            "vote": [self.vote_json.to_string(), self.min_agreement.to_string()],
            "ties": format!("{:?}", self.ties), "when_none": format!("{:?}", self.when_none),
        })
    }

    fn reads(&self) -> Vec<Read<'_>> {
        self.from.iter().map(|reference| Read { reference, may_be_absent: true }).collect()
    }

    fn possible(&self) -> Option<OutcomeSet> {
        let mut set = OutcomeSet::of(&[Outcome::Selected]);
        if self.when_none == WhenNone::Outcome {
            set = set.with(Outcome::None);
            if self.method == Method::Vote {
                set = set.with(Outcome::NoConsensus);
            }
        }
        Some(set)
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        let rows = at.rows(&self.from);
        Begun::done(self.run(&rows, &at.host.table()))
    }
}

/// What was picked, and why.
struct Choice {
    outcome: Outcome,
    completion: Option<RowId>,
    runner_up: Option<RowId>,
    note: Option<String>,
}

impl Choice {
    fn of(id: RowId, among: &[(RowId, &Row)], note: String) -> Self {
        let runner_up = among.iter().map(|(i, _)| *i).find(|i| *i != id);
        Choice { outcome: Outcome::Selected, completion: Some(id), runner_up, note: Some(note) }
    }

    fn none(outcome: Outcome, note: Option<&str>) -> Self {
        Choice { outcome, completion: None, runner_up: None, note: note.map(str::to_owned) }
    }
}

/// The methods by their names in the file.
const METHODS: [(&str, Method); 6] = [
    ("first", Method::First),
    ("first_passing", Method::FirstPassing),
    ("best_score", Method::BestScore),
    ("vote", Method::Vote),
    ("cheapest_passing", Method::CheapestPassing),
    ("fastest", Method::Fastest),
];

impl Method {
    /// As the file names it.
    fn as_str(self) -> &'static str {
        METHODS.iter().find(|(_, m)| *m == self).map_or("best_score", |(name, _)| name)
    }
}

fn method(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Method {
    if n.as_str() == Some("pairwise") {
        cx.unsupported(n.span, "method: pairwise");
        return Method::BestScore;
    }
    let names = METHODS.map(|(name, _)| name);
    let given = cx.r.one_of(n, path, &names);
    METHODS.iter().find(|(name, _)| Some(*name) == given).map_or(Method::BestScore, |(_, m)| *m)
}

fn ties(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Vec<Tie> {
    let Some(list) = cx.r.list(n, path) else { return Vec::new() };
    list.iter()
        .filter_map(|n| cx.r.one_of(n, path, &["score", "cost", "latency", "index"]))
        .map(|s| match s {
            "score" => Tie::Score,
            "cost" => Tie::Cost,
            "latency" => Tie::Latency,
            _ => Tie::Index,
        })
        .collect()
}

//! `select`: picks one completion. Deterministic given its inputs.

use super::{Begun, Fault, NodeResult, NodeSpec, NodeType, Out, Read, Resolved, Spec, of_method};
use crate::ending::{Class, RunFailure};
use crate::load::{Cx, Expr};
use crate::outcome::{Outcome, OutcomeSet};
use crate::reference::Ref;
use crate::run::{At, Row, RowId};
use crate::value::{Ty, VERDICTS, Value};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use std::cmp::Ordering;
use std::time::Duration;
use types::Verdict;
use types::doc::{self, Fields};
use types::expr::Type;

mod vote;

use vote::{Key, number, vote_key};

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Selected, Outcome::NoConsensus, Outcome::None],
    words: &["selected", "no_consensus", "none", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(5),
    goes_by_checks: true,
    outputs: |_| {
        vec![
            Out::new("completion", Ty::Completion),
            Out::new("runner_up", Ty::Completion),
            Out::data("agreement", Type::Float.optional()),
            Out::data("considered", Type::Int),
            Out::data("reason", Type::Str.optional()),
            Out::data("verdict", Type::Enum(VERDICTS).optional()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Select(Box::new(Select::lower(cx, f))))
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
    /// As a judge that compared them two by two says.
    Pairwise,
}

/// What to do when nothing can be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum WhenNone {
    Outcome,
    Best,
    Fail,
}

/// What decides between equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
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
    /// What completions are ranked by; `None`: their quality.
    score: Option<Expr>,
    key: Key,
    /// What a vote counts; `None`: 1.
    weight: Option<Expr>,
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
        let score = f.take("score").and_then(|n| number(cx, n, &f.at("score")));
        let (mut key, mut weight, mut min_agreement) = (Key::Text, None, 0.5);
        let vote = f.take("vote");
        of_method(cx, (vote, f.at("vote")), "vote", Some(method.as_str()));
        if let Some(n) = vote
            && let Some(mut v) = cx.r.fields(n, &f.at("vote"))
        {
            key = vote_key(cx, &mut v);
            weight = v.take("weight").and_then(|n| number(cx, n, &v.at("weight")));
            if let Some(n) = v.take("min_agreement") {
                min_agreement = cx.r.number(n, &v.at("min_agreement"), 0.0, 1.0).unwrap_or(0.5);
            }
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
        Select { from, method, require_passing, score, key, weight, min_agreement, ties, when_none }
    }

    /// Whether it asks the sources to agree.
    pub(crate) fn is_vote(&self) -> bool {
        self.method == Method::Vote
    }

    /// Whether something known to fail still becomes the choice when there is nothing better.
    pub(crate) fn takes_failed(&self) -> bool {
        self.when_none == WhenNone::Best || self.require_passing == Some(false)
    }

    /// What expressions say of a completion.
    fn weigh(&self, at: &At<'_>, id: RowId) -> Result<Weighed, Fault> {
        let json = |e: &Expr| -> Result<Json, types::expr::Error> {
            let completion = at.host.table().json(id);
            let value = at.frame.eval_with(e, at.host, &[("completion", completion)])?;
            Ok(value.json(&at.host.table()))
        };
        let number = |e: &Option<Expr>| -> Result<Option<f64>, Fault> {
            let Some(e) = e else { return Ok(None) };
            let value = json(e)?;
            let found = value.as_f64();
            let wrong = || {
                RunFailure::new(Class::Expression, "type", format!("`{}` is {value}, no number", e.source()))
            };
            Ok(Some(found.ok_or_else(wrong)?))
        };
        let key = match &self.key {
            Key::Expr(e) if self.is_vote() => Some(crate::canonical::sorted(&json(e)?).to_string()),
            _ => None,
        };
        let weight = if self.is_vote() { number(&self.weight)? } else { None };
        Ok(Weighed { id, score: number(&self.score)?, key, weight: weight.unwrap_or(1.0) })
    }

    fn run(&self, all: &[Weighed], at: &At<'_>) -> NodeResult {
        let table = at.host.table();
        let rows = all.iter().filter_map(|w| Some(Fit { weighed: w, row: table.row(w.id)?, place: 0 }));
        // What was stopped before its end is nobody's choice.
        let rows: Vec<Fit<'_>> = rows.filter(|f| !f.row.doomed).collect();
        let checked = rows.iter().any(|f| f.row.verdict != Verdict::None);
        let mut fit = rows.clone();
        let must_pass = self.require_passing.unwrap_or(checked);
        if must_pass {
            fit.retain(|f| f.row.verdict != Verdict::Failed);
        }
        if must_pass || self.method.prefers_passing() {
            // A stable sort: within a verdict the order of the sources stays.
            fit.sort_by_key(Fit::rank);
        }
        for (place, f) in fit.iter_mut().enumerate() {
            f.place = place;
        }
        let (picked, agreement) = self.pick(&fit);
        let considered = rows.len();
        let choice = match picked {
            Some(id) => {
                let note = format!("{} of {considered}", self.method.as_str());
                Choice::of(id, self.second(id, &fit), note)
            }
            None => self
                .nothing(&rows, fit.is_empty(), at)
                .map_err(|f| RunFailure { findings: table.worst_findings(), ..f })?,
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
        Ok(Resolved { note: choice.note, ..Resolved::with(choice.outcome, outputs) })
    }

    fn pick(&self, fit: &[Fit<'_>]) -> (Option<RowId>, Option<f64>) {
        let least = fit.iter().map(Fit::rank).min();
        let best_by = |key: fn(&Fit<'_>) -> f64, only_passing: bool| {
            let list = fit.iter().filter(|f| !only_passing || Some(f.rank()) == least);
            list.min_by(|a, b| key(a).total_cmp(&key(b)).then_with(|| self.tie(a, b))).map(Fit::id)
        };
        match self.method {
            // The order of `fit` already puts passing ones first.
            Method::First | Method::FirstPassing => (fit.first().map(Fit::id), None),
            Method::BestScore => (best_by(|f| -score(f), false), None),
            Method::CheapestPassing => (best_by(|f| f.row.cost(), true), None),
            Method::Fastest => (best_by(|f| f.row.total_ms, false), None),
            // What no judge has seen comes behind everything that one has.
            Method::Pairwise => (best_by(|f| -f.row.judge.unwrap_or(-1.0), false), None),
            Method::Vote => self.vote(fit),
        }
    }

    /// What would be picked without the first choice and those that say the same.
    fn second(&self, first: RowId, fit: &[Fit<'_>]) -> Option<RowId> {
        let key = fit.iter().find(|f| f.id() == first).filter(|_| self.is_vote()).map(|f| self.key(f));
        let others: Vec<Fit<'_>> = fit
            .iter()
            .filter(|f| f.id() != first && key.as_ref().is_none_or(|k| *k != self.key(f)))
            .copied()
            .collect();
        self.pick(&others).0.or_else(|| others.first().map(Fit::id))
    }

    /// Which of two equals comes first, as `tie_break` says; where that says nothing, the one that stands first does.
    fn tie(&self, a: &Fit<'_>, b: &Fit<'_>) -> Ordering {
        self.ties.iter().fold(Ordering::Equal, |o, t| {
            o.then_with(|| match t {
                Tie::Score => score(b).total_cmp(&score(a)),
                Tie::Cost => a.row.cost().total_cmp(&b.row.cost()),
                Tie::Latency => a.row.total_ms.total_cmp(&b.row.total_ms),
                Tie::Index => a.place.cmp(&b.place),
            })
        })
    }

    /// What becomes of sources of which none can be picked; `empty`: none of them could have been.
    fn nothing(&self, rows: &[Fit<'_>], empty: bool, at: &At<'_>) -> Result<Choice, RunFailure> {
        let best = rows
            .iter()
            .min_by(|a, b| a.row.weight().total_cmp(&b.row.weight()).then(score(b).total_cmp(&score(a))))
            .map(Fit::id);
        match (self.when_none, best) {
            (WhenNone::Best, Some(id)) => {
                let other = rows.iter().map(Fit::id).find(|o| *o != id);
                Ok(Choice::of(id, other, "nothing passed; the best of the rest".to_owned()))
            }
            (WhenNone::Fail | WhenNone::Best, None) => {
                Err(at.host.no_answer(at.frame, "there is no answer to choose from"))
            }
            (WhenNone::Fail, _) if empty => Err(at.host.no_answer(at.frame, "no answer passed its checks")),
            (WhenNone::Fail, _) => Err(RunFailure::no_consensus()),
            _ if empty => Ok(Choice::none(Outcome::None, None)),
            _ => Ok(Choice::none(Outcome::NoConsensus, Some(RunFailure::no_consensus().message))),
        }
    }
}

/// A completion with what expressions say of it.
struct Weighed {
    id: RowId,
    score: Option<f64>,
    key: Option<String>,
    weight: f64,
}

/// A completion that may be picked.
#[derive(Clone, Copy)]
struct Fit<'a> {
    weighed: &'a Weighed,
    row: &'a Row,
    /// Where it stands among them, from 0: those that rank lower by their verdict stand behind, where that counts.
    place: usize,
}

impl Fit<'_> {
    fn id(&self) -> RowId {
        self.weighed.id
    }

    /// Its verdict as a rank: what passed, or has nothing against it, then what could not be checked, then what failed.
    fn rank(&self) -> u8 {
        match self.row.verdict {
            Verdict::Passed | Verdict::None => 0,
            Verdict::Unverified => 1,
            Verdict::Failed => 2,
        }
    }
}

fn score(f: &Fit<'_>) -> f64 {
    f.weighed.score.unwrap_or_else(|| f.row.quality())
}

impl Spec for Select {
    fn canonical(&self) -> Json {
        let from: Vec<&str> = self.from.iter().map(Ref::canonical).collect();
        json!({
            "from": from, "method": self.method.as_str(), "require_passing": self.require_passing,
            "score": self.score.as_ref().map(Expr::source),
            "vote": [self.key.canonical(), self.min_agreement.to_string()],
            "weight": self.weight.as_ref().map(Expr::source),
            "ties": self.ties, "when_none": self.when_none,
        })
    }

    fn given(&self, _: &mut Map<String, Json>) -> Result<Outcome, String> {
        // No file can hold the completion that is chosen.
        Ok(Outcome::None)
    }

    fn reads(&self) -> Vec<Read<'_>> {
        self.from.iter().map(|reference| Read { reference, may_be_absent: true }).collect()
    }

    fn exprs(&self) -> Vec<&Expr> {
        let key = match &self.key {
            Key::Expr(e) => Some(e),
            Key::Text | Key::Json => None,
        };
        self.score.iter().chain(&self.weight).chain(key).collect()
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
        Begun::now(|| {
            let rows = at.rows(&self.from);
            let weighed: Result<Vec<_>, Fault> = rows.into_iter().map(|id| self.weigh(&at, id)).collect();
            self.run(&weighed?, &at)
        })
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
    fn of(id: RowId, runner_up: Option<RowId>, note: String) -> Self {
        Choice { outcome: Outcome::Selected, completion: Some(id), runner_up, note: Some(note) }
    }

    fn none(outcome: Outcome, note: Option<String>) -> Self {
        Choice { outcome, completion: None, runner_up: None, note }
    }
}

/// The methods by their names in the file.
const METHODS: [(&str, Method); 7] = [
    ("first", Method::First),
    ("first_passing", Method::FirstPassing),
    ("best_score", Method::BestScore),
    ("vote", Method::Vote),
    ("cheapest_passing", Method::CheapestPassing),
    ("fastest", Method::Fastest),
    ("pairwise", Method::Pairwise),
];

impl Method {
    /// Whether what passed comes first even where what failed may be chosen.
    fn prefers_passing(self) -> bool {
        matches!(self, Method::FirstPassing | Method::CheapestPassing)
    }

    /// As the file names it.
    fn as_str(self) -> &'static str {
        METHODS.iter().find(|(_, m)| *m == self).map_or("best_score", |(name, _)| name)
    }
}

fn method(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Method {
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

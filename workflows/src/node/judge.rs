//! `judge`: a model scores completions against a rubric or a reference, or compares them two by two.

use super::{Begun, Fault, NodeResult, NodeSpec, NodeType, Out, Read, Resolved, Spec, count};
use crate::ending::{Class, RunFailure};
use crate::load::{Cx, Expr, Source, Template};
use crate::outcome::{Outcome, OutcomeSet};
use crate::reference::Ref;
use crate::route::Route;
use crate::run::{At, RowId, Table};
use crate::value::{self, Ty};
use crate::world::Failure;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use types::diagnostic::suggestion;
use types::doc::{self, Fields};
use types::expr::Type;

mod asking;
mod calibration;
mod pairs;
mod rubric;
mod strength;

use asking::Asking;
use rubric::Rubric;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Scored, Outcome::Passed, Outcome::Failed, Outcome::Abstained],
    words: &["scored", "passed", "failed", "abstained", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(30),
    retries: true,
    goes_by_checks: true,
    outputs: |_| {
        vec![
            Out::new("best", Ty::Completion),
            Out::data("best_score", Type::Float.optional()),
            Out::data("abstained", Type::Bool),
            Out::data("scores", Type::Any.list()),
            Out::data("ranking", Type::Str.list()),
            Out::data("agreement", Type::Float.optional()),
            Out::data("tie_rate", Type::Float.optional()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Judge(Box::new(Judge::lower(cx, f))))
};

/// How answers are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Rubric,
    Pairwise,
    Reference,
}

/// How scores of several samples become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Aggregate {
    Median,
    Mean,
    Min,
}

/// Whether a judge may be of the family of a model that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Independent {
    Require,
    Prefer,
    Any,
}

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pub(crate) input: Vec<Ref>,
    route: Arc<Route>,
    mode: Mode,
    rubric: Rubric,
    reference: Option<Source>,
    independent: Independent,
    pub(crate) samples: u32,
    /// Most answers that come to it, once the graph around it is known.
    answers: u32,
    /// Pairs are asked about in both orders, not in one by draw.
    both_orders: bool,
    aggregate: Aggregate,
    threshold: Option<f64>,
    /// A constant of the file: see [`calibration`].
    calibration: Option<Ref>,
}

/// An answer to be judged, as it stood at the start.
struct Judged {
    id: RowId,
    text: String,
    model: Arc<str>,
    family: String,
}

/// How one answer stands.
#[derive(Clone, Debug)]
struct Graded {
    id: RowId,
    score: f64,
    criteria: Value,
    rationale: String,
}

/// How all stand. Empty: the judge abstains.
#[derive(Debug, Default)]
struct Grades {
    each: Vec<Graded>,
    /// How far samples, or orders, say the same, 0..=1.
    agreement: Option<f64>,
    tie_rate: Option<f64>,
    note: Option<String>,
}

impl Judge {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let span = f.span;
        let input =
            f.require(&mut cx.r, "input").map(|n| Ref::lower_list(cx, n, &f.at("input"))).unwrap_or_default();
        let mode = f.take("mode").map_or(Mode::Rubric, |n| {
            match cx.r.one_of(n, &f.at("mode"), &["rubric", "pairwise", "reference"]) {
                Some("pairwise") => Mode::Pairwise,
                Some("reference") => Mode::Reference,
                _ => Mode::Rubric,
            }
        });
        let rubric = Rubric::lower(cx, f.take("rubric"), &f.at("rubric"), mode == Mode::Reference);
        let reference = f.take("reference");
        if let (Some(n), true) = (reference, mode != Mode::Reference) {
            cx.r.error("103", n.span, "`reference` without `mode: reference`");
        }
        if reference.is_none() && mode == Mode::Reference {
            cx.r.error("102", span, "`reference` is missing").expected =
                Some("a reference or a template with what is right".to_owned());
        }
        let reference = reference.and_then(|n| Source::lower(cx, n, &f.at("reference")));
        let route = Route::lower_or_pool(cx, f, "judge");
        let independent = f.take("independent").map_or(Independent::Prefer, |n| {
            match cx.r.one_of(n, &f.at("independent"), &["require", "prefer", "any"]) {
                Some("require") => Independent::Require,
                Some("any") => Independent::Any,
                _ => Independent::Prefer,
            }
        });
        let samples = count(cx, f, "samples", (1, 5), 1);
        let order = f.take("order").map(|n| (cx.r.one_of(n, &f.at("order"), &["both", "random"]), n.span));
        if let (Some((_, span)), true) = (order, mode != Mode::Pairwise) {
            cx.r.error("103", span, "`order` without `mode: pairwise`");
        }
        let aggregate = f.take("aggregate").map_or(Aggregate::Median, |n| {
            match cx.r.one_of(n, &f.at("aggregate"), &["median", "mean", "min"]) {
                Some("mean") => Aggregate::Mean,
                Some("min") => Aggregate::Min,
                _ => Aggregate::Median,
            }
        });
        let threshold = f.take("threshold").and_then(|n| cx.r.number(n, &f.at("threshold"), 0.0, 1.0));
        let calibration = f.take("calibration").and_then(|n| calibrated(cx, n, &f.at("calibration")));
        Judge {
            input,
            route: Arc::new(route),
            mode,
            rubric,
            reference,
            independent,
            samples,
            answers: 1,
            both_orders: order.is_none_or(|(o, _)| o != Some("random")),
            aggregate,
            threshold,
            calibration,
        }
    }

    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    /// Says how many answers may come.
    pub(crate) const fn expect(&mut self, answers: u32) {
        self.answers = answers;
    }

    async fn run(&self, asking: Asking<'_>, all: Vec<Judged>, table: Option<Vec<f64>>) -> NodeResult {
        let mut grades = match self.mode {
            // One alone is neither better nor worse.
            Mode::Pairwise if all.len() > 1 => self.compare(&asking, &all).await?,
            Mode::Pairwise => Grades::default(),
            Mode::Rubric | Mode::Reference => self.grade(&asking, &all).await?,
        };
        if let Some(table) = table {
            grades.each.iter_mut().for_each(|g| g.score = calibration::accepted(&table, g.score));
        }
        Ok(self.finish(grades, &mut asking.at.host.table()))
    }

    /// Grades every answer by itself, all at once.
    async fn grade(&self, asking: &Asking<'_>, all: &[Judged]) -> Result<Grades, Failure> {
        let system = self.rubric.system(asking.instructions.as_deref(), asking.reference.is_some());
        let (system, reference) = (&system, asking.reference.as_deref());
        let each = (0_u32..).zip(all).map(|(n, judged)| async move {
            let first = n.saturating_mul(self.samples);
            let samples = (0..self.samples).map(|s| {
                let user = self.rubric.user(&asking.conversation, reference, &judged.text);
                let question = (system.clone(), user);
                let read = |v: &Value| self.rubric.read(v);
                async move {
                    self.ask(asking, first.saturating_add(s), question, self.rubric.schema(), &read).await
                }
            });
            (judged.id, join_all(samples).await)
        });
        let (mut grades, mut spread, mut failure) = (Grades::default(), Vec::new(), None);
        for (id, samples) in join_all(each).await {
            let mut given = Vec::new();
            for said in samples {
                match said {
                    Ok(verdict) => given.extend(verdict),
                    Err(e) => failure = Some(e),
                }
            }
            let scores: Vec<f64> = given.iter().map(|v| v.score).collect();
            let (low, high) =
                scores.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), s| (l.min(*s), h.max(*s)));
            let Some(score) = self.one(scores) else { continue };
            spread.push(1.0 - (high - low));
            // What is nearest to what counts gives its reasons.
            let far = |v: &&rubric::Verdict| (v.score - score).abs();
            let nearest = given.iter().min_by(|a, b| far(a).total_cmp(&far(b)));
            let (criteria, rationale) =
                nearest.map(|v| (v.criteria.clone(), v.rationale.clone())).unwrap_or_default();
            grades.each.push(Graded { id, score, criteria, rationale });
        }
        if self.samples > 1 && !spread.is_empty() {
            grades.agreement = Some(spread.iter().sum::<f64>() / spread.len() as f64);
        }
        match failure {
            Some(e) if grades.each.is_empty() => Err(e),
            _ => Ok(grades),
        }
    }

    fn one(&self, mut given: Vec<f64>) -> Option<f64> {
        given.sort_by(f64::total_cmp);
        let n = given.len();
        match self.aggregate {
            _ if n == 0 => None,
            Aggregate::Min => given.first().copied(),
            Aggregate::Mean => Some(given.iter().sum::<f64>() / n as f64),
            Aggregate::Median => {
                let (low, high) = (given.get(n.saturating_sub(1) / 2)?, given.get(n / 2)?);
                Some(f64::midpoint(*low, *high))
            }
        }
    }

    /// What the best score comes to; none: the judge abstains.
    fn outcome(&self, best: Option<f64>) -> Outcome {
        match (best, self.threshold) {
            (None, _) => Outcome::Abstained,
            (Some(s), Some(t)) if s >= t => Outcome::Passed,
            (Some(_), Some(_)) => Outcome::Failed,
            (Some(_), None) => Outcome::Scored,
        }
    }

    /// Writes the scores into the completions.
    fn finish(&self, grades: Grades, table: &mut Table) -> Resolved {
        for g in &grades.each {
            if let Some(row) = table.row_mut(g.id) {
                (row.judge, row.agreement) = (Some(g.score), grades.agreement);
            }
        }
        let mut ranked: Vec<&Graded> = grades.each.iter().collect();
        // A stable sort: of equals the one that stands first comes first.
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        let best = ranked.first().map(|g| (g.id, g.score));
        let outcome = self.outcome(best.map(|(_, score)| score));
        let scores: Vec<Value> = grades
            .each
            .iter()
            .map(|g| {
                json!({"completion_id": table.name(g.id), "score": g.score, "criteria": g.criteria,
                    "rationale": g.rationale})
            })
            .collect();
        let ranking: Vec<String> = ranked.iter().filter_map(|g| table.name(g.id)).collect();
        let outputs = vec![
            value::Value::row(best.map(|(id, _)| id)),
            value::Value::float(best.map(|(_, s)| s)),
            value::Value::Bool(best.is_none()),
            value::Value::list(&scores),
            value::Value::list(&ranking),
            value::Value::float(grades.agreement),
            value::Value::float(grades.tie_rate),
        ];
        let score = best.map(|(_, s)| format!("score {s:.2}"));
        let note: Vec<String> = score.into_iter().chain(grades.note).collect();
        let note = (!note.is_empty()).then(|| note.join("; "));
        Resolved { note, ..Resolved::with(outcome, outputs) }
    }

    /// The answers as they stand now.
    fn judged(&self, at: &At<'_>) -> Vec<Judged> {
        let rows = at.rows(&self.input);
        let table = at.host.table();
        let each = rows.into_iter().filter_map(|id| {
            let row = table.row(id)?;
            let (model, family) = (row.model.id.clone(), row.model.family.clone());
            Some(Judged { id, text: row.completion.text().to_owned(), model, family })
        });
        each.collect()
    }

    /// The calibration as it stands: policies may set constants.
    fn table(&self, at: &At<'_>) -> Result<Option<Vec<f64>>, Fault> {
        let Some(r) = &self.calibration else { return Ok(None) };
        let value = at.value(r).json(&at.host.table());
        let numbers: Option<Vec<f64>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        match numbers.filter(|n| n.len() > 1) {
            Some(table) => Ok(Some(table)),
            None => {
                let message = format!("`{}` is no list of at least two numbers", r.canonical());
                Err(RunFailure::new(Class::Expression, "type", message).into())
            }
        }
    }
}

impl Spec for Judge {
    fn canonical(&self) -> Value {
        let input: Vec<&str> = self.input.iter().map(Ref::canonical).collect();
        json!({
            "input": input, "route": self.route.canonical(), "mode": self.mode,
            "rubric": self.rubric.canonical(), "reference": self.reference.as_ref().map(Source::source),
            "independent": self.independent, "samples": self.samples,
            "both_orders": self.both_orders, "aggregate": self.aggregate,
            "threshold": self.threshold, "calibration": self.calibration.as_ref().map(Ref::canonical),
        })
    }

    fn given(&self, outputs: &mut Map<String, Value>) -> Result<Outcome, String> {
        let score = outputs.get("best_score").and_then(Value::as_f64);
        if score.is_none() {
            outputs.insert("abstained".to_owned(), Value::Bool(true));
        }
        Ok(self.outcome(score))
    }

    fn reads(&self) -> Vec<Read<'_>> {
        let own = self.input.iter().map(|reference| Read { reference, may_be_absent: false });
        own.chain(self.route.reads()).chain(self.reference.as_ref().and_then(Source::reads)).collect()
    }

    fn exprs(&self) -> Vec<&Expr> {
        let instructions = self.rubric.instructions.iter().flat_map(Template::exprs);
        instructions.chain(self.reference.iter().flat_map(Source::exprs)).collect()
    }

    fn possible(&self) -> Option<OutcomeSet> {
        Some(OutcomeSet::of(match self.threshold {
            Some(_) => &[Outcome::Passed, Outcome::Failed, Outcome::Abstained],
            None => &[Outcome::Scored, Outcome::Abstained],
        }))
    }

    fn routes(&self) -> Vec<&Route> {
        vec![&self.route]
    }

    fn max_calls(&self) -> u32 {
        let questions = match self.mode {
            Mode::Rubric | Mode::Reference => self.answers,
            Mode::Pairwise => pairs::most(self.answers).saturating_mul(if self.both_orders { 2 } else { 1 }),
        };
        // A verdict that cannot be read is asked for once more.
        questions.saturating_mul(self.samples).saturating_mul(2)
    }

    fn sure_calls(&self) -> u32 {
        match self.mode {
            Mode::Rubric | Mode::Reference => self.samples,
            // Of a single answer there is no pair.
            Mode::Pairwise => 0,
        }
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        let all = self.judged(&at);
        let table = match self.table(&at) {
            Ok(table) => table,
            Err(e) => return Begun::Done(Err(e)),
        };
        Begun::waits(async move {
            let asking = self.prepare(&at, &all)?;
            self.run(asking, all, table).await
        })
    }
}

/// The constant of that name, which holds the table.
fn calibrated(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<Ref> {
    let name = cx.r.string(n, path)?;
    let is_list = |r: &Ref| matches!(&r.ty, Ty::Data(Type::List(of)) if matches!(**of, Type::Int | Type::Float | Type::Any));
    let found = Ref::quiet(cx, &format!("vars.{name}"), n.span).filter(is_list);
    if found.is_none() {
        let hint = suggestion(&name, cx.given("vars").iter().map(|(n, _)| n.as_str()));
        let d = cx.r.error("301", n.span, format!("`vars` has no list of numbers `{name}`"));
        d.expected = Some(
            "a constant such as `[0.05, 0.3, 0.9]`: how probably people accept an answer of raw score 0, ½ and 1"
                .to_owned(),
        );
        d.hint = Some(hint);
        path.clone_into(&mut d.field);
    }
    found
}

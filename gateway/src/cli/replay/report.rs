//! What came of a replay: a table, JSON, a plot.

use super::off_policy::Estimate;
use super::pack::{Pack, mean};
use super::plan::Protocol;
use super::play::Made;
use super::plot::{self, Plot, Point};
use super::reference::{Fixed, References};
use crate::cli::out::Out;
use serde_json::{Value, json};

/// A number over runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    mean: f64,
    /// Standard deviation between runs.
    sd: f64,
}

impl Spread {
    fn of(xs: &[f64]) -> Self {
        let m = mean(xs.iter().copied());
        Spread { mean: m, sd: mean(xs.iter().map(|x| (x - m).powi(2))).sqrt() }
    }
}

/// What runs of one protocol and λ came to.
#[derive(Clone, Debug)]
pub(super) struct Row {
    protocol: Protocol,
    lambda: f64,
    queries: usize,
    reward: Spread,
    quality: Spread,
    cost: Spread,
    /// Reward of the last 40 % of the stream.
    tail: Spread,
    references: References,
    /// Median and 99th percentile of a decision, microseconds.
    spent_us: (f64, f64),
}

impl Row {
    pub(super) fn of(
        protocol: Protocol,
        lambda: f64,
        queries: usize,
        references: References,
        runs: &[Vec<Made>],
    ) -> Self {
        let over = |f: &dyn Fn(&[Made]) -> f64| Spread::of(&runs.iter().map(|r| f(r)).collect::<Vec<_>>());
        let mut spent: Vec<f64> = runs.iter().flatten().map(|m| m.spent_us).collect();
        spent.sort_by(f64::total_cmp);
        let at = |share: f64| spent.get((share * spent.len() as f64) as usize).copied().unwrap_or(0.0);
        let last = |r: &[Made]| {
            let from = (0.6 * r.len() as f64) as usize;
            mean(r.iter().skip(from).map(|m| m.reward))
        };
        Row {
            protocol,
            lambda,
            queries,
            reward: over(&|r| mean(r.iter().map(|m| m.reward))),
            quality: over(&|r| mean(r.iter().map(|m| m.quality))),
            cost: over(&|r| mean(r.iter().map(|m| m.cost.unwrap_or(0.0)))),
            tail: over(&last),
            references,
            spent_us: (at(0.5), at(0.99)),
        }
    }

    fn json(&self) -> Value {
        let r = &self.references;
        json!({
            "protocol": self.protocol.name(), "lambda": self.lambda, "queries": self.queries,
            "reward": self.reward.mean, "reward_sd": self.reward.sd,
            "quality": self.quality.mean, "cost_usd": self.cost.mean, "last_40_percent": self.tail.mean,
            "best_fixed": r.best_fixed.0, "best_fixed_reward": r.best_fixed.1,
            "cheapest": r.cheapest.0, "cheapest_reward": r.cheapest.1,
            "longer_first_reward": r.longer_first, "family_matrix_reward": r.family_matrix, "oracle_reward": r.oracle,
            "strongest": r.strongest.0, "strongest_quality": r.strongest.1, "strongest_cost_usd": r.strongest.2,
            "decision_us_p50": self.spent_us.0, "decision_us_p99": self.spent_us.1,
        })
    }
}

/// Everything.
pub(super) struct Report {
    name: String,
    rows: Vec<Row>,
    pub(super) estimates: Vec<Estimate>,
    /// One of each protocol.
    pub(super) plots: Vec<Plot>,
}

impl Report {
    pub(super) fn new(pack: &Pack) -> Self {
        Report { name: pack.name.clone(), rows: Vec::new(), estimates: Vec::new(), plots: Vec::new() }
    }

    pub(super) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Draws a protocol on its queries: they are the same for every λ. `pack` is what was served.
    pub(super) fn draw(&mut self, pack: &Pack, protocol: Protocol, queries: &[usize]) {
        let of = || self.rows.iter().filter(|r| r.protocol == protocol);
        let fixed = Fixed::new(pack, queries, 0.0);
        let named = |m: usize| {
            let (quality, cost) = fixed.point(queries, m);
            Point { label: pack.models.get(m).map(|x| x.name.clone()).unwrap_or_default(), cost, quality }
        };
        let oracle = |lambda: f64| {
            let best = |q: &usize| {
                let worth = |m: &usize| pack.reward(*q, *m, lambda).unwrap_or(f64::NEG_INFINITY);
                (0..pack.models.len())
                    .max_by(|a, b| worth(a).total_cmp(&worth(b)))
                    .and_then(|m| pack.row(*q, m))
            };
            let quality = mean(queries.iter().filter_map(|q| best(q).map(|r| r.quality)));
            let cost = mean(queries.iter().filter_map(|q| best(q).and_then(|r| r.cost)));
            Point { label: lambda.to_string(), cost, quality }
        };
        let mut router: Vec<Point> = of()
            .map(|r| Point {
                label: format!("lambda {}", r.lambda),
                cost: r.cost.mean,
                quality: r.quality.mean,
            })
            .collect();
        router.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        self.plots.push(Plot {
            title: format!("{}, {}: quality against cost", self.name, protocol.name()),
            fixed: (0..pack.models.len()).map(named).collect(),
            router,
            oracle: [1.0, 0.5, 0.2, 0.05, 0.01].map(oracle).to_vec(),
        });
    }

    /// Share of the strongest model's cost at which the router reaches its quality, by protocol.
    fn thrift(&self) -> Vec<(&'static str, Option<f64>, &References)> {
        let mut protocols: Vec<Protocol> = Vec::new();
        for r in &self.rows {
            if !protocols.contains(&r.protocol) {
                protocols.push(r.protocol);
            }
        }
        let of = |p: Protocol| {
            let rows = || self.rows.iter().filter(move |r| r.protocol == p);
            let first = rows().next()?;
            let (_, quality, cost) = &first.references.strongest;
            let enough = rows().filter(|r| r.quality.mean >= *quality).map(|r| r.cost.mean / cost.max(1e-12));
            let least = enough.fold(f64::INFINITY, f64::min);
            Some((p.name(), least.is_finite().then_some(least), &first.references))
        };
        protocols.into_iter().filter_map(of).collect()
    }

    pub(super) fn show(&self, out: &Out) {
        if out.json {
            let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
            let off = (!self.estimates.is_empty())
                .then(|| json!({"summary": self.summary(|_| true), "other_lambda": self.summary(|e| e.target != e.logged), "grade_b": self.summary(|e| e.grade == 'B'), "estimates": self.estimates}));
            out.value(&json!({"pack": self.name, "rows": rows, "off_policy": off}));
            return;
        }
        if !self.rows.is_empty() {
            self.table(out);
        }
        if !self.estimates.is_empty() {
            self.off_policy(out);
        }
    }

    fn table(&self, out: &Out) {
        let mut table = out.table(&[
            "protocol",
            "lambda",
            "reward",
            "sd",
            "quality",
            "cost USD",
            "last 40 %",
            "best fixed",
            "family matrix",
            "longer first",
            "oracle",
            "us p50",
        ]);
        for r in &self.rows {
            let x = &r.references;
            table.add_row([
                r.protocol.name().to_owned(),
                r.lambda.to_string(),
                format!("{:.4}", r.reward.mean),
                format!("{:.4}", r.reward.sd),
                format!("{:.4}", r.quality.mean),
                format!("{:.6}", r.cost.mean),
                format!("{:.4}", r.tail.mean),
                format!("{:.4}", x.best_fixed.1),
                x.family_matrix.map_or_else(|| "-".to_owned(), |f| format!("{f:.4}")),
                format!("{:.4}", x.longer_first),
                format!("{:.4}", x.oracle),
                format!("{:.0}", r.spent_us.0),
            ]);
        }
        out.line(&format!("{}: reward = quality - lambda x cost / cost_ref", self.name));
        out.line(&table.to_string());
        for (protocol, share, x) in self.thrift() {
            let (name, quality, cost) = &x.strongest;
            let text = share.map_or_else(
                || "not reached at these lambdas".to_owned(),
                |s| format!("reached at {:.0} % of its cost", s * 100.0),
            );
            out.line(&format!(
                "{protocol}: the quality of {name} alone ({quality:.4} for {cost:.6} USD) is {text}"
            ));
        }
        for plot in self.plots.iter().filter(|p| out.terminal || p.router.len() > 3) {
            out.line("");
            out.raw(&plot::characters(plot, 72, 18));
        }
    }

    /// Errors and coverage of the estimates that `of` picks.
    fn summary(&self, of: impl Fn(&Estimate) -> bool) -> Value {
        let picked: Vec<&Estimate> = self.estimates.iter().filter(|e| of(e)).collect();
        let errors: Vec<f64> = picked.iter().map(|e| e.estimate - e.truth).collect();
        let covered = picked.iter().filter(|e| (e.estimate - e.truth).abs() <= e.half).count() as f64;
        json!({
            "estimates": picked.len(),
            "rms_error": mean(errors.iter().map(|e| e * e)).sqrt(),
            "bias": mean(errors.iter().copied()),
            "covered": covered / picked.len().max(1) as f64,
            "mean_half_width": mean(picked.iter().map(|e| e.half)),
            "snips_rms_error": mean(picked.iter().map(|e| (e.snips - e.truth).powi(2))).sqrt(),
        })
    }

    fn off_policy(&self, out: &Out) {
        let mut table = out.table(&[
            "logged lambda",
            "target",
            "seed",
            "DR",
            "+-",
            "truth",
            "error",
            "SNIPS",
            "effective",
            "overlap",
            "grade",
        ]);
        for e in &self.estimates {
            table.add_row([
                e.logged.to_string(),
                e.target.to_string(),
                e.seed.to_string(),
                format!("{:.4}", e.estimate),
                format!("{:.4}", e.half),
                format!("{:.4}", e.truth),
                format!("{:+.4}", e.estimate - e.truth),
                format!("{:.4}", e.snips),
                format!("{:.0}", e.effective),
                format!("{:.3}", e.overlap),
                e.grade.to_string(),
            ]);
        }
        out.line(&table.to_string());
        for (what, s) in [
            ("all", self.summary(|_| true)),
            ("of another lambda", self.summary(|e| e.target != e.logged)),
            ("of grade B", self.summary(|e| e.grade == 'B')),
        ] {
            let number = |key: &str| s.get(key).and_then(Value::as_f64).unwrap_or(0.0);
            if number("estimates") < 1.0 {
                out.line(&format!("{}, {what}: no estimate", self.name));
                continue;
            }
            out.line(&format!(
                "{}, {what}: {} estimates, error {:.4} r.m.s. (bias {:+.4}, SNIPS {:.4}), 95 % intervals of +-{:.4} cover {:.1} %",
                self.name,
                number("estimates"),
                number("rms_error"),
                number("bias"),
                number("snips_rms_error"),
                number("mean_half_width"),
                100.0 * number("covered")
            ));
        }
    }
}

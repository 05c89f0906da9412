//! What came of a replay: a table, JSON, a plot.

use super::plot::{self, Plot};
use crate::cli::out::Out;
use engine::replay::{Accuracy, Corner, Estimate, Protocol, References, Summary, Table, corners};
use serde_json::{Value, json};

/// A summary as JSON.
fn json(s: &Summary) -> Value {
    let r = &s.references;
    json!({
        "protocol": s.protocol.name(), "lambda": s.lambda, "queries": s.queries,
        "reward": s.reward.mean, "reward_sd": s.reward.sd,
        "quality": s.quality.mean, "cost_usd": s.cost.mean, "last_40_percent": s.tail.mean,
        "best_fixed": r.best_fixed.0, "best_fixed_reward": r.best_fixed.1,
        "cheapest": r.cheapest.0, "cheapest_reward": r.cheapest.1,
        "longer_first_reward": r.longer_first, "family_matrix_reward": r.family_matrix, "oracle_reward": r.oracle,
        "strongest": r.strongest.0, "strongest_quality": r.strongest.1, "strongest_cost_usd": r.strongest.2,
        "decision_us_p50": s.spent_us.0, "decision_us_p99": s.spent_us.1,
    })
}

/// Everything.
pub(super) struct Report {
    name: String,
    rows: Vec<Summary>,
    pub(super) estimates: Vec<Estimate>,
    /// One of each protocol.
    pub(super) plots: Vec<Plot>,
}

impl Report {
    pub(super) fn new(table: &Table) -> Self {
        Report { name: table.name.clone(), rows: Vec::new(), estimates: Vec::new(), plots: Vec::new() }
    }

    pub(super) fn add(&mut self, row: Summary) {
        self.rows.push(row);
    }

    /// Draws a protocol on its queries: they are the same for every λ. `table` is what was served.
    pub(super) fn draw(&mut self, table: &Table, protocol: Protocol, queries: &[usize]) {
        let point = |r: &Summary| Corner {
            label: format!("lambda {}", r.lambda),
            cost: r.cost.mean,
            quality: r.quality.mean,
        };
        let mut router: Vec<Corner> =
            self.rows.iter().filter(|r| r.protocol == protocol).map(point).collect();
        router.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        let (fixed, oracle) = corners(table, queries);
        let title = format!("{}, {}: quality against cost", self.name, protocol.name());
        self.plots.push(Plot { title, fixed, router, oracle });
    }

    /// Share of the strongest model's cost at which the router reaches its quality, by protocol.
    fn thrift(&self) -> Vec<(&'static str, Option<f64>, &References)> {
        let of = |protocol: &Protocol| {
            let rows: Vec<&Summary> = self.rows.iter().filter(|r| r.protocol == *protocol).collect();
            Some((protocol.name(), Summary::thrift(&rows), &rows.first()?.references))
        };
        let mut protocols: Vec<Protocol> = self.rows.iter().map(|r| r.protocol).collect();
        protocols.dedup();
        protocols.iter().filter_map(of).collect()
    }

    pub(super) fn show(&self, out: &Out) {
        let of = |of: &dyn Fn(&Estimate) -> bool| Accuracy::of(&self.estimates, of);
        if out.json {
            let rows: Vec<Value> = self.rows.iter().map(json).collect();
            let off = (!self.estimates.is_empty())
                .then(|| json!({"summary": of(&|_| true), "other_lambda": of(&|e| e.target != e.logged), "grade_b": of(&|e| e.grade == 'B'), "estimates": self.estimates}));
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
        let of = |of: &dyn Fn(&Estimate) -> bool| Accuracy::of(&self.estimates, of);
        for (what, s) in [
            ("all", of(&|_| true)),
            ("of another lambda", of(&|e| e.target != e.logged)),
            ("of grade B", of(&|e| e.grade == 'B')),
        ] {
            if s.estimates == 0 {
                out.line(&format!("{}, {what}: no estimate", self.name));
                continue;
            }
            out.line(&format!(
                "{}, {what}: {} estimates, error {:.4} r.m.s. (bias {:+.4}, SNIPS {:.4}), 95 % intervals of +-{:.4} cover {:.1} %",
                self.name,
                s.estimates,
                s.rms_error,
                s.bias,
                s.snips_rms_error,
                s.mean_half_width,
                100.0 * s.covered
            ));
        }
    }
}

//! What the demo shows: a table that redraws on a terminal, plain lines elsewhere, and running totals.

use super::super::out::Out;
use serde_json::json;
use std::collections::VecDeque;
use std::time::Duration;

/// Rows on a terminal.
const ROWS: usize = 14;
/// Characters of the reason.
const WHY: usize = 60;

/// One request, as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) task: &'static str,
    pub(super) arm: String,
    pub(super) why: String,
    pub(super) explored: bool,
    pub(super) cost: f64,
    /// What the same tokens would have cost at the dearest model.
    pub(super) at_dearest: f64,
    pub(super) latency: Duration,
    pub(super) end: String,
    pub(super) good: bool,
}

/// The table and its totals.
pub(super) struct Board {
    out: Out,
    dearest: Option<String>,
    rows: VecDeque<Row>,
    /// Lines on the screen that the next drawing replaces.
    drawn: usize,
    requests: usize,
    good: usize,
    cost: f64,
    at_dearest: f64,
}

impl Board {
    pub(super) fn new(out: Out, dearest: Option<String>) -> Self {
        let rows = VecDeque::with_capacity(ROWS);
        Board { out, dearest, rows, drawn: 0, requests: 0, good: 0, cost: 0.0, at_dearest: 0.0 }
    }

    /// A request ended.
    pub(super) fn add(&mut self, row: Row) {
        self.requests = self.requests.saturating_add(1);
        self.good = self.good.saturating_add(usize::from(row.good));
        self.cost += row.cost;
        self.at_dearest += row.at_dearest;
        if self.out.json {
            self.out.value(&json!({
                "task": row.task, "arm": row.arm, "why": row.why, "explored": row.explored, "cost_usd": row.cost,
                "latency_ms": row.latency.as_millis(), "outcome": row.end, "good": row.good, "simulated": true,
            }));
            return;
        }
        if !self.out.terminal {
            self.out.line(&plain(&row));
            return;
        }
        if self.rows.len() == ROWS {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
        self.draw();
    }

    /// The sum of it all.
    pub(super) fn totals(&self) {
        if self.out.json {
            self.out.value(&json!({"requests": self.requests, "good": self.good, "cost_usd": self.cost,
                "cost_at_dearest_usd": self.at_dearest, "dearest": self.dearest}));
        } else if !self.out.terminal {
            self.out.line(&self.summary());
        }
    }

    fn summary(&self) -> String {
        let share = if self.requests == 0 { 0.0 } else { 100.0 * self.good as f64 / self.requests as f64 };
        let against = match &self.dearest {
            Some(model) if self.at_dearest > 0.0 => format!(
                ", {:.0}% less than {model} for the same tokens (${:.5})",
                100.0 * (1.0 - self.cost / self.at_dearest),
                self.at_dearest
            ),
            _ => String::new(),
        };
        format!("SIMULATED  {} requests, {share:.0}% good, ${:.5}{against}", self.requests, self.cost)
    }

    fn draw(&mut self) {
        let mut table = self.out.table(&["task", "chosen", "why", "USD", "ms", "outcome"]);
        for row in &self.rows {
            table.add_row(cells(row));
        }
        let text = format!("{table}\n{}\n", self.summary());
        // Up to where the last drawing began, and clear from there.
        let up = if self.drawn > 0 { format!("\u{1b}[{}A\u{1b}[J", self.drawn) } else { String::new() };
        self.drawn = text.matches('\n').count();
        self.out.raw(&format!("{up}{text}"));
    }
}

fn cells(row: &Row) -> [String; 6] {
    let explored = if row.explored { " (explored)" } else { "" };
    [
        row.task.to_owned(),
        format!("{}{explored}", row.arm),
        cut(&row.why),
        format!("{:.6}", row.cost),
        row.latency.as_millis().to_string(),
        format!("{} {}", if row.good { "✓" } else { "✗" }, row.end),
    ]
}

fn plain(row: &Row) -> String {
    let [task, arm, why, cost, ms, end] = cells(row);
    format!("SIMULATED  {task:20} -> {arm}  ${cost}  {ms} ms  {end}  because {why}")
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WHY {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(WHY).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_compare_with_the_dearest() {
        let out = Out { json: true, terminal: false };
        let mut board = Board::new(out, Some("sim/strong".into()));
        for good in [true, true, false, true] {
            board.add(Row {
                task: "chat",
                arm: "default on sim/a".into(),
                why: "best".into(),
                explored: false,
                cost: 0.001,
                at_dearest: 0.004,
                latency: Duration::from_millis(5),
                end: "passed".into(),
                good,
            });
        }
        let text = board.summary();
        assert!(text.contains("75% good") && text.contains("75% less than sim/strong"), "{text}");
    }
}

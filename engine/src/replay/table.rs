//! A table of recorded outcomes: queries, what each model made of each, and what it cost.

use serde_json::{Value, json};
use std::sync::Arc;
use types::ChatRequest;

/// A model of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its name, which is unique in the table.
    pub name: String,
    /// USD per million tokens of input; `None` = unknown.
    pub input: Option<f64>,
    /// USD per million tokens of output; `None` = unknown.
    pub output: Option<f64>,
}

/// A recorded query.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its identifier, which is unique in the table.
    pub id: String,
    /// The source's own name of the task family; empty = it names none.
    pub task: String,
    /// What a client would have sent.
    pub request: Arc<ChatRequest>,
    /// Place with the families in blocks.
    pub blocks: i64,
    /// It belongs to the half that is tested, not to the one that priors are learned from.
    pub tested: bool,
}

impl Query {
    /// Whether warm runs play it; `swap` exchanges the halves.
    #[must_use]
    pub const fn is_tested(&self, swap: bool) -> bool {
        self.tested != swap
    }
}

/// What one model made of one query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// How good the answer is, 0..=1.
    pub quality: f64,
    /// What it cost in USD; `None` = unknown.
    pub cost: Option<f64>,
    /// How long it is; `None` = unknown.
    pub output_tokens: Option<u32>,
    /// Seconds until it was there; `None` = unknown.
    pub latency_s: Option<f64>,
}

/// The table. Queries stand in the order of their arrival.
#[derive(Clone, Debug)]
pub struct Table {
    /// What it is called.
    pub name: String,
    /// Its models.
    pub models: Vec<Listed>,
    /// Its queries.
    pub queries: Vec<Query>,
    /// By query, then model; `None` = the model was not available.
    pub rows: Vec<Option<Row>>,
    /// Cost in USD that counts as 1; 0 = no cost counts.
    pub cost_ref: f64,
    /// λ to replay it with.
    pub lambdas: Vec<f64>,
}

impl Table {
    /// Mean cost of the dearest model, in USD: what counts as 1 where a table does not say it.
    #[must_use]
    pub fn dearest(&self) -> f64 {
        let costs = |m| (0..self.queries.len()).filter_map(move |q| self.row(q, m)?.cost);
        (0..self.models.len()).map(|m| mean(costs(m))).fold(0.0, f64::max)
    }

    /// What a model made of a query; `None` = it was not available.
    #[must_use]
    pub fn row(&self, query: usize, model: usize) -> Option<&Row> {
        self.rows.get(query * self.models.len() + model)?.as_ref()
    }

    /// Which models were available for a query, in their order.
    pub(super) fn available(&self, query: usize) -> impl Iterator<Item = bool> {
        (0..self.models.len()).map(move |m| self.row(query, m).is_some())
    }

    /// The same table with something else in the place of each row.
    pub(super) fn with(&self, mut row: impl FnMut(usize, usize, Row) -> Row) -> Table {
        let mut table = self.clone();
        let models = self.models.len().max(1);
        for (at, slot) in table.rows.iter_mut().enumerate() {
            *slot = slot.map(|r| row(at / models, at % models, r));
        }
        table
    }

    /// Reward of a model's answer to a query; `None` = not available.
    #[must_use]
    pub fn reward(&self, query: usize, model: usize, lambda: f64) -> Option<f64> {
        self.row(query, model).map(|r| self.worth(r.quality, r.cost, lambda))
    }

    /// quality − λ·cost/cost_ref.
    pub(super) fn worth(&self, quality: f64, cost: Option<f64>, lambda: f64) -> f64 {
        let relative = if self.cost_ref > 0.0 { cost.unwrap_or(0.0) / self.cost_ref } else { 0.0 };
        quality - lambda * relative
    }
}

/// Mean, 0 of nothing.
pub(super) fn mean(xs: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = xs.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
    if n > 0.0 { sum / n } else { 0.0 }
}

/// A request as a client would send it.
///
/// # Errors
/// What of it no request can hold.
pub fn request(messages: &Value, tools: &[Value]) -> Result<Arc<ChatRequest>, String> {
    let mut body = json!({"model": super::stage::MODEL, "messages": messages});
    if let (Some(map), false) = (body.as_object_mut(), tools.is_empty()) {
        map.insert("tools".to_owned(), Value::from(tools.to_vec()));
    }
    ChatRequest::from_value(&body).map(Arc::new).map_err(|e| format!("{}: {}", e.pointer, e.message))
}

/// A table of so many queries, of which `a` does all well and dearly, and `b` half of them.
#[cfg(test)]
pub(super) fn tiny(queries: usize) -> Table {
    let listed = |name: &str| Listed { name: name.to_owned(), input: None, output: None };
    let messages = json!([{"role": "user", "content": "What is it?"}]);
    let query = |i: usize| Query {
        id: format!("q{i}"),
        task: "chat".to_owned(),
        request: request(&messages, &[]).unwrap(),
        blocks: 0,
        tested: false,
    };
    let row = |quality, cost| Some(Row { quality, cost: Some(cost), output_tokens: None, latency_s: None });
    Table {
        name: "tiny".to_owned(),
        models: vec![listed("a"), listed("b")],
        queries: (0..queries).map(query).collect(),
        rows: (0..queries).flat_map(|i| [row(1.0, 1.0), row((i % 2) as f64, 0.1)]).collect(),
        cost_ref: 1.0,
        lambdas: vec![0.2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reward_is_quality_less_what_it_cost() {
        let table = tiny(4);
        assert_eq!(table.reward(1, 1, 0.5), Some(0.95));
        assert_eq!((table.reward(4, 0, 0.5), table.dearest()), (None, 1.0));
        let free = Table { cost_ref: 0.0, ..table };
        assert_eq!(free.reward(1, 1, 0.5), Some(1.0), "without a reference no cost counts");
    }
}

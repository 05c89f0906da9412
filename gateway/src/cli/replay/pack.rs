//! A table of recorded outcomes: queries, what each model made of each, and what it cost.

use providers::recorded::file::{fields, lines};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use types::ChatRequest;

/// A model of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    pub(super) name: String,
    /// USD per million tokens; `None` = unknown.
    pub(super) input: Option<f64>,
    pub(super) output: Option<f64>,
}

/// A recorded query.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) id: String,
    /// The source's own name of the task family.
    pub(super) task: String,
    pub(super) request: Arc<ChatRequest>,
    /// Place with the families in blocks.
    pub(super) blocks: i64,
    /// It belongs to the half that is tested, not to the one that priors are learned from.
    pub(super) tested: bool,
}

/// What one model made of one query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) quality: f64,
    pub(super) cost: Option<f64>,
    pub(super) output_tokens: Option<u32>,
    pub(super) latency_s: Option<f64>,
}

/// The table. Queries stand in the order of their arrival.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) name: String,
    pub(super) models: Vec<Listed>,
    pub(super) queries: Vec<Query>,
    /// By query, then model; `None` = the model was not available.
    rows: Vec<Option<Row>>,
    /// Cost that counts as 1.
    pub(super) cost_ref: f64,
    pub(super) lambdas: Vec<f64>,
}

#[derive(Deserialize)]
struct Dataset {
    name: String,
    models: BTreeMap<String, Prices>,
    cost_ref: Option<CostRef>,
    #[serde(default)]
    lambdas: Vec<f64>,
    #[serde(default)]
    pools: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Prices {
    price_in_usd_per_mtok: Option<f64>,
    price_out_usd_per_mtok: Option<f64>,
}

#[derive(Deserialize)]
struct CostRef {
    cost_usd: f64,
}

#[derive(Deserialize)]
struct Line {
    query_id: String,
    order: i64,
    #[serde(default)]
    order_drift: i64,
    #[serde(default)]
    task: String,
    prompt: Value,
    #[serde(default)]
    tools: Vec<Value>,
}

impl Pack {
    /// Reads a folder. `pool` restricts it to the models of a pool of its `dataset.json`, or of a list, and to the
    /// queries that all of them were run on.
    pub(super) fn open(dir: &Path, pool: Option<&str>) -> Result<Self, String> {
        let path = dir.join("dataset.json");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let dataset: Dataset = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let models = models(&dataset, pool)?;
        let mut queries = Vec::new();
        lines(&dir.join("queries.jsonl.gz"), |line| {
            queries.push(query(line)?);
            Ok(())
        })?;
        queries.sort_by_key(|(order, _)| *order);
        let mut queries: Vec<Query> = queries.into_iter().map(|(_, q)| q).collect();
        let mut rows = outcomes(&dir.join("outcomes.csv.gz"), &queries, &models)?;
        if pool.is_some() {
            let whole: Vec<bool> = rows.chunks(models.len()).map(|r| r.iter().all(Option::is_some)).collect();
            let mut keep = whole.iter();
            queries.retain(|_| keep.next().copied().unwrap_or(false));
            rows.retain({
                let mut at = 0_usize;
                let (whole, n) = (whole.clone(), models.len());
                move |_| {
                    at += 1;
                    whole.get((at - 1) / n).copied().unwrap_or(false)
                }
            });
        }
        if queries.is_empty() || models.is_empty() {
            return Err(format!("{}: no queries that all these models were run on", dir.display()));
        }
        let mut pack = Pack {
            name: dataset.name,
            models,
            queries,
            rows,
            cost_ref: dataset.cost_ref.map_or(0.0, |c| c.cost_usd),
            lambdas: if dataset.lambdas.is_empty() { vec![0.05, 0.2, 0.5] } else { dataset.lambdas },
        };
        if pack.cost_ref <= 0.0 {
            // Without a reference the dearest model's mean cost counts as 1.
            let mean = |m| mean(pack.queries_of(m).filter_map(|r| r.cost));
            pack.cost_ref = (0..pack.models.len()).map(mean).fold(0.0, f64::max);
        }
        Ok(pack)
    }

    pub(super) fn row(&self, query: usize, model: usize) -> Option<&Row> {
        self.rows.get(query * self.models.len() + model)?.as_ref()
    }

    fn queries_of(&self, model: usize) -> impl Iterator<Item = &Row> {
        (0..self.queries.len()).filter_map(move |q| self.row(q, model))
    }

    /// quality − λ·cost/cost_ref; `None` = not available.
    pub(super) fn reward(&self, query: usize, model: usize, lambda: f64) -> Option<f64> {
        self.row(query, model).map(|r| self.worth(r.quality, r.cost, lambda))
    }

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

fn models(dataset: &Dataset, pool: Option<&str>) -> Result<Vec<Listed>, String> {
    let wanted: Option<Vec<String>> = pool.map(|p| match dataset.pools.get(p) {
        Some(list) => list.clone(),
        None => p.split(',').map(str::to_owned).collect(),
    });
    if let Some(unknown) = wanted.iter().flatten().find(|m| !dataset.models.contains_key(*m)) {
        let pools: Vec<&str> = dataset.pools.keys().map(String::as_str).collect();
        return Err(format!("`{unknown}` is no model of the pack and no pool of it ({})", pools.join(", ")));
    }
    let all = dataset.models.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|w| w.contains(name)));
    let listed = |(name, p): (&String, &Prices)| Listed {
        name: name.clone(),
        input: p.price_in_usd_per_mtok,
        output: p.price_out_usd_per_mtok,
    };
    Ok(all.map(listed).collect())
}

fn query(line: &str) -> Result<(i64, Query), String> {
    let q: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let request = request(&json!([{"role": "user", "content": q.prompt}]), &q.tools)?;
    // The half by the parity of the first 32 bits of the identifier's hash, as the table's own documentation
    // splits it.
    let digest = Sha256::digest(q.query_id.as_bytes());
    let tested = digest.get(3).is_some_and(|b| b & 1 == 1);
    Ok((q.order, Query { id: q.query_id, task: q.task, request, blocks: q.order_drift, tested }))
}

/// A request as a client would send it.
pub(super) fn request(messages: &Value, tools: &[Value]) -> Result<Arc<ChatRequest>, String> {
    let mut body = json!({"model": super::stage::MODEL, "messages": messages});
    if let (Some(map), false) = (body.as_object_mut(), tools.is_empty()) {
        map.insert("tools".to_owned(), Value::from(tools.to_vec()));
    }
    ChatRequest::from_value(&body).map(Arc::new).map_err(|e| format!("{}: {}", e.pointer, e.message))
}

fn outcomes(path: &Path, queries: &[Query], models: &[Listed]) -> Result<Vec<Option<Row>>, String> {
    let by_id: HashMap<&str, usize> = queries.iter().enumerate().map(|(i, q)| (q.id.as_str(), i)).collect();
    let by_name: HashMap<&str, usize> =
        models.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
    let mut rows = vec![None; queries.len().saturating_mul(models.len())];
    let mut header: Option<Vec<String>> = None;
    lines(path, |line| {
        let fields = fields(line);
        let Some(columns) = &header else {
            header = Some(fields);
            return Ok(());
        };
        let text = |name: &str| {
            let at = columns.iter().position(|c| c == name);
            at.and_then(|i| fields.get(i)).map_or("", String::as_str)
        };
        let number = |name: &str| match text(name) {
            "" => Ok(None),
            t => t.parse::<f64>().map(Some).map_err(|_| format!("`{name}`: `{t}` is not a number")),
        };
        let (Some(query), Some(model)) = (by_id.get(text("query_id")), by_name.get(text("model"))) else {
            return Ok(());
        };
        let row = Row {
            quality: number("quality")?.ok_or("`quality` is missing")?,
            cost: number("cost_usd")?,
            // `as` saturates.
            output_tokens: number("output_tokens")?.map(|t| t as u32),
            latency_s: number("latency_s")?,
        };
        if let Some(slot) = rows.get_mut(query * models.len() + model) {
            *slot = Some(row);
        }
        Ok(())
    })?;
    Ok(rows)
}

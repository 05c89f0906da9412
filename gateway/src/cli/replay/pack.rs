//! Reads a table of recorded outcomes from its folder.

use engine::replay::{Listed, Query, Row, Table, request};
use providers::recorded::file::{fields, lines};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

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

/// Reads a folder. `pool` restricts it to the models of a pool of its `dataset.json`, or of a list, and to the
/// queries that all of them were run on.
///
/// # Errors
/// A file that cannot be read, with the line at fault.
pub(super) fn open(dir: &Path, pool: Option<&str>) -> Result<Table, String> {
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
    let mut table = Table {
        name: dataset.name,
        models,
        queries,
        rows,
        cost_ref: dataset.cost_ref.map_or(0.0, |c| c.cost_usd),
        lambdas: if dataset.lambdas.is_empty() { vec![0.05, 0.2, 0.5] } else { dataset.lambdas },
    };
    if table.cost_ref <= 0.0 {
        table.cost_ref = table.dearest();
    }
    Ok(table)
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

fn outcomes(path: &Path, queries: &[Query], models: &[Listed]) -> Result<Vec<Option<Row>>, String> {
    let by_id: HashMap<&str, usize> = queries.iter().enumerate().map(|(i, q)| (q.id.as_str(), i)).collect();
    let by_name: HashMap<&str, usize> =
        models.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
    let mut rows = vec![None; queries.len().saturating_mul(models.len())];
    let mut header: Option<Vec<String>> = None;
    let mut known = 0_usize;
    lines(path, |line| {
        let fields = fields(line);
        let Some(columns) = &header else {
            let missing: Vec<&str> = COLUMNS.into_iter().filter(|c| !fields.iter().any(|f| f == c)).collect();
            header = Some(fields);
            return match missing.as_slice() {
                [] => Ok(()),
                some => Err(format!("the first line names no column `{}`", some.join("`, `"))),
            };
        };
        if fields.len() != columns.len() {
            return Err(format!("{} fields, expected {}", fields.len(), columns.len()));
        }
        let text = |name: &str| {
            let at = columns.iter().position(|c| c == name);
            at.and_then(|i| fields.get(i)).map_or("", String::as_str)
        };
        let number = |name: &str, most: f64| match text(name) {
            "" => Ok(None),
            t => match t.parse::<f64>() {
                Ok(x) if (0.0..=most).contains(&x) => Ok(Some(x)),
                _ if most < f64::MAX => Err(format!("`{name}`: `{t}` is no number in 0..={most}")),
                _ => Err(format!("`{name}`: `{t}` is no number of 0 or more")),
            },
        };
        let (Some(query), Some(model)) = (by_id.get(text("query_id")), by_name.get(text("model"))) else {
            return Ok(());
        };
        let row = Row {
            quality: number("quality", 1.0)?.ok_or("`quality` is missing")?,
            cost: number("cost_usd", f64::MAX)?,
            // `as` saturates.
            output_tokens: number("output_tokens", f64::MAX)?.map(|t| t as u32),
            latency_s: number("latency_s", f64::MAX)?,
        };
        known += 1;
        if let Some(slot) = rows.get_mut(query * models.len() + model) {
            *slot = Some(row);
        }
        Ok(())
    })?;
    match known {
        0 => Err(format!("{}: no outcome of any query and model of the pack", path.display())),
        _ => Ok(rows),
    }
}

/// Columns without which an outcome says nothing.
const COLUMNS: [&str; 3] = ["query_id", "model", "quality"];

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    const HEADER: &str = "query_id,model,quality,cost_usd";

    /// What reading a table gives whose outcomes are these lines.
    fn opened(outcomes: &[&str]) -> Result<Table, String> {
        let dir = tempfile::tempdir().unwrap();
        let packed = |name: &str, text: String| {
            let mut file =
                GzEncoder::new(std::fs::File::create(dir.path().join(name)).unwrap(), Compression::fast());
            file.write_all(text.as_bytes()).unwrap();
            file.finish().unwrap();
        };
        let query = |i: usize| {
            json!({"query_id": format!("q{i}"), "order": i, "task": "chat", "prompt": "What is it?"})
                .to_string()
        };
        packed("queries.jsonl.gz", (0..4).map(query).collect::<Vec<_>>().join("\n"));
        packed("outcomes.csv.gz", outcomes.join("\n"));
        let dataset = json!({"name": "tiny", "models": {"a": {}, "b": {}}, "cost_ref": {"cost_usd": 1.0}});
        std::fs::write(dir.path().join("dataset.json"), dataset.to_string()).unwrap();
        open(dir.path(), None)
    }

    #[test]
    fn a_table_that_is_not_packed_is_told_from_one_that_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("dataset.json"), r#"{"name": "tiny", "models": {"a": {}}}"#).unwrap();
        for text in ["", "{\"query_id\": \"q0\", \"order\": 0, \"prompt\": \"What is it?\"}\n"] {
            std::fs::write(dir.path().join("queries.jsonl.gz"), text).unwrap();
            let error = open(dir.path(), None).unwrap_err();
            assert!(error.contains("queries.jsonl.gz: "), "{error}");
            assert!(error.ends_with("; expected a text packed with gzip"), "{error}");
        }
    }

    #[test]
    fn a_table_that_cannot_be_is_refused_with_its_place() {
        let table = opened(&[HEADER, "q1,b,1,0.1"]).unwrap();
        assert_eq!((table.reward(1, 1, 0.5), table.reward(1, 0, 0.5)), (Some(0.95), None));
        for (outcomes, told) in [
            (vec![HEADER, "q0,a,nan,1"], ":2: `quality`: `nan` is no number in 0..=1"),
            (vec![HEADER, "q0,a,1,1", "q1,a,1.7,1"], ":3: `quality`: `1.7` is no number in 0..=1"),
            (vec![HEADER, "q0,a,1,-5"], ":2: `cost_usd`: `-5` is no number of 0 or more"),
            (vec![HEADER, "q0,a,1,inf"], ":2: `cost_usd`: `inf` is no number of 0 or more"),
            (vec![HEADER, "q0,a,,1"], ":2: `quality` is missing"),
            (vec![HEADER, "q0;a;1;1"], ":2: 1 fields, expected 4"),
            (
                vec!["q0,a,1,1", "q1,a,1,1"],
                ":1: the first line names no column `query_id`, `model`, `quality`",
            ),
            (vec![HEADER], "outcomes.csv.gz: no outcome of any query and model of the pack"),
            (vec![HEADER, "q9,a,1,1"], "outcomes.csv.gz: no outcome of any query and model of the pack"),
        ] {
            let error = opened(&outcomes).unwrap_err();
            assert!(error.contains("outcomes.csv.gz") && error.ends_with(told), "{error}");
        }
    }
}

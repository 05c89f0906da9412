//! Reads a table of recorded outcomes from its folder.
//!
//! Whatever in it would be counted twice or not at all is told, and all of it at once: numbers of a table that was half
//! read look like those of a whole one.

use super::problems::{BOM, Problems, Strange, WITH_BOM, unmarked};
use engine::replay::{Listed, Query, Row, Table, request};
use providers::recorded::file::{fields, numbered};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use types::diagnostic::suggestion;

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

/// Reads a folder, and tells what is left out of it: a table may hold more than the queries and models that are asked about.
/// `pool` restricts it to the models of a pool of its `dataset.json`, or of a list, and to the queries that all of them were
/// run on.
///
/// # Errors
/// A file that cannot be read, or every line at fault, a line each.
pub(super) fn open(dir: &Path, pool: Option<&str>) -> Result<(Table, Vec<String>), String> {
    let path = dir.join("dataset.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if text.starts_with(BOM) {
        return Err(format!("{}:1: {WITH_BOM}", path.display()));
    }
    let dataset: Dataset = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let models = models(&dataset, pool)?;
    let mut problems = Problems::default();
    let mut queries = queries(&dir.join("queries.jsonl.gz"), &mut problems)?;
    let (mut rows, left_out) =
        outcomes(&dir.join("outcomes.csv.gz"), (&queries, &models), &dataset, &mut problems);
    problems.end()?;
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
    Ok((table, left_out))
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

/// Reads the queries in the order of their arrival.
fn queries(path: &Path, problems: &mut Problems) -> Result<Vec<Query>, String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut all = Vec::new();
    numbered(path, |number, line| {
        match query(unmarked(path, number, line, problems)) {
            Err(why) => problems.note(path, number, &why),
            Ok((order, q)) => match seen.entry(q.id.clone()) {
                Entry::Vacant(free) => {
                    free.insert(number);
                    all.push((order, q));
                }
                Entry::Occupied(first) => {
                    problems.note(
                        path,
                        number,
                        &format!("`{}` stands in line {} already", q.id, first.get()),
                    );
                }
            },
        }
        Ok(())
    })?;
    all.sort_by_key(|(order, _)| *order);
    Ok(all.into_iter().map(|(_, q)| q).collect())
}

/// Reads what each model made of each query; by query, then model. Then what is left out.
fn outcomes(
    path: &Path,
    (queries, models): (&[Query], &[Listed]),
    dataset: &Dataset,
    problems: &mut Problems,
) -> (Vec<Option<Row>>, Vec<String>) {
    let by_id: HashMap<&str, usize> = queries.iter().enumerate().map(|(i, q)| (q.id.as_str(), i)).collect();
    let by_name: HashMap<&str, usize> =
        models.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
    let whole = problems.are_none();
    let mut rows = vec![None; queries.len().saturating_mul(models.len())];
    let mut stands = vec![0_usize; rows.len()];
    let mut columns: Option<Columns> = None;
    let (mut strange_models, mut strange_queries) = (Strange::default(), Strange::default());
    let read = numbered(path, |number, line| {
        let fields = fields(unmarked(path, number, line, problems));
        let Some(columns) = &columns else {
            columns = Some(Columns::of(fields)?);
            return Ok(());
        };
        let outcome = match columns.outcome(&fields) {
            Ok(outcome) => outcome,
            Err(why) => {
                problems.note(path, number, &why);
                return Ok(());
            }
        };
        let query = by_id.get(outcome.query);
        if query.is_none() {
            strange_queries.note(outcome.query, number);
        }
        if !dataset.models.contains_key(outcome.model) {
            strange_models.note(outcome.model, number);
        }
        let (Some(query), Some(model)) = (query, by_name.get(outcome.model)) else { return Ok(()) };
        let at = query * models.len() + model;
        let (Some(slot), Some(stands)) = (rows.get_mut(at), stands.get_mut(at)) else { return Ok(()) };
        if *stands > 0 {
            let why = format!("`{}` and `{}` stand in line {stands} already", outcome.query, outcome.model);
            problems.note(path, number, &why);
        } else {
            (*slot, *stands) = (Some(outcome.row), number);
        }
        Ok(())
    });
    let mut left_out = Problems::default();
    for (name, first, lines) in strange_models.names() {
        let hint = suggestion(name, dataset.models.keys().map(String::as_str));
        let why = format!("left out: `{name}` is no model of dataset.json ({lines} lines name it); {hint}");
        left_out.note(path, first, &why);
    }
    // Of a query that could not be read it is told where it stands.
    for (id, first, lines) in strange_queries.names().filter(|_| whole) {
        let why = format!("left out: `{id}` is no query of queries.jsonl.gz ({lines} lines name it)");
        left_out.note(path, first, &why);
    }
    match read {
        Err(why) => problems.push(why),
        Ok(()) if problems.are_none() && rows.iter().all(Option::is_none) => {
            problems.push(format!("{}: no outcome of any query and model of the pack", path.display()));
        }
        Ok(()) => {}
    }
    (rows, left_out.lines())
}

/// Columns that a table of outcomes has to have; a cost may be empty, which is unknown.
const COLUMNS: [&str; 4] = ["query_id", "model", "quality", "cost_usd"];

/// The columns of a table of outcomes.
struct Columns(Vec<String>);

/// One line of it.
struct Outcome<'l> {
    query: &'l str,
    model: &'l str,
    row: Row,
}

impl Columns {
    fn of(first: Vec<String>) -> Result<Columns, String> {
        let missing: Vec<&str> = COLUMNS.into_iter().filter(|c| !first.iter().any(|f| f == c)).collect();
        match missing.as_slice() {
            [] => Ok(Columns(first)),
            some => Err(format!("the first line names no column `{}`", some.join("`, `"))),
        }
    }

    fn outcome<'l>(&self, fields: &'l [String]) -> Result<Outcome<'l>, String> {
        let Columns(columns) = self;
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
        let row = Row {
            quality: number("quality", 1.0)?.ok_or("`quality` is missing")?,
            cost: number("cost_usd", f64::MAX)?,
            // `as` saturates.
            output_tokens: number("output_tokens", f64::MAX)?.map(|t| t as u32),
            latency_s: number("latency_s", f64::MAX)?,
        };
        Ok(Outcome { query: text("query_id"), model: text("model"), row })
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems::TOLD;
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    const HEADER: &str = "query_id,model,quality,cost_usd";

    /// What reading a table gives whose outcomes are these lines.
    fn opened(outcomes: &[&str]) -> Result<(Table, Vec<String>), String> {
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
        let (table, left_out) = opened(&[HEADER, "q1,b,1,0.1"]).unwrap();
        assert!(left_out.is_empty());
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
                ":1: the first line names no column `query_id`, `model`, `quality`, `cost_usd`",
            ),
            (vec![HEADER], "outcomes.csv.gz: no outcome of any query and model of the pack"),
            (vec![HEADER, "q9,a,1,1"], "outcomes.csv.gz: no outcome of any query and model of the pack"),
            (vec!["query_id,model,quality", "q0,a,1"], ":1: the first line names no column `cost_usd`"),
        ] {
            let error = opened(&outcomes).unwrap_err();
            assert!(error.contains("outcomes.csv.gz") && error.ends_with(told), "{error}");
        }
    }

    #[track_caller]
    fn check(lines: &[String], told: &[&str]) {
        assert_eq!(lines.len(), told.len(), "{lines:?}");
        for (line, told) in lines.iter().zip(told) {
            assert!(line.contains(&format!("outcomes.csv.gz{told}")), "{line}");
        }
    }

    #[test]
    fn all_that_would_be_counted_twice_or_not_at_all_is_told_at_once() {
        let bom = format!("{BOM}{HEADER}");
        let error = opened(&[&bom, "q0,a,1,1", "q0,b,1,1", "q0,a,0,1"]).unwrap_err();
        let twice: Vec<String> = error.lines().map(str::to_owned).collect();
        let told =
            [":1: the file begins with a byte order mark (BOM)", ":4: `q0` and `a` stand in line 2 already"];
        check(&twice, &told);
        let (_, left_out) = opened(&[HEADER, "q0,a,1,1", "q1,aa,1,1", "q2,aa,1,1", "q9,a,1,1"]).unwrap();
        let told = [
            ":3: left out: `aa` is no model of dataset.json (2 lines name it); ",
            ":5: left out: `q9` is no query of queries.jsonl.gz (1 lines name it)",
        ];
        check(&left_out, &told);
        let many: Vec<String> = (0..TOLD + 5).map(|_| "q0,a,2,1".to_owned()).collect();
        let many: Vec<&str> = std::iter::once(HEADER).chain(many.iter().map(String::as_str)).collect();
        let error = opened(&many).unwrap_err();
        assert_eq!((error.lines().count(), error.lines().last()), (TOLD + 1, Some("and 5 more problems")));
    }

    #[test]
    fn a_query_that_stands_twice_is_told_with_both_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queries.jsonl.gz");
        let mut file = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast());
        let line = |id: &str| format!("{}\n", json!({"query_id": id, "order": 0, "prompt": "What is it?"}));
        file.write_all(
            [line("a"), "\n".to_owned(), line("b"), line("a"), "{}\n".to_owned()].concat().as_bytes(),
        )
        .unwrap();
        file.finish().unwrap();
        let mut problems = Problems::default();
        assert_eq!(queries(&path, &mut problems).unwrap().len(), 2);
        let error = problems.end().unwrap_err();
        assert!(error.contains("queries.jsonl.gz:4: `a` stands in line 1 already"), "{error}");
        assert!(error.contains("queries.jsonl.gz:5: missing field `query_id`"), "{error}");
    }
}

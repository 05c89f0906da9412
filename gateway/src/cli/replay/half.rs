//! The half of a table that warm runs play, as a table of its own: so that a script of the table can score their decisions.

use engine::replay::Table;
use flate2::Compression;
use flate2::write::GzEncoder;
use providers::recorded::file::{fields, lines};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// All of a query that says which it is.
#[derive(Deserialize)]
struct Named {
    query_id: String,
}

/// Writes what of the table in `from` belongs to the tested half of `table` into the folder `to`, line by line as it
/// stands there, with the reference cost of the whole.
///
/// # Errors
/// The folder holds a table, or cannot be written.
pub(super) fn write(from: &Path, table: &Table, swap: bool, to: &Path) -> Result<(), String> {
    let told = |e: std::io::Error| format!("{}: {e}", to.display());
    std::fs::create_dir_all(to).map_err(told)?;
    if to.join(DATASET).exists() {
        return Err(format!("{}: holds a table; expected a new folder for the half", to.display()));
    }
    let ids: HashSet<&str> =
        table.queries.iter().filter(|q| q.is_tested(swap)).map(|q| q.id.as_str()).collect();
    let models: HashSet<&str> = table.models.iter().map(|m| m.name.as_str()).collect();
    copied(from, to, "queries.jsonl.gz", |line| {
        let query: Named = serde_json::from_str(line).map_err(|e| e.to_string())?;
        Ok(ids.contains(query.query_id.as_str()))
    })?;
    let mut places: Option<(usize, usize)> = None;
    copied(from, to, "outcomes.csv.gz", |line| {
        let fields = fields(line);
        let Some((query, model)) = places else {
            let place = |name: &str| fields.iter().position(|f| f == name);
            places = place("query_id").zip(place("model"));
            return Ok(true);
        };
        let is = |at: usize, of: &HashSet<&str>| fields.get(at).is_some_and(|f| of.contains(f.as_str()));
        Ok(is(query, &ids) && is(model, &models))
    })?;
    // Last, so that a folder that holds it holds the whole.
    let text = std::fs::read_to_string(from.join(DATASET)).map_err(|e| format!("{}: {e}", from.display()))?;
    let mut dataset: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", from.display()))?;
    if let Some(members) = dataset.as_object_mut() {
        members.insert("name".to_owned(), json!(format!("{}-half", table.name)));
        members.insert("cost_ref".to_owned(), json!({"cost_usd": table.cost_ref}));
        if let Some(listed) = members.get_mut("models").and_then(Value::as_object_mut) {
            listed.retain(|name, _| models.contains(name.as_str()));
        }
    }
    std::fs::write(to.join(DATASET), dataset.to_string()).map_err(told)
}

const DATASET: &str = "dataset.json";

/// Copies the lines of a packed file that are to be kept.
fn copied(
    from: &Path,
    to: &Path,
    name: &str,
    mut keep: impl FnMut(&str) -> Result<bool, String>,
) -> Result<(), String> {
    let (path, to) = (from.join(name), to.join(name));
    let told = |e: std::io::Error| format!("{}: {e}", to.display());
    let mut file = GzEncoder::new(File::create(&to).map_err(told)?, Compression::default());
    lines(&path, |line| match keep(line)? {
        true => writeln!(file, "{line}").map_err(|e| e.to_string()),
        false => Ok(()),
    })?;
    file.finish().map(|_| ()).map_err(told)
}

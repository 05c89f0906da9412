//! A file for `matrix.d/` that makes the models of an outcome table candidates.

use super::pack::Pack;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Larger than every recorded prompt: no candidate drops out for its length.
const CONTEXT: u32 = 1_000_000;

#[derive(Deserialize)]
struct Dataset {
    name: String,
    models: BTreeMap<String, Listed>,
}

#[derive(Deserialize)]
struct Listed {
    price_in_usd_per_mtok: Option<f64>,
    price_out_usd_per_mtok: Option<f64>,
}

/// The YAML of a provider `provider_name` of dialect `recorded` with all models of the table in `dir`, their
/// prices from its `dataset.json`, and priors that prefer none: what is known of them is left to learn.
/// Models that were run on no query with tools are not given the ability, where the table has such queries.
///
/// # Errors
/// The file, and what is wrong with it.
pub fn matrix_for(dir: impl AsRef<Path>, provider_name: &str) -> Result<String, String> {
    let dir = dir.as_ref();
    let path = dir.join("dataset.json");
    let tell = |e: String| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|e| tell(e.to_string()))?;
    let dataset: Dataset = serde_json::from_str(&text).map_err(|e| tell(e.to_string()))?;
    let pack = Pack::open(dir)?;
    let tool_models = pack.tool_models();

    let mut out = format!("# Recorded outcomes of `{}`.\nversion: 1\nproviders:\n", dataset.name);
    let folder = dir.to_str().ok_or_else(|| tell("the path is not text".to_owned()))?;
    push(
        &mut out,
        format_args!("  {provider_name}: {{ dialect: recorded, file: {} }}\nmodels:\n", quoted(folder)),
    );
    for (name, listed) in &dataset.models {
        let abilities = if tool_models.contains(&name.as_str()) { "streaming, tools" } else { "streaming" };
        push(&mut out, format_args!("  {}:\n", quoted(&format!("{provider_name}/{name}"))));
        push(&mut out, format_args!("    context_window: {CONTEXT}\n    abilities: [{abilities}]\n"));
        if let (Some(input), Some(output)) = (listed.price_in_usd_per_mtok, listed.price_out_usd_per_mtok) {
            push(&mut out, format_args!("    price: {{ input: {input}, output: {output} }}\n"));
        }
        push(&mut out, format_args!("    prior: {{ strength: 8, success: {{ default: 0.6 }} }}\n"));
    }
    Ok(out)
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

/// A JSON string is a double-quoted YAML scalar.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

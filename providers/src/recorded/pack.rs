//! An outcome table in memory: prompts by the hash of their text, outcomes by query and model.

use super::file::{fields, lines};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// A recorded query.
#[derive(Debug)]
pub(super) struct Query {
    /// Its identifier in the table.
    pub(super) id: String,
    /// Names of the tools that were offered with it.
    pub(super) tools: Vec<String>,
    place: u32,
}

/// What one model made of one query; empty fields were not recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) quality: f64,
    pub(super) input_tokens: Option<u32>,
    pub(super) output_tokens: Option<u32>,
    pub(super) cost_usd: Option<f64>,
    pub(super) latency_s: Option<f64>,
}

/// An outcome table.
#[derive(Debug)]
pub(super) struct Pack {
    queries: Vec<Query>,
    by_prompt: HashMap<[u8; 32], Vec<u32>>,
    models: HashMap<String, u32>,
    outcomes: HashMap<(u32, u32), Row>,
}

impl Pack {
    pub(super) fn open(dir: &Path) -> Result<Self, String> {
        let mut pack = Pack {
            queries: Vec::new(),
            by_prompt: HashMap::new(),
            models: HashMap::new(),
            outcomes: HashMap::new(),
        };
        let mut by_id = HashMap::new();
        lines(&dir.join("queries.jsonl.gz"), |line| {
            let (query, prompt) = query(line, pack.queries.len())?;
            by_id.insert(query.id.clone(), query.place);
            pack.by_prompt.entry(digest(&prompt)).or_default().push(query.place);
            pack.queries.push(query);
            Ok(())
        })?;
        let mut columns: Option<Columns> = None;
        lines(&dir.join("outcomes.csv.gz"), |line| {
            let fields = fields(line);
            match &columns {
                None => columns = Some(Columns::of(&fields)?),
                Some(c) => {
                    let (id, model, row) = c.read(&fields)?;
                    let query = *by_id.get(id).ok_or_else(|| format!("unknown query `{id}`"))?;
                    let next = u32::try_from(pack.models.len()).unwrap_or(u32::MAX);
                    let model = *pack.models.entry(model.to_owned()).or_insert(next);
                    pack.outcomes.insert((query, model), row);
                }
            }
            Ok(())
        })?;
        if pack.outcomes.is_empty() {
            return Err(format!("{}: no outcomes", dir.join("outcomes.csv.gz").display()));
        }
        Ok(pack)
    }

    pub(super) fn size(&self) -> (usize, usize) {
        (self.queries.len(), self.outcomes.len())
    }

    /// The query with this prompt; of several, the one whose tools are those offered.
    pub(super) fn query(&self, prompt: &str, tools: &[&str]) -> Option<&Query> {
        let places = self.by_prompt.get(&digest(prompt))?;
        let mut found = places.iter().filter_map(|p| self.queries.get(usize::try_from(*p).ok()?));
        let first = found.clone().next();
        found.find(|q| q.tools.iter().map(String::as_str).eq(tools.iter().copied())).or(first)
    }

    pub(super) fn outcome(&self, query: &Query, model: &str) -> Option<Row> {
        self.outcomes.get(&(query.place, *self.models.get(model)?)).copied()
    }

    /// Names of the models that were run on a query with tools; of all models if no query has any.
    pub(super) fn tool_models(&self) -> Vec<&str> {
        let with_tools = |place: u32| {
            let query = usize::try_from(place).ok().and_then(|p| self.queries.get(p));
            query.is_some_and(|q| !q.tools.is_empty())
        };
        let any = self.queries.iter().any(|q| !q.tools.is_empty());
        let mut ran = vec![!any; self.models.len()];
        for (_, model) in self.outcomes.keys().filter(|(query, _)| with_tools(*query)) {
            if let Some(r) = usize::try_from(*model).ok().and_then(|m| ran.get_mut(m)) {
                *r = true;
            }
        }
        let can = |place: u32| usize::try_from(place).ok().and_then(|m| ran.get(m)).copied().unwrap_or(false);
        self.models.iter().filter(|(_, place)| can(**place)).map(|(name, _)| name.as_str()).collect()
    }
}

fn query(line: &str, place: usize) -> Result<(Query, String), String> {
    #[derive(Deserialize)]
    struct Line {
        query_id: String,
        prompt: String,
        #[serde(default)]
        tools: Vec<serde_json::Value>,
    }
    let q: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let name = |t: &serde_json::Value| t.pointer("/function/name")?.as_str().map(str::to_owned);
    let tools = q.tools.iter().filter_map(name).collect();
    let place = u32::try_from(place).map_err(|_| "too many queries".to_owned())?;
    Ok((Query { id: q.query_id, tools, place }, q.prompt))
}

/// Of a text in which every run of white space is one space.
fn digest(prompt: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for word in prompt.split_whitespace() {
        hasher.update(word.as_bytes());
        hasher.update(b" ");
    }
    *hasher.finalize().as_bytes()
}

/// Where each column of the table stands.
struct Columns {
    query_id: usize,
    model: usize,
    quality: usize,
    input_tokens: Option<usize>,
    output_tokens: Option<usize>,
    cost_usd: Option<usize>,
    latency_s: Option<usize>,
}

impl Columns {
    fn of(header: &[String]) -> Result<Self, String> {
        let find = |name: &str| header.iter().position(|h| h == name);
        let must = |name: &str| find(name).ok_or_else(|| format!("column `{name}` is missing"));
        Ok(Columns {
            query_id: must("query_id")?,
            model: must("model")?,
            quality: must("quality")?,
            input_tokens: find("input_tokens"),
            output_tokens: find("output_tokens"),
            cost_usd: find("cost_usd"),
            latency_s: find("latency_s"),
        })
    }

    fn read<'f>(&self, fields: &'f [String]) -> Result<(&'f str, &'f str, Row), String> {
        let text = |at: usize| fields.get(at).map_or("", String::as_str);
        let number = |at: Option<usize>| match at.map_or("", text) {
            "" => Ok(None),
            t => match t.parse::<f64>() {
                Ok(x) if x.is_finite() && x >= 0.0 => Ok(Some(x)),
                _ => Err(format!("`{t}` is not a number of at least 0")),
            },
        };
        // `as` saturates; fractions of tokens are rounded.
        let whole = |at| number(at).map(|x| x.map(|x| x.round() as u32));
        let quality = number(Some(self.quality))?.filter(|q| *q <= 1.0);
        let row = Row {
            quality: quality.ok_or("`quality` is not in 0..=1")?,
            input_tokens: whole(self.input_tokens)?,
            output_tokens: whole(self.output_tokens)?,
            cost_usd: number(self.cost_usd)?,
            latency_s: number(self.latency_s)?,
        };
        Ok((text(self.query_id), text(self.model), row))
    }
}

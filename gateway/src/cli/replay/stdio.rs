//! The line protocol: a program that holds a table asks over standard input, one JSON object a line.
//!
//! ```text
//! -> {"type":"hello","models":{"m":{"price_in_usd_per_mtok":..,"price_out_usd_per_mtok":..}},"lambda":0.2,"cost_ref_usd":..}
//! -> {"type":"route","id":17,"messages":[..],"tools":[..],"candidates":["m",..],"source_task":"math"}
//! <- {"id":17,"model":"m","propensity":0.93}
//! -> {"type":"outcome","id":17,"model":"m","quality":1.0,"cost_usd":0.0012,"output_tokens":..,"latency_s":..}
//! -> {"type":"bye"}
//! ```

use engine::replay::{Exploration, Listed, Player, Prepared, Row, Stage, plain, request};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, Write};
use types::{Decision, diagnostic};

/// Decisions whose outcome may still come; of more, the oldest are forgotten.
const WAITING: usize = 100_000;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Hello {
        models: BTreeMap<String, Prices>,
        #[serde(default = "balanced")]
        lambda: f64,
        #[serde(default)]
        cost_ref_usd: Option<f64>,
    },
    Route {
        id: Value,
        messages: Value,
        #[serde(default)]
        tools: Vec<Value>,
        candidates: Vec<String>,
        #[serde(default)]
        source_task: String,
    },
    Outcome {
        id: Value,
        quality: f64,
        #[serde(default)]
        cost_usd: Option<f64>,
        #[serde(default)]
        output_tokens: Option<f64>,
        #[serde(default)]
        latency_s: Option<f64>,
    },
    Bye,
}

const fn balanced() -> f64 {
    0.2
}

#[derive(Deserialize)]
struct Prices {
    #[serde(default)]
    price_in_usd_per_mtok: Option<f64>,
    #[serde(default)]
    price_out_usd_per_mtok: Option<f64>,
}

/// Speaks until the other side says bye or closes.
pub(super) fn speak(
    input: impl BufRead,
    mut output: impl Write,
    prior: Option<&[u8]>,
    seed: u64,
    exploration: Exploration,
) -> Result<(), String> {
    let blank =
        |(_, line): &(usize, std::io::Result<String>)| line.as_ref().is_ok_and(|l| l.trim().is_empty());
    let mut lines = input.lines().enumerate().filter(|line| !blank(line));
    let Some((i, first)) = lines.next() else { return Ok(()) };
    let at = |e: String| format!("line {}: {e}", i.saturating_add(1));
    let Line::Hello { models, lambda, cost_ref_usd } =
        first.map_err(|e| e.to_string()).and_then(|l| parse(&l)).map_err(at)?
    else {
        return Err(at("expected an object of type `hello` first".to_owned()));
    };
    if models.is_empty() {
        return Err(at("`models` names none; expected an object of models with their prices".to_owned()));
    }
    let listed = |(name, p): (String, Prices)| Listed {
        name,
        input: p.price_in_usd_per_mtok,
        output: p.price_out_usd_per_mtok,
    };
    let models: Vec<Listed> = models.into_iter().map(listed).collect();
    let stage = Stage::new(&models, lambda, cost_ref_usd.unwrap_or(0.0), exploration);
    let stage = stage.map_err(|e| e.to_string())?;
    let mut player = Player::new(&stage, prior, seed).map_err(|e| e.to_string())?;
    let mut waiting = Waiting::default();
    for (i, line) in lines {
        let at = |e: String| format!("line {}: {e}", i.saturating_add(1));
        match line.map_err(|e| e.to_string()).and_then(|l| parse(&l)).map_err(at)? {
            Line::Hello { .. } => return Err(at("a second `hello`".to_owned())),
            Line::Bye => break,
            Line::Route { id, messages, tools, candidates, source_task } => {
                let request = request(&messages, &tools).map_err(at)?;
                let seen = Prepared::new(&stage, request, &source_task);
                known(&candidates, &models).map_err(at)?;
                let allowed = models.iter().map(|m| candidates.contains(&m.name));
                let decision = player.decide(&id.to_string(), &seen, allowed);
                let decision = decision.map_err(|e| at(e.to_string()))?;
                let model = decision.choice().map_or("", |a| plain(&a.model));
                let answer = json!({"id": id, "model": model, "propensity": decision.propensity});
                writeln!(output, "{answer}").and_then(|()| output.flush()).map_err(|e| e.to_string())?;
                waiting.put(id.to_string(), decision, seen);
            }
            Line::Outcome { id, quality, cost_usd, output_tokens, latency_s } => {
                let Some((decision, seen)) = waiting.take(&id.to_string()) else { continue };
                if !(0.0..=1.0).contains(&quality) {
                    return Err(at(format!("`quality` is {quality}, expected 0 to 1")));
                }
                // `as` saturates.
                let told = Row {
                    quality,
                    cost: cost_usd,
                    output_tokens: output_tokens.map(|t| t as u32),
                    latency_s,
                };
                player.tell(&decision, &seen, &told);
            }
        }
    }
    Ok(())
}

/// Checks that each candidate is a model of the hello, and that there is one: who misspells one would have what the others
/// came to taken for the choice among all of them.
fn known(candidates: &[String], models: &[Listed]) -> Result<(), String> {
    let names = || models.iter().map(|m| m.name.as_str());
    let odd: Vec<&str> =
        candidates.iter().map(String::as_str).filter(|c| !names().any(|n| n == *c)).collect();
    let known = || names().collect::<Vec<_>>().join("`, `");
    if let Some(first) = odd.first() {
        let near = diagnostic::nearest(first, names());
        let hint = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let odd = odd.join("`, `");
        return Err(format!("`candidates` names `{odd}`, expected models of the hello: `{}`{hint}", known()));
    }
    if candidates.is_empty() {
        return Err(format!("`candidates` names none, expected models of the hello: `{}`", known()));
    }
    Ok(())
}

/// A line as what it says; an error names no line of its own, for the text is one.
fn parse(line: &str) -> Result<Line, String> {
    serde_json::from_str(line).map_err(|e| {
        let (told, column) = (e.to_string(), e.column());
        let told = told.split(" at line ").next().unwrap_or_default();
        let place = if column > 0 { format!(" at column {column}") } else { String::new() };
        format!("{told}{place}; expected a JSON object of type `hello`, `route`, `outcome` or `bye`")
    })
}

/// Decisions by the identifier of their request, bounded.
#[derive(Default)]
struct Waiting {
    by_id: HashMap<String, (Decision, Prepared)>,
    order: VecDeque<String>,
}

impl Waiting {
    fn put(&mut self, id: String, decision: Decision, seen: Prepared) {
        self.order.push_back(id.clone());
        self.by_id.insert(id, (decision, seen));
        while self.by_id.len() > WAITING
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    fn take(&mut self, id: &str) -> Option<(Decision, Prepared)> {
        self.by_id.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: u32, text: &str) -> String {
        json!({"type": "route", "id": id, "messages": [{"role": "user", "content": text}],
            "candidates": if id.is_multiple_of(5) { json!(["small"]) } else { json!(["small", "large"]) }})
        .to_string()
    }

    #[test]
    fn it_answers_every_request_with_a_candidate_and_learns() {
        let mut lines = vec![
            json!({"type": "hello", "lambda": 0.05, "cost_ref_usd": 0.001, "models": {
                "small": {"price_in_usd_per_mtok": 0.1, "price_out_usd_per_mtok": 0.2},
                "large": {"price_in_usd_per_mtok": 2.0, "price_out_usd_per_mtok": 8.0}}})
            .to_string(),
        ];
        // A table cannot be asked what was chosen before the end, so both models' outcomes say the same.
        for id in 0..60 {
            lines.push(route(id, "What is the capital of France?"));
            lines.push(
                json!({"type": "outcome", "id": id, "model": "?", "quality": 0.5, "cost_usd": 0.0001})
                    .to_string(),
            );
        }
        lines.push(r#"{"type":"bye"}"#.to_owned());
        let mut out = Vec::new();
        speak(lines.join("\n").as_bytes(), &mut out, None, 1, Exploration::default()).unwrap();
        let answers: Vec<Value> =
            String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(answers.len(), 60);
        for (id, a) in answers.iter().enumerate() {
            assert_eq!(a["id"], id);
            assert!(a["propensity"].as_f64().unwrap() > 0.0);
            assert!(id % 5 != 0 || a["model"] == "small", "{a}");
        }
        let spoken = |lines: &str| speak(lines.as_bytes(), Vec::new(), None, 1, Exploration::default());
        assert!(spoken("{\"type\":\"bye\"}").unwrap_err().contains("hello"));
        for (line, told) in [
            ("nonsense".to_owned(), "line 2: expected ident at column 2; expected a JSON object"),
            (r#"{"type":"wat"}"#.to_owned(), "line 2: unknown variant `wat`"),
            (
                json!({"type": "route", "id": 1, "messages": [{"role": "user", "content": "x"}], "candidates": ["huge"]})
                    .to_string(),
                "line 2: `candidates` names `huge`, expected models of the hello: `large`, `small`",
            ),
            (
                json!({"type": "route", "id": 1, "messages": [{"role": "user", "content": "x"}],
                    "candidates": ["small", "lrage"]})
                .to_string(),
                "line 2: `candidates` names `lrage`, expected models of the hello: `large`, `small`; did you mean `large`?",
            ),
            (
                json!({"type": "route", "id": 1, "messages": [{"role": "user", "content": "x"}], "candidates": []})
                    .to_string(),
                "line 2: `candidates` names none",
            ),
            (
                format!("{}\n{}", route(0, "x"), r#"{"type":"outcome","id":0,"quality":5}"#),
                "line 3: `quality` is 5, expected 0 to 1",
            ),
        ] {
            let error = spoken(&format!("{}\n{line}", lines[0])).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
        let none = spoken(r#"{"type":"hello","models":{}}"#).unwrap_err();
        assert!(none.starts_with("line 1: `models` names none"), "{none}");
    }
}

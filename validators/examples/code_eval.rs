//! How often `code_parse` is wrong on real files: the share of whole files, of bodies cut out of them, and of
//! files with one closing bracket taken away that it calls faulty.
//!
//! `cargo run -p validators --example code_eval -- <label> <file>…`

use serde_json::Value;
use types::completion::Choice;
use types::{ChatRequest, Completion, Verdict};
use validators::{Check, Input};

/// Largest file that is looked at, in bytes.
const MAX_FILE: usize = 64 * 1024;

#[derive(Default)]
struct Tally {
    seen: usize,
    failed: usize,
    unverified: usize,
}

impl Tally {
    fn add(&mut self, verdict: Verdict) {
        self.seen = self.seen.saturating_add(1);
        self.failed = self.failed.saturating_add(usize::from(verdict == Verdict::Failed));
        self.unverified = self.unverified.saturating_add(usize::from(verdict == Verdict::Unverified));
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} failed, {} unverified", self.failed, self.seen, self.unverified)
    }
}

#[expect(clippy::print_stdout, reason = "an evaluation prints its result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let label = args.next().ok_or("give a label and files")?;
    let check = validators::build("code_parse", &Value::Null, None)?;
    let request = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]});
    let request = ChatRequest::from_value(&request)?;
    let (mut whole, mut bodies, mut broken) = (Tally::default(), Tally::default(), Tally::default());
    for path in args {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.len() > MAX_FILE || text.contains("~~~~") {
            continue;
        }
        let (verdict, message) = judge(check.as_ref(), &request, &label, &text);
        whole.add(verdict);
        if verdict == Verdict::Failed {
            println!("{path}: {message}");
        }
        for body in bodies_of(&text) {
            let (verdict, message) = judge(check.as_ref(), &request, &label, &body);
            bodies.add(verdict);
            if verdict == Verdict::Failed {
                println!("{path}: body: {message}\n{}", body.lines().take(6).collect::<Vec<_>>().join("\n"));
            }
        }
        if let Some(worse) = mutated(&text).filter(|_| verdict == Verdict::Passed) {
            broken.add(judge(check.as_ref(), &request, &label, &worse).0);
        }
    }
    println!("{label}: whole files: {whole}; bodies: {bodies}; with a bracket taken away: {broken}");
    Ok(())
}

fn judge(check: &dyn Check, request: &ChatRequest, label: &str, code: &str) -> (Verdict, String) {
    let text = format!("~~~~{label}\n{code}\n~~~~\n");
    let choice = Choice { text, ..Choice::default() };
    let completion = Completion { choices: vec![choice], ..Completion::default() };
    let report = check.check(&Input::new(&completion, request));
    let message = report.findings.first().map_or_else(String::new, |f| f.message.clone());
    (report.verdict, message)
}

/// Up to three blocks of lines that are indented below a line that opens them.
fn bodies_of(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |l: &str| l.len().saturating_sub(l.trim_start().len());
    let mut out = Vec::new();
    let step = (lines.len() / 4).max(1);
    for from in (step..lines.len()).step_by(step).take(3) {
        let open = (from..lines.len()).find(|i| {
            let line = lines.get(*i).map_or("", |l| l.trim_end());
            let next = lines.get(i.saturating_add(1)).copied().unwrap_or("");
            (line.ends_with('{') || line.ends_with(':'))
                && !next.trim().is_empty()
                && indent(next) > indent(line)
        });
        let Some(open) = open else { continue };
        let body: Vec<&str> = lines.iter().skip(open.saturating_add(1)).copied().collect();
        let width = body.first().map_or(0, |l| indent(l));
        let end = body.iter().position(|l| !l.trim().is_empty() && indent(l) < width).unwrap_or(body.len());
        out.push(body.iter().take(end).copied().collect::<Vec<_>>().join("\n"));
    }
    out
}

/// The text without one of its closing brackets, about the middle.
fn mutated(text: &str) -> Option<String> {
    let places: Vec<usize> = text.match_indices([')', ']', '}']).map(|(i, _)| i).collect();
    let at = places.get(places.len() / 2)?;
    Some(format!("{}{}", text.get(..*at)?, text.get(at.saturating_add(1)..)?))
}

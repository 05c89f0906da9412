//! Prints the learner's numbers of requests, before they are standardised: one JSON request body a line on
//! standard input, one line of family, sub-label, estimated tokens and numbers each on standard output.
//!
//! `cargo run --release -p profiler --example features < requests.jsonl` is how the means and deviations in
//! `src/context.rs` were found.
#![expect(clippy::print_stdout, reason = "printing is what the example does")]

use std::io::BufRead as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in std::io::stdin().lock().lines() {
        let body: serde_json::Value = serde_json::from_str(&line?)?;
        let request = types::ChatRequest::from_value(&body).map_err(|e| e.to_string())?;
        let p = profiler::profile(&request);
        let sub = p.sub_label.map_or("-", types::profile::SubLabel::as_str);
        let raw: Vec<String> = profiler::raw(&request, &p).iter().map(|x| format!("{x:.4}")).collect();
        let standard = profiler::features(&request, &p);
        let steps: Vec<String> = standard.steps().iter().map(ToString::to_string).collect();
        let f = &p.facts;
        println!(
            "{} {sub} {} {} {:.2} {} | {}",
            p.task_family.value,
            f.est_input_tokens,
            f.est_output_tokens,
            p.confidence,
            raw.join(" "),
            steps.join(" ")
        );
    }
    Ok(())
}

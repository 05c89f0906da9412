//! How long profiling takes, by the size of the request.

use crate::{Failure, say};
use std::time::Duration;
use types::ChatRequest;

/// Sizes of the prompt, and the limit that goes with each (`2 KB under 100 us, 200 KB under 2 ms`).
const SIZES: [(usize, Option<f64>); 3] = [(2_000, Some(100.0)), (32_000, None), (200_000, Some(2_000.0))];

const PARAGRAPH: &str = "Please read the following report and list every invoice with its number, date and total. \
Then explain step by step why the totals differ: ```let total = lines.iter().map(|l| l.price).sum();``` The customer \
wrote: \"I was charged 17.50 EUR twice on 3 March.\" Answer in JSON, and cite the section you used. ";

/// Prints a line per size.
pub(crate) fn run() -> Result<(), Failure> {
    profiler::warm_up();
    for (size, limit) in SIZES {
        let prompt: String = PARAGRAPH.chars().cycle().take(size).collect();
        let body = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": prompt}]});
        let request = ChatRequest::from_value(&body)?;
        let mut times = Vec::new();
        for _ in 0..2_000 {
            let start = tokio::time::Instant::now();
            std::hint::black_box(profiler::profile(std::hint::black_box(&request)));
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let at = |share| crate::load::percentile(&times, share);
        let best = times.first().map_or(0.0, Duration::as_secs_f64) * 1e6;
        let aim = limit.map_or(String::new(), |l| format!("   aim: under {l:.0} us"));
        say(&format!(
            "{:>4} KB   best {best:7.1} us   p50 {:7.1} us   p99 {:7.1} us{aim}",
            size / 1000,
            at(0.5),
            at(0.99)
        ));
    }
    Ok(())
}

//! How long a decision takes once the request is profiled: policies, filters, scores of every arm, choice, record.

use crate::{Failure, say};
use engine::learn::Limits;
use engine::route::{Ask, Router, basis};
use engine::{Bundle, Files, Statistics, learner};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use types::doc::SourceFile;
use types::matrix::{Abilities, Availability, Dialect, Matrix, Model, Price, Provider};
use types::outcome::Outcome;
use types::store::Observer as _;
use types::{ChatRequest, Decision};

/// The aim at 200 arms, microseconds.
const AIM: f64 = 20.0;
/// Arms of one workflow, so that models and arms are the same number.
const RULES: &str = "version: 1\npools: { default: { models: [\"*\"] }, extraction: { models: [\"*\"] }, judge: { models: [\"*\"] } }\n";

/// Prints a line per number of arms.
pub(crate) async fn run() -> Result<(), Failure> {
    for arms in [2_u16, 20, 200] {
        let router = Router::new(bundle(arms)?);
        let (mut learner, statistics) = learner(Limits::default());
        let asked: Vec<Arc<ChatRequest>> = (0..64).map(request).collect::<Result<_, Failure>>()?;
        for i in 0..4_000_u64 {
            let at = usize::try_from(i).unwrap_or(0);
            let Some(request) = asked.get(at % asked.len()) else { continue };
            let decision = decide(&router, &statistics, request, arms, i).await?.0;
            let Some(arm) = decision.arms.get(at % decision.arms.len().max(1)) else { continue };
            let (_, features) = router.profile(request);
            let mut o = outcome(&decision, &arm.model, i % 3 != 0);
            o.basis = basis(&decision, features, &arm.model);
            learner.outcome(i, &o);
            if i % 64 == 63 {
                let _ = learner.batch_done();
            }
        }
        let mut times = Vec::new();
        let mut scored = 0;
        for i in 0..4_000_u64 {
            let Some(request) = asked.get(usize::try_from(i).unwrap_or(0) % asked.len()) else { continue };
            let (decision, spent) = decide(&router, &statistics, request, arms, i).await?;
            scored = decision.arms.len();
            times.push(spent);
        }
        times.sort_unstable();
        let at = |share| crate::load::percentile(&times, share);
        let best = times.first().map_or(0.0, Duration::as_secs_f64) * 1e6;
        let mut line = String::new();
        let _ = write!(
            line,
            "{scored:>4} arms   best {best:6.1} us   p50 {:6.1} us   p99 {:6.1} us",
            at(0.5),
            at(0.99)
        );
        if arms == 200 {
            let _ = write!(line, "   aim: under {AIM:.0} us");
        }
        say(&line);
    }
    Ok(())
}

async fn decide(
    router: &Router,
    statistics: &Statistics,
    request: &Arc<ChatRequest>,
    arms: u16,
    seed: u64,
) -> Result<(Decision, Duration), Failure> {
    let (profile, features) = router.profile(request);
    let availability = vec![Availability::Ready; usize::from(arms)];
    let snapshot = statistics.load();
    let ask = Ask {
        id: "req_1",
        request,
        profile: &profile,
        features: &features,
        availability: &availability,
        statistics: &snapshot,
        seed,
        ts_ms: 0,
    };
    let start = tokio::time::Instant::now();
    let decision = router.decide(ask).await.map_err(|e| e.to_string())?;
    Ok((decision, start.elapsed()))
}

fn request(i: usize) -> Result<Arc<ChatRequest>, Failure> {
    let text = "Tell me something about the history of bridges. ".repeat(i % 16 + 1);
    let body =
        serde_json::json!({"model": "workflow/default", "messages": [{"role": "user", "content": text}]});
    Ok(Arc::new(ChatRequest::from_value(&body)?))
}

fn bundle(models: u16) -> Result<Bundle, Failure> {
    let files = Files { runner: true, ..Files::new(SourceFile::new("routing_rules.yaml", RULES)) };
    let matrix = Matrix::new(vec![provider()], (0..models).map(model).collect());
    let (bundle, problems) = Bundle::load(Arc::new(matrix), &files);
    bundle.ok_or_else(|| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into())
}

fn provider() -> Provider {
    Provider::new("bench", Dialect::Recorded)
}

fn model(i: u16) -> Model {
    let price = 0.2 + f64::from(i % 7);
    Model {
        abilities: Abilities { streaming: true, ..Abilities::default() },
        price: Some(Price::new(price, price)),
        speed_tier: 1,
        ..Model::new(format!("bench/m{i}"), 0, (128_000, 8_192))
    }
}

fn outcome(d: &Decision, model: &Arc<str>, good: bool) -> Outcome {
    let cost = d.arms.iter().find(|a| a.model == *model).and_then(|a| a.expected_cost_usd);
    Outcome::answered(d, model, if good { 1.0 } else { 0.0 }, cost, 100.0)
}

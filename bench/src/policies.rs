//! How long the policies take on a request that is profiled: variables, rules, policies, the merge of what they say; and how
//! soon one that would not end is ended.

use crate::{Failure, say};
use gateway::config::{Environment, Simulated, Source, load};
use policies::{Around, Inputs, Key, Phase, PolicySet, ProviderState, Status, Tenant, TenantTier, scope};
use std::sync::Arc;
use std::time::Duration;
use types::ChatRequest;

/// The aim at the 99th percentile, microseconds.
const AIM: f64 = 50.0;
/// The aim for a policy that would not end, microseconds.
const RUNAWAY_AIM: f64 = 5_000.0;
/// Runaways per row.
const RUNAWAYS: usize = 200;
/// Bodies that reach the limits of scripts, each its own.
const BODIES: [(&str, &str); 4] = [
    ("long loop", "let n = 0; for i in 0..100000 { n += i; }"),
    ("deep recursion", "rec(0);"),
    ("growing string", "let s = \"x\"; for i in 0..40 { s += s; }"),
    ("thrown value", "for i in 0..10 { throw `x${i}`; }"),
];
/// Evaluations per row.
const ROUNDS: usize = 20_000;
/// The example bundle of the documentation, by the names its files have in a folder.
const EXAMPLE: [(&str, &str); 2] = [
    ("routing_rules.yaml", include_str!("../../docs/examples/policies/company/routing_rules.yaml")),
    (
        "policies/spend_guard.rhai",
        include_str!("../../docs/examples/policies/company/policies/spend_guard.rhai"),
    ),
];
/// Saturday noon, 2026-11-21.
const NOW: i64 = 1_795_262_400_000;

/// Prints a line per bundle and request.
///
/// # Errors
/// A bundle does not load, an evaluation fails, a policy that would not end does, or an optimised build takes more
/// than twice as long as is aimed for.
pub(crate) async fn run() -> Result<(), Failure> {
    profiler::warm_up();
    let mut slow = Vec::new();
    for (name, files) in [("shipped", &[] as &[_]), ("example", &EXAMPLE)] {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let loaded = load(&Source::Given(files), &Environment::default(), Simulated::AsWritten);
        let report = loaded.report(false);
        let bundle = loaded.bundle.ok_or(report)?;
        for (body, request) in [("plain", plain()), ("tools, JSON, options", full())] {
            let times = time(bundle.policies(), &request).await?;
            let at = |share| crate::load::percentile(&times, share);
            let best = times.first().map_or(0.0, Duration::as_secs_f64) * 1e6;
            say(&format!(
                "{name} bundle, {:>2} rules   {body:<20}   best {best:5.1} us   p50 {:5.1} us   p99 {:5.1} us   aim: under {AIM:.0} us",
                bundle.policies().count(),
                at(0.5),
                at(0.99)
            ));
            if at(0.99) > 2.0 * AIM && !cfg!(debug_assertions) {
                slow.push(format!("{name} bundle, {body}: {:.1} us", at(0.99)));
            }
        }
    }
    for (name, body) in BODIES {
        let times = runaway(body)?;
        let at = |share| crate::load::percentile(&times, share);
        say(&format!(
            "runaway policy, {name:<20} p50 {:7.1} us   p99 {:7.1} us   aim: under {RUNAWAY_AIM:.0} us",
            at(0.5),
            at(0.99)
        ));
        if at(0.99) > 2.0 * RUNAWAY_AIM && !cfg!(debug_assertions) {
            slow.push(format!("runaway, {name}: {:.1} us", at(0.99)));
        }
    }
    if slow.is_empty() {
        return Ok(());
    }
    Err(format!("more than twice the aim at the 99th percentile: {}", slow.join("; ")).into())
}

/// How long it took to end each evaluation of a policy with that body, the shortest first.
fn runaway(body: &str) -> Result<Vec<Duration>, Failure> {
    let text = format!(
        "fn describe() {{ #{{ id: \"p\", on_error: \"open\" }} }}\nfn rec(n) {{ rec(n + 1) + 1 }}\n\
         fn on_request(ctx, act) {{ {body} act.deny(\"x\"); }}"
    );
    let files = [("routing_rules.yaml", "version: 1\n".to_owned()), ("policies/p.rhai", text)];
    let files = files.map(|(path, text)| (path.to_owned(), text)).into_iter().collect();
    let loaded = load(&Source::Given(files), &Environment::default(), Simulated::AsWritten);
    let report = loaded.report(false);
    let bundle = loaded.bundle.ok_or(report)?;
    let request = Arc::new(ChatRequest::from_value(&plain())?);
    let (profile, around) = (profiler::profile(&request), around());
    let mut times = Vec::with_capacity(RUNAWAYS);
    for _ in 0..RUNAWAYS {
        let inputs = Inputs { request: &request, profile: &profile, around: &around, unix_ms: NOW };
        let scope = scope(&inputs);
        let start = tokio::time::Instant::now();
        // What is only looked at puts no policy away, so that each of these runs.
        let told = bundle.policies().explain(Phase::Request, &scope);
        times.push(start.elapsed());
        if told.rules.iter().all(|rule| rule.detail.is_none()) {
            return Err("the policy ended by itself".into());
        }
    }
    times.sort_unstable();
    Ok(times)
}

/// How long each evaluation took, the shortest first.
async fn time(policies: &PolicySet, body: &serde_json::Value) -> Result<Vec<Duration>, Failure> {
    let request = Arc::new(ChatRequest::from_value(body)?);
    let profile = profiler::profile(&request);
    let around = around();
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS + ROUNDS / 10 {
        let start = tokio::time::Instant::now();
        let inputs = Inputs { request: &request, profile: &profile, around: &around, unix_ms: NOW };
        let directives = policies.evaluate(Phase::Request, &scope(&inputs)).await?;
        let spent = start.elapsed();
        if directives.rules.len() < policies.count().min(1) {
            return Err("nothing was evaluated".into());
        }
        // The first rounds warm the caches.
        if round >= ROUNDS / 10 {
            times.push(spent);
        }
    }
    times.sort_unstable();
    Ok(times)
}

/// A tenant for whom most of the example's rules have something to say.
fn around() -> Around {
    let tenant = Tenant {
        id: "acme".to_owned(),
        tier: TenantTier::Platinum,
        region: Some("eu".to_owned()),
        ..Tenant::default()
    };
    let state = |_: &str| ProviderState { status: Status::Degraded, ..ProviderState::default() };
    Around {
        tenant: Arc::new(tenant),
        key: Arc::new(Key { id: "0123456789ab".to_owned(), ..Key::default() }),
        providers: Some(Arc::new(state)),
        detector: Some(workflows::detector()),
        ..Around::default()
    }
}

fn plain() -> serde_json::Value {
    serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "Tell me about bridges."}]})
}

fn full() -> serde_json::Value {
    let text =
        "Write a function that must parse invoices exactly, to JSON. Mail dana@example.com when it is done.";
    serde_json::json!({
        "model": "auto", "stream": true, "temperature": 0, "max_tokens": 500, "user": "u",
        "messages": [{"role": "system", "content": "You are careful."}, {"role": "user", "content": text}],
        "tools": [{"type": "function", "function": {"name": "search", "parameters": {}}}],
        "response_format": {"type": "json_object"}, "metadata": {"team": "a"},
        "routing": {"determinism": "strict", "precision": "high", "tags": {"a": "b"}},
    })
}

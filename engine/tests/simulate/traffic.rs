//! What a seed makes of a run: who asks what when, what happens meanwhile, and what everybody may do.

use engine::{Bundle, Files, Who};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use types::control::{Key, Principal, Quota, Scopes, Tenant};
use types::doc::SourceFile;
use types::limits::{ALL, Limit, Metric, Window};
use types::matrix::{Abilities, Dialect, Matrix, Model, Price, Provider, Tier};

/// Whoever may ask.
pub(crate) const TENANTS: [&str; 3] = ["acme", "blue", "open"];
/// A model whose price nobody knows: who has a budget is never sent there.
const UNPRICED: &str = "u/riddle";
/// Dear models, on which one tenant has a budget of its own.
const DEAR: &str = "q/";

/// One of them, on which a rule gives all tenants one budget, in dollars a day.
const SHARED: (&str, f64) = ("q/dear", 0.008);

/// One of those who ask.
pub(crate) struct Caller {
    pub(crate) who: Arc<Who>,
    pub(crate) tenant: &'static str,
    /// Models that are never called for it.
    never: BTreeSet<&'static str>,
}

/// Money that may be spent in a day.
pub(crate) struct Budget {
    pub(crate) tenant: &'static str,
    /// Of this key alone.
    key: Option<String>,
    /// Of models whose names begin so.
    model: Option<&'static str>,
    pub(crate) limit: Limit,
}

impl Budget {
    pub(crate) fn counts(&self, tenant: &str, key: &str, model: &str) -> bool {
        (tenant == self.tenant || self.tenant == ALL)
            && self.key.as_deref().is_none_or(|k| k == key)
            && self.model.is_none_or(|m| model.starts_with(m))
    }
}

/// One request.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) id: String,
    pub(crate) caller: usize,
    pub(crate) body: Value,
    pub(crate) never: BTreeSet<&'static str>,
    pub(crate) deadline: Option<Duration>,
    /// After this the client leaves.
    pub(crate) patience: Option<Duration>,
    /// Pause of the reader between events.
    pub(crate) pace: Duration,
    /// Events after which the reader leaves.
    pub(crate) reads: Option<usize>,
}

pub(crate) enum Step {
    Ask(Box<Ask>),
    /// Vendors get better or worse.
    Turn,
    /// The other configuration comes into force.
    Swap,
    /// The key of a provider is gone, or all are there.
    Keys(usize),
    /// The clock of the day is set.
    Clock(i64),
    /// It is set to so many milliseconds before midnight.
    Evening(i64),
    /// It goes wrong by so many days, and is set right.
    Ahead(i64),
    Right,
    CatchUp,
    /// Somebody says something of an answer.
    Word(usize),
    Unwritable(u32),
    /// Everybody is waited for; then a day passes, a minute, or nothing.
    Rest(Pause),
    Restart,
    Kill(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pause {
    None,
    Minute,
    Day,
}

/// A run as its seed makes it.
pub(crate) struct Plan {
    pub(crate) disk: bool,
    pub(crate) callers: Vec<Caller>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) max_inflight: usize,
    /// Days after the first morning.
    pub(crate) begins: i64,
    pub(crate) steps: Vec<(Duration, Step)>,
}

/// Models: cheap ones and dear ones, one that costs nothing and one whose price nobody knows.
pub(crate) fn matrix() -> Arc<Matrix> {
    let provider = |id: &str, tier| Provider {
        base_url: "http://127.0.0.1:1".into(),
        tier,
        ..Provider::new(id, Dialect::OpenaiChat)
    };
    let model = |id: &str, provider, price: Option<(f64, f64)>, (tier, speed)| Model {
        abilities: Abilities {
            streaming: true,
            tools: true,
            json: true,
            json_schema: true,
            ..Abilities::default()
        },
        price: price.map(|(input, output)| Price::new(input, output)),
        quality_tier: tier,
        speed_tier: speed,
        ..Model::new(id.to_owned(), provider, (60_000, 3_000))
    };
    let providers = vec![
        provider("p", Tier::Paid),
        provider("q", Tier::Paid),
        provider("r", Tier::Free),
        provider("u", Tier::Paid),
    ];
    let models = vec![
        model("p/cheap", 0, Some((0.5, 1.5)), (1, 1)),
        model("p/solid", 0, Some((2.0, 8.0)), (2, 2)),
        model("q/dear", 1, Some((10.0, 30.0)), (3, 3)),
        model("q/swift", 1, Some((1.0, 4.0)), (2, 1)),
        model("r/free", 2, None, (1, 2)),
        model(UNPRICED, 3, None, (2, 2)),
    ];
    Arc::new(Matrix::new(providers, models))
}

/// Rules of the two configurations: the tenant and model of each exclusion.
pub(crate) const EXCLUDED: [&[(&str, &str)]; 2] =
    [&[("blue", "q/dear")], &[("acme", "p/cheap"), ("open", "r/free"), ("blue", "q/dear")]];

const POOLS: &str = "version: 1\npools: { default: { models: [\"*\"] }, extraction: { models: [\"*\"] }, judge: { models: [\"*\"] } }\n";

const KEPT: &str = "\
version: 1
name: kept
nodes:
  - { id: ask, type: generate, cache: { ttl: 10m } }
output: nodes.ask.completion
";

/// Graded after the answer, on whose asks.
const JUDGED: &str = "\
version: 1
name: judged
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, validators: [contract] }
  - { id: rate, type: judge, input: nodes.check.best, async: true }
  - { id: answer, type: stream, from: nodes.check.best }
edges:
  - { from: ask, to: check }
  - { from: check, to: rate }
  - { from: check, to: answer }
";

/// The two configurations. They are the same in every run, and take longer to load than most runs take.
pub(crate) fn bundles() -> [Arc<Bundle>; 2] {
    static LOADED: LazyLock<[Arc<Bundle>; 2]> = LazyLock::new(load);
    LOADED.clone()
}

fn load() -> [Arc<Bundle>; 2] {
    [0, 1].map(|i| {
        let rules = EXCLUDED[i].iter().enumerate().map(|(n, (tenant, model))| {
            format!(
                "  - {{ id: away_{n}, when: tenant.id == \"{tenant}\", actions: {{ exclude: [{model}] }} }}\n"
            )
        });
        let cap = ["", "  - { id: short, actions: { cap_max_tokens: 90 } }\n"][i];
        let (model, usd) = SHARED;
        let limit = format!("{{ per: model, model: {model}, over: all, usd: {usd}, window: day }}");
        let shared = format!("  - {{ id: shared, actions: {{ rate_limit: {limit} }} }}\n");
        let rules = format!("{POOLS}rules:\n{}{cap}{shared}", rules.collect::<String>());
        let files = Files {
            workflows: vec![SourceFile::new("kept.yaml", KEPT), SourceFile::new("judged.yaml", JUDGED)],
            runner: true,
            ..Files::new(SourceFile::new("routing_rules.yaml", rules))
        };
        let (bundle, problems) = Bundle::load(matrix(), &files);
        Arc::new(bundle.unwrap_or_else(|| panic!("{problems:?}")))
    })
}

fn quota(metric: Metric, amount: f64, per: Option<&str>, model: Option<&str>) -> Quota {
    let (per, model) = (per.map(str::to_owned), model.map(str::to_owned));
    Quota { metric, amount, per, model, label: None, reserved_premium: None }
}

fn callers(rng: &mut StdRng, months: bool) -> (Vec<Caller>, Vec<Budget>) {
    let tight = |rng: &mut StdRng| rng.random_range(20..400_u32);
    let mut acme = Tenant::new("acme");
    acme.limits = vec![
        quota(Metric::Usd, f64::from(tight(rng)) / 1_000.0, Some("day"), None),
        quota(Metric::Requests, 40.0, Some("minute"), None),
        quota(Metric::Tokens, 60_000.0, Some("minute"), None),
        quota(Metric::Concurrency, 6.0, None, None),
    ];
    let mut blue = Tenant::new("blue");
    blue.limits = vec![
        quota(Metric::Usd, f64::from(tight(rng)) / 1_000.0, Some("day"), None),
        quota(Metric::Usd, f64::from(tight(rng)) / 4_000.0, Some("day"), Some("q/*")),
    ];
    if months {
        // More than a day's, less than that of two.
        let of_a_day = acme.limits[0].amount;
        acme.limits.push(quota(Metric::Usd, of_a_day * 1.5, Some("month"), None));
    }
    let tenants = [Arc::new(acme), Arc::new(blue), Arc::new(Tenant::new("open"))];
    let mut poor = Key::named("poorpoorpoor", "acme");
    poor.limits = vec![quota(Metric::Usd, f64::from(tight(rng)) / 4_000.0, Some("day"), None)];
    poor.scopes = Scopes { models: vec!["p/*".to_owned()], ..Scopes::default() };
    let rich = |i: usize| Key::named(&format!("keykeykeyke{i}"), TENANTS[i]);
    let of_one = vec![
        quota(Metric::Usd, 0.004, Some("request"), None),
        quota(Metric::Usd, 0.002, Some("request"), Some("q/*")),
    ];
    let keys = [(0, rich(0)), (0, poor), (1, rich(1)), (2, Key { limits: of_one, ..rich(2) })];
    let (model, usd) = SHARED;
    let shared = Limit::rate(&format!("all:rule:shared:model={model}"), Metric::Usd, usd, Window::Day);
    let shared = Budget { tenant: ALL, key: None, model: Some(model), limit: shared.unwrap() };
    let (mut all, mut budgets) = (Vec::new(), vec![shared]);
    for (i, key) in keys {
        let tenant = TENANTS[i];
        let principal = Arc::new(Principal::new(tenants[i].clone(), Some(Arc::new(key))));
        let usd = |l: &&Limit| l.metric == Metric::Usd;
        let of_all = principal.limits.iter().filter(usd).map(|l| (None, l));
        let of_models = principal.partial.iter().map(|(_, l)| (Some(DEAR), l));
        for (model, limit) in of_all.chain(of_models) {
            let key = limit.holder.starts_with("key:").then(|| principal.key_id().to_owned());
            if !budgets.iter().any(|b| b.limit == *limit) {
                budgets.push(Budget { tenant, key, model, limit: limit.clone() });
            }
        }
        let mut never = BTreeSet::new();
        if i < 2 {
            never.insert(UNPRICED);
        }
        if principal.key_id() == "poorpoorpoor" {
            never.extend(["q/dear", "q/swift", "r/free"]);
        }
        all.push(Caller { who: Who::new(principal, 0, 0), tenant, never });
    }
    (all, budgets)
}

/// The run of a seed.
pub(crate) fn plan(seed: u64) -> Plan {
    let mut rng = StdRng::seed_from_u64(seed);
    // Some seeds are those of former findings, which go by the hours of one day.
    let midnights = seed % 5 != 2;
    let (callers, budgets) = callers(&mut rng, midnights);
    let max_inflight = [4, 12, 64][rng.random_range(0..3)];
    let mut steps = Vec::new();
    let n = rng.random_range(40..110);
    let hurry = [40, 400, 3_000][rng.random_range(0..3)];
    for i in 0..n {
        let wait = Duration::from_millis(rng.random_range(0..hurry));
        let step = match rng.random_range(0..100) {
            0..70 => Step::Ask(Box::new(ask(&mut rng, &callers, i))),
            70..76 => Step::Turn,
            76..79 => Step::Swap,
            79 => Step::Keys(rng.random_range(0..5)),
            80..83 => Step::Clock(rng.random_range(-1_800_000..1_800_000)),
            83..87 => Step::CatchUp,
            87..90 => Step::Word(rng.random_range(0..1_000)),
            90..92 => Step::Unwritable(rng.random_range(1..3)),
            92..95 => Step::Rest([Pause::None, Pause::Minute, Pause::Day][rng.random_range(0..3)]),
            95..97 => Step::Restart,
            _ => Step::Kill((0..rng.random_range(0..40)).map(|_| rng.random()).collect()),
        };
        steps.push((wait, step));
    }
    let begins = if midnights { nights(&mut rng, &mut steps) } else { 0 };
    Plan { disk: seed % 2 == 1, callers, budgets, max_inflight, begins, steps }
}

/// Midnights with work under way, clocks that are set back over them, and clocks that are wrong for a while. Gives the day
/// on which it begins: the first of a month, or the last but one, or the last.
fn nights(rng: &mut StdRng, steps: &mut Vec<(Duration, Step)>) -> i64 {
    let pause = Duration::from_millis(rng.random_range(1..50));
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..steps.len());
        let soon = |rng: &mut StdRng| at + rng.random_range(1..12);
        let second = [2_000, 30_000][rng.random_range(0..2)];
        let set: [(usize, Step); 2] = match rng.random_bool(0.7) {
            true => [
                (at, Step::Evening(rng.random_range(0..second))),
                (soon(rng), Step::Clock(-rng.random_range(0..60_000))),
            ],
            false => [(at, Step::Ahead(rng.random_range(2..40))), (soon(rng), Step::Right)],
        };
        for (at, step) in set {
            steps.insert(at.min(steps.len()), (pause, step));
        }
    }
    [0, 29, 30][rng.random_range(0..3)]
}

fn ask(rng: &mut StdRng, callers: &[Caller], i: u32) -> Ask {
    let caller = rng.random_range(0..callers.len());
    let tenant = callers[caller].tenant;
    let bridge = rng.random_range(0..4);
    let filler = "Please take your time. ".repeat(rng.random_range(0..30));
    let prompt = format!("This is tenant:{tenant} speaking. Tell me about bridge number {bridge}. {filler}");
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": prompt}]});
    match rng.random_range(0..20) {
        0..6 => {}
        6..8 => body["model"] = json!("workflow/judged"),
        8..10 => body["model"] = json!("p/solid"),
        10 => body["model"] = json!("q/swift"),
        11 => body["model"] = json!("workflow/cheap_first_cascade"),
        12 => body["model"] = json!("workflow/consensus_vote"),
        13 => body["model"] = json!("workflow/speculative_hedge"),
        14..17 => {
            // The same question of everybody, so that what is kept could be given to somebody else.
            body["model"] = json!("workflow/kept");
            body["messages"][0]["content"] = json!(format!("How long is bridge number {bridge}?"));
        }
        _ => {
            body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "p", "schema": {
                "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}});
        }
    }
    let mut never = callers[caller].never.clone();
    let mut routing = json!({});
    match rng.random_range(0..10) {
        0 => {
            routing["exclude"] = json!(["p/cheap"]);
            never.insert("p/cheap");
        }
        1 => {
            routing["max_cost_usd"] = json!(f64::from(rng.random_range(1..40_u32)) / 1_000.0);
            never.insert(UNPRICED);
        }
        2 => routing["session"] = json!(format!("s{}", rng.random_range(0..3))),
        3 => routing["max_latency_ms"] = json!(rng.random_range(500..20_000)),
        _ => {}
    }
    if routing != json!({}) {
        body["routing"] = routing;
    }
    match rng.random_range(0..4) {
        0 => body["max_tokens"] = json!(rng.random_range(5..60)),
        1 => body["max_tokens"] = json!(300),
        _ => {}
    }
    if rng.random_bool(0.5) {
        body["stream"] = json!(true);
    }
    let seconds = |rng: &mut StdRng, most: u64| Duration::from_millis(rng.random_range(1..most * 1_000));
    let patience = rng.random_bool(0.15).then(|| seconds(rng, 6));
    let deadline = rng.random_bool(0.1).then(|| seconds(rng, 20));
    let pace = if rng.random_bool(0.1) { seconds(rng, 4) } else { Duration::ZERO };
    let reads = rng.random_bool(0.1).then(|| rng.random_range(0..20));
    Ask { id: format!("req_{i}"), caller, body, never, deadline, patience, pace, reads }
}

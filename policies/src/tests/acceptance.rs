//! The acceptance tests of the policy language that concern this room alone, one each.

use crate::phase::Phase;
use crate::testing::{load_tenants, load_text, matrix, profile, sound, usual};
use crate::{Around, Error, Inputs, Names, PolicySet, Sections, load, scope};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use types::axis::AxisValue;
use types::directives::{Directives, Effect, RuleResult};
use types::doc::{SourceFile, parse};
use types::profile::Scored;
use types::{ChatRequest, Severity, WorkloadProfile};

const RULES: &str = include_str!("../../../docs/examples/policies/company/routing_rules.yaml");
const SCRIPT: &str = include_str!("../../../docs/examples/policies/company/policies/spend_guard.rhai");

/// The example bundle, on the matrix that is built into the program.
fn example(scripts: bool) -> PolicySet {
    let file = SourceFile::new("routing_rules.yaml", RULES);
    let node = parse(&file, "PL").unwrap();
    let scripts: Vec<_> =
        scripts.then(|| SourceFile::new("policies/spend_guard.rhai", SCRIPT)).into_iter().collect();
    let mut matrix = matrix();
    // The example names a provider of the shipped matrix.
    let mut providers: Vec<_> = matrix.providers().iter().map(|p| (**p).clone()).collect();
    let models: Vec<_> = matrix.models().iter().map(|m| (**m).clone()).collect();
    providers[0].id = "openai".to_owned();
    let models = models
        .into_iter()
        .map(|mut m| {
            m.id = m.id.replace("acme/", "openai/").into();
            m.abilities.json_schema = true;
            m
        })
        .collect();
    matrix = types::Matrix::new(providers, models);
    let names = Names {
        matrix: &matrix,
        workflows: &["default".to_owned()],
        experiments: &[],
        validators: &["finish_reason", "json_schema"],
        misfit: |_, _| None,
        pattern: |_| Ok(()),
        unix_ms: None,
        require_owner: false,
    };
    let sections = Sections {
        pools: node.get("pools"),
        sets: node.get("sets"),
        approvers: node.get("approvers"),
        patterns: node.get("patterns"),
        redaction: node.get("redaction"),
        rules: node.get("rules"),
    };
    let (set, problems) = load(&file, &sections, &scripts, &[], &names);
    let errors: Vec<_> = problems.iter().filter(|d| d.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    set
}

/// A hard action.
pub(super) fn hard_action() -> impl Strategy<Value = String> {
    let models = prop::sample::select(vec!["\"acme/*\"", "\"*/small\"", "beta/coder", "\"*\"", "\"beta/*\""]);
    let region = prop::sample::select(vec!["[eu]", "[us]", "[eu, us]"]);
    let place = prop::sample::select(vec!["input", "output", "logs"]);
    let entity = prop::sample::select(vec!["email", "card", "secret"]);
    let action = prop::sample::select(vec!["mask", "hash", "drop", "block"]);
    prop_oneof![
        models.clone().prop_map(|m| format!("require: [{m}]")),
        models.prop_map(|m| format!("exclude: [{m}]")),
        region.prop_map(|r| format!("residency: {r}")),
        prop::sample::select(vec!["{ trains: false }", "{ zdr: true }", "{ max_retention_days: 7 }"])
            .prop_map(|d| format!("data_policy: {d}")),
        (1..4_u32).prop_map(|t| format!("min_quality: {{ tier: {} }}", t.min(3))),
        (0..10_u32).prop_map(|q| format!("min_quality: 0.{q}")),
        (0..10_u32).prop_map(|q| format!("explore: {{ max_rate: 0.{q} }}")),
        (1..50_u32).prop_map(|c| format!("cap_cost: {}", f64::from(c) / 100.0)),
        (1..90_u32).prop_map(|s| format!("cap_latency: {s}s")),
        (prop::sample::select(vec!["cap_tokens", "cap_calls", "cap_attempts", "cap_max_tokens"]), 1..90_u32)
            .prop_map(|(cap, n)| format!("{cap}: {n}")),
        (1..=16_u32).prop_map(|n| format!("cap_fanout: {n}")),
        (0..20_u32).prop_map(|t| format!("cap_temperature: {}", f64::from(t) / 10.0)),
        prop::sample::select(vec![
            "json",
            "{ use: json, severity: block }",
            "{ use: length, with: { max: 2 } }"
        ])
        .prop_map(|v| format!("validators: [{v}]")),
        prop::sample::select(vec!["json", "json_schema"]).prop_map(|f| format!("enforce_format: {f}")),
        prop::sample::select(vec!["passthrough", "windowed", "buffered"])
            .prop_map(|m| format!("stream: {m}")),
        prop::sample::select(vec!["none", "metadata", "redacted", "full"])
            .prop_map(|c| format!("log: {{ content: {c} }}")),
        prop::sample::select(vec!["retention: 1d", "retention: 30d", "content: metadata, retention: 2d"])
            .prop_map(|l| format!("log: {{ {l} }}")),
        prop::sample::select(vec!["none", "read_only", "{ ttl: 1h }", "{ ttl: 5m, scope: tenant }"])
            .prop_map(|c| format!("cache: {c}")),
        prop::sample::select(vec!["none", "{ only: [repairs] }", "{ only: [judges, repairs] }"])
            .prop_map(|e| format!("experiment: {e}")),
        (entity, place, action, any::<bool>()).prop_map(|(e, p, a, r)| {
            format!(
                "redact: {{ entities: [{e}], in: [{p}], action: {a}, restore: {} }}",
                r && p == "input" && a == "mask"
            )
        }),
        prop::sample::select(vec!["[a]", "[a, b]", "[\"*\"]", "[]"])
            .prop_map(|l| format!("allow_tools: {l}")),
        prop::sample::select(vec!["[a]", "[b, c]"]).prop_map(|l| format!("deny_tools: {l}")),
        (1..5_u32).prop_map(|h| format!("require_approval: {{ group: ops, reason: x, expires: {h}h }}")),
        Just("audit: required".to_owned()),
        (1..9_u32).prop_map(|n| format!("rate_limit: {{ per: tenant, requests: {n}, window: second }}")),
        (1..9_u32).prop_map(|n| format!("concurrency: {{ per: user, max: {n} }}")),
        (0..3_u32).prop_map(|n| format!("deny: reason {n}")),
    ]
}

/// One rule for each of the actions, each with its priority.
fn ranked(name: &str, actions: &[(String, i64)]) -> String {
    let rule = |(i, (action, priority)): (usize, &(String, i64))| {
        format!("  - id: {name}{i}\n    priority: {priority}\n    actions:\n      {action}\n")
    };
    actions.iter().enumerate().map(rule).collect()
}

fn evaluate(actions: &[String]) -> Directives {
    without(actions, None)
}

/// One rule for each of the actions, one of them switched off.
fn without(actions: &[String], off: Option<usize>) -> Directives {
    let mode = |i| if off == Some(i) { "disabled" } else { "enforce" };
    let rules = actions.iter().enumerate();
    let rules: String =
        rules.map(|(i, a)| format!("- id: r{i}\n  mode: {}\n  actions:\n    {a}\n", mode(i))).collect();
    let rules: String = rules.lines().map(|l| format!("  {l}\n")).collect();
    let yaml = format!("{}rules:\n{rules}", crate::testing::TOOL_RULES);
    sound(&yaml, &[]).evaluate_now(Phase::Request, &usual()).unwrap()
}

/// What hard verbs decide, as things that can be compared: greater is stricter, and lists only grow.
#[derive(Debug, PartialEq)]
struct Hard {
    removed: Vec<u16>,
    denials: Vec<String>,
    lists: Vec<String>,
    /// Ceilings; `None` = none.
    caps: Vec<Option<f64>>,
    /// Demands; `None` = none.
    floors: Vec<Option<f64>>,
    allowed: Vec<bool>,
    experiments: Vec<bool>,
    redact: Vec<(String, u8, bool)>,
}

/// Whether a request may be part of an experiment.
fn may_be_in(f: &types::directives::Further, id: &str) -> bool {
    f.experiment.as_ref().is_none_or(|set| set.value.iter().any(|only| only == id))
}

fn hard(d: &Directives) -> Hard {
    let mut denials: Vec<_> = d.denials.iter().map(|d| d.reason.clone()).collect();
    denials.sort();
    let f = d.further.as_deref().cloned().unwrap_or_default();
    let mut lists: Vec<String> = d.validators.iter().map(|v| v.value.to_string()).collect();
    lists.extend(f.limits.iter().map(|l| format!("{:?}", l.value)));
    lists.extend(f.audit.iter().map(|_| "audit".to_owned()));
    lists.extend(
        f.data
            .iter()
            .flat_map(|d| {
                [d.value.zdr.then_some("zdr"), d.value.no_training.then_some("no training")]
                    .into_iter()
                    .flatten()
            })
            .map(str::to_owned),
    );
    lists.extend(f.approvals.iter().map(|a| a.value.group.clone()));
    lists.sort();
    let mut redact: Vec<_> = f
        .redact
        .iter()
        .map(|r| (format!("{:?} {:?}", r.value.entity, r.value.place), r.value.action as u8, r.value.restore))
        .collect();
    redact.sort();
    let number = |n: Option<u32>| n.map(f64::from);
    Hard {
        removed: d.removed.iter().map(|(ix, _)| ix.0).collect(),
        denials,
        lists,
        caps: vec![
            d.cap_cost.as_ref().map(|s| s.value.dollars()),
            d.cap_latency.as_ref().map(|s| s.value.as_secs_f64()),
            number(d.cap_max_tokens.as_ref().map(|s| s.value)),
            d.cap_temperature.as_ref().map(|s| s.value),
            f.explore.as_ref().map(|s| s.value),
            number(f.cap_tokens.as_ref().map(|s| s.value)),
            number(f.cap_calls.as_ref().map(|s| s.value)),
            number(f.cap_attempts.as_ref().map(|s| s.value)),
            number(f.cap_fanout.as_ref().map(|s| s.value)),
            f.data.as_ref().and_then(|d| d.value.max_retention_days).map(f64::from),
            f.log.as_ref().map(|l| f64::from(l.value as u8)),
            f.retention.as_ref().map(|r| r.value as f64),
            f.cache.as_ref().map(|c| f64::from(c.value.mode as u8)),
            f.cache.as_ref().and_then(|c| c.value.ttl_ms).map(|ms| ms as f64),
            f.cache.as_ref().map(|c| -f64::from(c.value.scope as u8)),
            f.approvals.first().map(|a| a.value.expires_ms as f64),
        ],
        floors: vec![
            f.min_quality.as_ref().map(|s| s.value),
            f.format.as_ref().map(|s| f64::from(s.value as u8)),
            f.stream.as_ref().map(|s| f64::from(s.value as u8)),
        ],
        allowed: ["a", "b", "c", "d"].map(|t| f.forbids_tool(t).is_none()).to_vec(),
        experiments: ["repairs", "judges", "another"].map(|id| may_be_in(&f, id)).to_vec(),
        redact,
    }
}

/// Whether `after` is at least as strict as `before` everywhere.
fn tightened(before: &Hard, after: &Hard) -> Result<(), String> {
    let within = |a: &[String], b: &[String]| a.iter().all(|x| b.contains(x));
    let caps = before.caps.iter().zip(&after.caps).all(|(b, a)| match (b, a) {
        (None, _) => true,
        (Some(b), Some(a)) => a <= b,
        (Some(_), None) => false,
    });
    let floors = before.floors.iter().zip(&after.floors).all(|(b, a)| match (b, a) {
        (None, _) => true,
        (Some(b), Some(a)) => a >= b,
        (Some(_), None) => false,
    });
    let redact = before.redact.iter().all(|(key, action, restore)| {
        after.redact.iter().any(|(k, a, r)| k == key && a >= action && (!r || *restore))
    });
    let checks = [
        ("candidates", before.removed.iter().all(|m| after.removed.contains(m))),
        ("denials", within(&before.denials, &after.denials)),
        ("lists", within(&before.lists, &after.lists)),
        ("caps", caps),
        ("floors", floors),
        ("tools", before.allowed.iter().zip(&after.allowed).all(|(b, a)| *b || !*a)),
        ("experiments", before.experiments.iter().zip(&after.experiments).all(|(b, a)| *b || !*a)),
        ("redaction", redact),
    ];
    checks.into_iter().find(|(_, ok)| !ok).map_or(Ok(()), |(what, _)| Err(what.to_owned()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn t01_hard_verbs_merge_in_any_order_and_only_tighten(
        (actions, shuffled) in prop::collection::vec(hard_action(), 1..7)
            .prop_flat_map(|a| (Just(a.clone()), Just(a).prop_shuffle())),
        more in hard_action(),
    ) {
        let before = hard(&evaluate(&actions));
        prop_assert_eq!(&before, &hard(&evaluate(&shuffled)), "{:?}", actions);
        let mut further = actions.clone();
        further.push(more);
        let after = hard(&evaluate(&further));
        prop_assert_eq!(tightened(&before, &after), Ok(()), "{:?}", further);
        // Twice the same is the same.
        let mut twice = actions.clone();
        let counts = |a: &String| ["rate_limit", "concurrency", "deny:"].iter().any(|verb| a.starts_with(verb));
        twice.extend(actions.iter().filter(|a| !counts(a)).cloned());
        prop_assert_eq!(&before, &hard(&evaluate(&twice)), "{:?}", actions);
    }

    /// A tenant's rules add to those of the deployment, whatever their priorities: what is held stays held.
    #[test]
    fn t01_no_lower_layer_and_no_priority_undoes_what_a_higher_one_holds(
        ours in prop::collection::vec((hard_action(), -100..=100_i64), 1..4),
        theirs in prop::collection::vec((hard_action(), -100..=100_i64), 1..4),
    ) {
        let layers = |theirs: &[(String, i64)]| {
            let yaml = format!("{}rules:\n{}", crate::testing::TOOL_RULES, ranked("ours", &ours));
            let own = format!("version: 1\nrules:\n{}", ranked("theirs", theirs));
            let own: &[_] = if theirs.is_empty() { &[] } else { &[("acme", "rules.yaml", own.as_str())] };
            let (set, problems) = load_tenants(&yaml, &[], own);
            let errors: Vec<_> = problems.iter().filter(|d| d.severity == Severity::Error).collect();
            assert!(errors.is_empty(), "{errors:#?}");
            hard(&set.evaluate_now(Phase::Request, &usual()).unwrap())
        };
        let (before, after) = (layers(&[]), layers(&theirs));
        prop_assert_eq!(tightened(&before, &after), Ok(()), "{:?} under {:?}", theirs, ours);
        let alike: Vec<(String, i64)> = theirs.iter().map(|(action, _)| (action.clone(), 0)).collect();
        prop_assert_eq!(after, layers(&alike), "a priority decides nothing of hard verbs");
    }

    #[test]
    fn t08_every_removal_and_every_directive_names_a_rule_that_matters(
        actions in prop::collection::vec(hard_action(), 1..5),
    ) {
        let all = evaluate(&actions);
        let alone: Vec<Directives> = actions.iter().map(|a| evaluate(std::slice::from_ref(a))).collect();
        let index = |rule: &str| rule.strip_prefix('r').and_then(|i| i.parse::<usize>().ok()).unwrap();
        for ix in matrix().indices() {
            // A model is removed if a rule removes it, and the one that is named does.
            let by: Vec<usize> = (0..actions.len()).filter(|i| alone[*i].removed_by(ix).is_some()).collect();
            let named = all.removed_by(ix).map(|rule| index(rule));
            prop_assert_eq!(named.is_some(), !by.is_empty());
            prop_assert!(named.is_none_or(|i| by.contains(&i)));
        }
        // Every action says what became of it, and an overridden one names the rule that won.
        for action in &all.actions {
            let is_told = match &action.effect {
                Effect::Applied | Effect::None(_) => true,
                Effect::Overridden(won) => all.rules.iter().any(|r| r.id == *won),
                Effect::Shadow | Effect::Other(_) => false,
            };
            prop_assert!(is_told, "{:?}", action);
        }
        // A ceiling is that of the rule it names; without that rule it is looser, gone, or another rule's.
        if let Some(cap) = &all.cap_cost {
            let i = index(&cap.rule);
            prop_assert_eq!(alone[i].cap_cost.as_ref().map(|c| c.value), Some(cap.value));
            let others = (0..actions.len()).filter(|j| *j != i).filter_map(|j| alone[j].cap_cost.as_ref());
            prop_assert!(others.into_iter().all(|c| c.value >= cap.value));
        }
        for denial in &all.denials {
            prop_assert!(!alone[index(&denial.rule)].denials.is_empty());
        }
        // What is said to have lost or changed nothing can go; what is named as the reason cannot.
        for action in all.actions.iter().filter(|a| a.effect != Effect::Applied) {
            let rest = without(&actions, Some(index(&action.rule)));
            prop_assert_eq!(&rest.removed, &all.removed, "without {:?}", action);
            if matches!(action.effect, Effect::Overridden(_)) {
                let said = |d: &Directives| crate::directives_json(d, &matrix());
                prop_assert_eq!(said(&rest), said(&all), "without {:?}", action);
            }
        }
        let reasons = all.removed.iter().map(|(_, rule)| rule).chain(all.denials.iter().map(|d| &d.rule));
        for rule in reasons.chain(all.cap_cost.iter().map(|c| &c.rule)) {
            let rest = without(&actions, Some(index(rule)));
            let of = |d: &Directives| {
                let cap = d.cap_cost.as_ref().map(|c| (c.value, c.rule.clone()));
                (d.removed.clone(), d.denials.len(), cap)
            };
            prop_assert_ne!(of(&rest), of(&all), "without {}", rule);
        }
    }
}

#[test]
fn t03_what_is_misspelt_never_loads() {
    for rule in [
        "actions: { denny: x }",
        "action: { deny: x }",
        "actions: { deny: { reasn: x } }",
        "actions: { deny: x }, when: tenant.teir == \"gold\"",
        "actions: { deny: x }, when: tenant.tier == \"golden\"",
        "actions: { require: [acme/smal] }",
        "actions: { deny: x }, mode: enforced",
        "actions: { deny: x }, phase: requests",
        "actions: { workflow: defalt }",
        "actions: { redact: { entities: [emails] } }",
        "actions: { stream: bufferd }",
        "actions: { deny: x }, when: provider(\"acmee\").status == \"offline\"",
    ] {
        let (_, problems) = load_text(&format!("rules:\n- {{ id: a, {rule} }}"), &[]);
        assert!(problems.iter().any(|d| d.severity == Severity::Error), "{rule} loads");
    }
}

#[test]
fn t05_one_tenants_values_are_never_folded_into_anothers_answer() {
    let rule =
        "rules:\n- { id: a, when: tenant.id == \"acme\" && tenant.tier == \"silver\", actions: { deny: x } }";
    let script = "fn describe() { #{ id: \"p\" } }\nfn on_request(ctx, act) { \
                  if ctx.tenant.id == \"acme\" && ctx.tenant.tier == \"silver\" { act.deny(\"x\"); } }";
    for set in [sound(rule, &[]), sound("rules: []", &[("policies/p.rhai", script)])] {
        let request = Arc::new(ChatRequest::from_value(&crate::testing::plain_body()).unwrap());
        let denied = |id: &str| {
            let tenant = crate::Tenant { id: id.to_owned(), ..crate::Tenant::default() };
            let around = Around { tenant: Arc::new(tenant), ..Around::default() };
            let inputs = Inputs { request: &request, profile: &profile(), around: &around, unix_ms: 0 };
            !set.evaluate_now(Phase::Request, &scope(&inputs)).unwrap().denials.is_empty()
        };
        for _ in 0..3 {
            assert!(denied("acme"));
            assert!(!denied("other"));
        }
    }
}

/// The clock of these sets stands still: what ends a runaway is the number of its operations and the size of what it makes,
/// on a slow machine as on a fast one.
#[test]
fn t06_runaways_end_with_the_right_fail_mode_also_on_threads_of_their_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for body in [
        "let n = 0; for i in 0..100000 { n += i; }",
        "rec(0);",
        "let s = \"x\"; for i in 0..40 { s += s; }",
        "for i in 0..10 { throw `x${i}`; }",
    ] {
        for (phase, entry) in
            [(Phase::Request, "on_request"), (Phase::Tool, "on_tool"), (Phase::Response, "on_response")]
        {
            let text = |mode: &str| {
                format!(
                    "fn describe() {{ #{{ id: \"p\"{mode} }} }}\nfn rec(n) {{ rec(n + 1) + 1 }}\n\
                     fn {entry}(ctx, act) {{ {body} act.deny(\"x\"); }}"
                )
            };
            let about = crate::scope_of(&serde_json::json!({}), phase).unwrap();
            let closed = sound("rules: []", &[("policies/p.rhai", &text(""))]);
            let result = runtime.block_on(closed.evaluate(phase, &about));
            assert!(matches!(result, Err(Error::Evaluation { .. })), "{entry} {body}: {result:?}");
            let open = sound("rules: []", &[("policies/p.rhai", &text(", on_error: \"open\""))]);
            let d = runtime.block_on(open.evaluate(phase, &about)).unwrap();
            assert_eq!(d.rules[0].result, RuleResult::Error, "{entry} {body}");
            assert!(d.denials.is_empty());
        }
    }
}

#[test]
fn t06_a_policy_that_reaches_its_limits_too_often_is_put_away() {
    let text = "fn describe() { #{ id: \"p\", on_error: \"open\" } }\n\
                fn on_request(ctx, act) { if ctx.request.stream { for i in 0..100000 { } } act.deny(\"x\"); }";
    let set = sound("rules: []", &[("policies/p.rhai", text)]);
    let streaming =
        crate::scope_of(&serde_json::json!({"request": {"stream": true}}), Phase::Request).unwrap();
    assert_eq!(set.evaluate_now(Phase::Request, &usual()).unwrap().denials.len(), 1);
    for _ in 0..3 {
        assert!(set.evaluate_now(Phase::Request, &streaming).unwrap().denials.is_empty());
    }
    let d = set.evaluate_now(Phase::Request, &usual()).unwrap();
    assert!(d.denials.is_empty(), "it would end, but is not asked any more");
    assert!(d.rules[0].detail.as_deref().unwrap().contains("not run for a while"));
}

/// Sets one axis of a profile to its n-th value; `false` when it has no such value.
fn set_axis(p: &mut WorkloadProfile, axis: usize, n: usize) -> bool {
    fn put<V: AxisValue>(slot: &mut Scored<V>, n: usize) -> bool {
        V::ALL.get(n).map(|v| *slot = Scored::certain(*v)).is_some()
    }
    match axis {
        0 => put(&mut p.task_family, n),
        1 => put(&mut p.required_depth, n),
        2 => put(&mut p.precision_sensitivity, n),
        3 => put(&mut p.latency_class, n),
        4 => put(&mut p.context_topology, n),
        5 => put(&mut p.tool_dependence, n),
        6 => put(&mut p.determinism_needs, n),
        7 => put(&mut p.safety_posture, n),
        8 => put(&mut p.output_contract, n),
        _ => put(&mut p.economic_policy, n),
    }
}

/// Moves to the next of all profiles; whether there was one.
fn next_profile(p: &mut WorkloadProfile, at: &mut [usize; 10]) -> bool {
    for (axis, n) in at.iter_mut().enumerate() {
        *n += 1;
        if set_axis(p, axis, *n) {
            return true;
        }
        *n = 0;
        set_axis(p, axis, 0);
    }
    false
}

/// Evaluates the example for profiles, every n-th one; gives how many there were and a hash of the results.
fn sweep(set: &PolicySet, every: usize) -> (usize, String) {
    let request = Arc::new(ChatRequest::from_value(&crate::testing::plain_body()).unwrap());
    let around = crate::testing::around();
    let (mut profile, mut at, mut seen) = (profile(), [0; 10], 0);
    let models = matrix().models().len();
    (0..10).for_each(|axis| assert!(set_axis(&mut profile, axis, 0)));
    let mut hash = Sha256::new();
    loop {
        if seen % every == 0 {
            let inputs = Inputs { request: &request, profile: &profile, around: &around, unix_ms: 0 };
            let d = set.evaluate_now(Phase::Request, &scope(&inputs)).unwrap();
            assert!(d.rules.iter().all(|r| r.result != RuleResult::Error) && d.denials.is_empty());
            assert!(d.removed.len() < models, "nobody is left for {:?}", profile.axes());
            for action in &d.actions {
                hash.update(format!("{} {} {}\n", action.rule, action.verb, action.effect));
            }
            d.removed.iter().for_each(|(ix, _)| hash.update(ix.0.to_be_bytes()));
        }
        seen += 1;
        if !next_profile(&mut profile, &mut at) {
            let hash = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
            return (seen, hash);
        }
    }
}

#[test]
fn t12_every_profile_passes_through_the_example() {
    let rules = example(false);
    assert_eq!(
        sweep(&rules, 1),
        (437_400, "466991e9f32c3f46".to_owned()),
        "what the rules of the example decide has changed"
    );
    // Its policy is slower in a debug build: a sample, whose step shares no factor with the sizes of the axes.
    assert_eq!(
        sweep(&example(true), 101),
        (437_400, "6cd0a95785ef702b".to_owned()),
        "what the example decides has changed"
    );
}

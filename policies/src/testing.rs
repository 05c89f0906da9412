//! Helpers of this crate's tests: a small matrix, requests, and checks of whole rule files.

use crate::{
    Around, Inputs, Misfit, Names, Phase, PolicySet, ProviderState, Response, RunSoFar, Sections, Status,
    Tenant, TenantFiles, ToolCall, load, response_scope, scope, tool_scope,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::axis::{
    ContextTopology, DeterminismNeeds, EconomicPolicy, LatencyClass, OutputContract, PrecisionSensitivity,
    RequiredDepth, SafetyPosture, TaskFamily, ToolDependence,
};
use types::diagnostic::{Diagnostic, Severity};
use types::directives::Directives;
use types::doc::{self, SourceFile, parse};
use types::expr::Scope;
use types::matrix::{Abilities, Dialect, Matrix, Model, Price, Provider, Tier};
use types::profile::{Facts, Scored};
use types::{ChatRequest, WorkloadProfile};

/// 2026-11-21T12:00:00Z, a Saturday.
pub(crate) const NOW: i64 = 1_795_262_400_000;

fn provider(id: &str, tier: Tier) -> Provider {
    Provider {
        region: Some(if id == "acme" { "us" } else { "eu" }.to_owned()),
        tier,
        ..Provider::new(id, Dialect::OpenaiChat)
    }
}

fn model(id: &str, provider: usize, tier: u8, price: Option<f64>, tags: &[&str]) -> Model {
    Model {
        family: "test".to_owned(),
        aliases: vec![id.replace('/', "-")],
        abilities: Abilities { json: true, ..Abilities::default() },
        price: price.map(|p| Price::new(p, p)),
        quality_tier: tier,
        speed_tier: 4 - tier,
        tags: tags.iter().map(|t| (*t).to_owned()).collect(),
        ..Model::new(id, provider, (100_000, 4_000))
    }
}

/// `acme/small`, `acme/large` (paid), `beta/small`, `beta/coder` (free, one without a price).
pub(crate) fn matrix() -> Matrix {
    Matrix::new(
        vec![provider("acme", Tier::Paid), provider("beta", Tier::Free)],
        vec![
            model("acme/small", 0, 1, Some(0.5), &[]),
            model("acme/large", 0, 3, Some(15.0), &["code"]),
            model("beta/small", 1, 1, None, &[]),
            model("beta/coder", 1, 2, Some(1.0), &["code"]),
        ],
    )
}

pub(crate) fn profile() -> WorkloadProfile {
    WorkloadProfile {
        task_family: Scored::certain(TaskFamily::Coding),
        sub_label: None,
        required_depth: Scored::certain(RequiredDepth::Medium),
        precision_sensitivity: Scored::certain(PrecisionSensitivity::High),
        latency_class: Scored::certain(LatencyClass::Interactive),
        context_topology: Scored::certain(ContextTopology::Short),
        tool_dependence: Scored::certain(ToolDependence::None),
        determinism_needs: Scored::certain(DeterminismNeeds::Low),
        safety_posture: Scored::certain(SafetyPosture::Standard),
        output_contract: Scored::certain(OutputContract::Prose),
        economic_policy: Scored::certain(EconomicPolicy::Balanced),
        confidence: 0.9,
        facts: Facts { est_input_tokens: 100, est_output_tokens: 200, text_bytes: 5, ..Facts::default() },
    }
}

pub(crate) fn plain_body() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "hello"}]})
}

/// A body with everything that variables are made of.
pub(crate) fn full_body() -> Value {
    json!({
        "model": "auto", "messages": [{"role": "user", "content": "hello"}], "stream": true,
        "tools": [{"type": "function", "function": {"name": "search", "parameters": {}}}],
        "tool_choice": "required", "response_format": {"type": "json_object"}, "max_tokens": 10,
        "temperature": 1, "user": "u", "metadata": {"team": "a"},
        "routing": {
            "max_latency_ms": 5, "max_cost_usd": 1, "min_quality": 1, "min_quality_tier": 2,
            "economy": "cheapest", "latency_class": "batch", "precision": "low", "determinism": "strict",
            "safety": "standard", "task_family": "chat", "workflow": "default", "prefer": ["acme/*"],
            "require": ["*"], "exclude": ["beta/*"], "mode": "free", "session": "s", "tags": {"a": "b"},
            "cache": "off", "explain": true
        }
    })
}

/// A tenant called `acme`, and a provider `alpha` that is not well.
pub(crate) fn around() -> Around {
    let state = |name: &str| match name {
        "alpha" => {
            ProviderState { status: Status::Degraded, error_rate: Some(0.25), ..ProviderState::default() }
        }
        _ => ProviderState::default(),
    };
    Around {
        tenant: Arc::new(Tenant { id: "acme".to_owned(), ..Tenant::default() }),
        providers: Some(Arc::new(state)),
        ..Around::default()
    }
}

/// The scope of a request with that profile.
pub(crate) fn scope_of(profile: &WorkloadProfile) -> Scope {
    let request = Arc::new(ChatRequest::from_value(&plain_body()).unwrap());
    scope(&Inputs { request: &request, profile, around: &around(), unix_ms: NOW })
}

/// The scope of the usual request.
pub(crate) fn usual() -> Scope {
    scope_of(&profile())
}

/// Loads a whole rules file and policies (name, text), with a clock that stands still.
pub(crate) fn load_text(yaml: &str, scripts: &[(&str, &str)]) -> (PolicySet, Vec<Diagnostic>) {
    load_tenants(yaml, scripts, &[])
}

/// As [`load_text`], with files of tenants (tenant, name, text).
pub(crate) fn load_tenants(
    yaml: &str,
    scripts: &[(&str, &str)],
    own: &[(&str, &str, &str)],
) -> (PolicySet, Vec<Diagnostic>) {
    let mut tenants: BTreeMap<&str, Vec<SourceFile>> = BTreeMap::new();
    for (tenant, name, text) in own {
        let path = format!("policies/tenants/{tenant}/{name}");
        tenants.entry(tenant).or_default().push(SourceFile::new(path, *text));
    }
    let tenants = tenants.into_iter().map(|(tenant, files)| TenantFiles { tenant: tenant.into(), files });
    let tenants: Vec<_> = tenants.collect();
    let file = SourceFile::new("routing_rules.yaml", yaml);
    let node = parse(&file, "PL").unwrap();
    let sections = Sections {
        pools: node.get("pools"),
        sets: node.get("sets"),
        approvers: node.get("approvers"),
        patterns: node.get("patterns"),
        redaction: node.get("redaction"),
        rules: node.get("rules"),
    };
    let scripts: Vec<_> = scripts.iter().map(|(name, text)| SourceFile::new(*name, *text)).collect();
    let matrix = matrix();
    let workflows = ["default".to_owned(), "careful".to_owned()];
    let names = Names {
        matrix: &matrix,
        workflows: &workflows,
        experiments: &["repairs".to_owned(), "judges".to_owned()],
        validators: &["json", "length"],
        misfit,
        pattern: |source| match source {
            "bad" => Err(("no good".to_owned(), "a good one".to_owned())),
            _ => Ok(()),
        },
        unix_ms: Some(NOW),
        require_owner: true,
    };
    let (set, problems) = load(&file, &sections, &scripts, &tenants, &names);
    (set.with_clock(|| Duration::ZERO), problems)
}

/// `length` takes `max`.
fn misfit(name: &str, with: Option<&doc::Node>) -> Option<Misfit> {
    let doc::Value::Map(members) = &with.filter(|_| name == "length")?.value else { return None };
    let (key, _) = members.iter().find(|(k, _)| k.name != "max")?;
    Some(Misfit {
        number: "101",
        span: Some(key.span),
        field: key.name.clone(),
        message: format!("unknown parameter `{}`", key.name),
        expected: "max".to_owned(),
    })
}

/// As [`load_text`], without problems.
#[track_caller]
pub(crate) fn sound(yaml: &str, scripts: &[(&str, &str)]) -> PolicySet {
    let (set, problems) = load_text(yaml, scripts);
    let errors: Vec<_> = problems.iter().filter(|d| d.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{yaml}");
    set
}

/// What rules of tests may name besides models.
pub(crate) const TOOL_RULES: &str = "pools: { strong: { where: model.tier == 3 } }\n\
    approvers: { ops: [\"user:dana\"] }\nredaction: { personal: { entities: [email, phone] } }\n";

/// Evaluates rules for the usual request and compares what became of their actions.
#[track_caller]
pub(crate) fn check_rules(rules: &str, effects: &[&str]) -> Directives {
    check_rules_in(Phase::Request, rules, effects)
}

/// As [`check_rules`], in a phase.
#[track_caller]
pub(crate) fn check_rules_in(phase: Phase, rules: &str, effects: &[&str]) -> Directives {
    let rules: String = rules.lines().map(|l| format!("  {l}\n")).collect();
    let set = sound(&format!("{TOOL_RULES}rules:\n{rules}"), &[]);
    let scope = match phase {
        Phase::Request => usual(),
        Phase::Tool => tool_scope(&usual(), RunSoFar::default(), ToolCall::default()),
        Phase::Response => response_scope(&usual(), RunSoFar::default(), Response::default()),
    };
    let d = set.evaluate_now(phase, &scope).unwrap();
    let got: Vec<_> = d.actions.iter().map(|a| a.effect.to_string()).collect();
    assert_eq!(got, effects, "{rules}");
    // `explain` tells the same: each rule with its result, each action with what became of it, and what all come to.
    let told = set.explain(phase, &scope);
    let results: Vec<_> = told.rules.iter().map(|r| (r.id.as_str(), r.result)).collect();
    let recorded: Vec<_> = d.rules.iter().map(|r| (&*r.id, r.result)).collect();
    assert_eq!((results, &told.actions), (recorded, &d.actions), "{rules}");
    assert_eq!(told.directives, crate::directives_json(&d, &matrix()), "{rules}");
    d
}

/// Evaluates rules `r0`, `r1`, … with these actions.
#[track_caller]
pub(crate) fn check_verb(actions: &[&str], effects: &[&str]) -> Directives {
    let rules = actions.iter().enumerate();
    let rules: Vec<_> = rules.map(|(i, a)| format!("- id: r{i}\n  actions:\n    {a}")).collect();
    check_rules(&rules.join("\n"), effects)
}

/// Removed models with the rules that removed them.
pub(crate) fn removed(d: &Directives) -> Vec<String> {
    let matrix = matrix();
    let name = |ix| matrix.model(ix).unwrap().id.to_string();
    d.removed.iter().map(|(ix, rule)| format!("{} by {rule}", name(*ix))).collect()
}

//! Files in the forms that their vendors document: what they become, what is reported, and that no secret is repeated.

use super::*;
use crate::config::{self, Environment, Simulated, Source};

const LITELLM: &str = include_str!("../../../docs/examples/import/litellm.yaml");
const PORTKEY: &str = include_str!("../../../docs/examples/import/portkey.json");
const OPENROUTER: &str = include_str!("../../../docs/examples/import/openrouter.json");

fn shipped() -> Matrix {
    let file = SourceFile::new("capability_matrix.yaml", providers::matrix::SHIPPED);
    providers::matrix::load(&[file], &|_| None, None).0
}

/// The import, and its files as one text; what is written is a configuration without errors.
fn check(kind: Kind, text: &str) -> (Import, String) {
    let import = super::import(kind, "file", text, &shipped()).unwrap();
    let files = import.files(kind);
    let loaded = config::load(&Source::Given(files.clone()), &Environment::default(), Simulated::AsWritten);
    assert!(loaded.is_good(), "{}\n{files:#?}", loaded.report(false));
    let all = files.into_iter().map(|(n, t)| format!("== {n}\n{t}")).collect();
    (import, all)
}

fn fate(import: &Import, place: &str) -> Vec<(Fate, String)> {
    let found = import.notes.iter().filter(|n| n.place == place);
    found.map(|n| (n.fate, n.text.clone())).collect()
}

fn told(import: &Import, place: &str, want: Fate, text: &str) {
    let found = fate(import, place);
    assert!(found.iter().any(|(f, t)| *f == want && t.contains(text)), "{place}: {found:?}");
}

fn no_secret(import: &Import, files: &str) {
    let said = format!("{}{files}{:?}", serde_json::to_string(&import.notes).unwrap(), import.variables);
    assert!(!said.contains("in-clear"), "{said}");
}

#[test]
fn a_litellm_config_becomes_a_matrix_pools_workflows_and_settings() {
    let (import, files) = check(Kind::Litellm, LITELLM);
    no_secret(&import, &files);
    for part in [
        "groq/llama-3.3-70b-versatile:\n    aliases: [\"fast\"]",
        "base_url: \"https://contoso.openai.azure.com/openai/v1\"",
        "api_key_env: [\"OPENAI_API_KEY\", \"OPENAI_GPT_MAIN_KEY\"]",
        "context_window: 128000\n    max_output_tokens: 16384\n    abilities: [streaming, json, tools, vision]",
        "price: { input: 2.5, output: 10.0 }",
        "timeouts: { total: 300000ms }",
        "base_url: \"http://10.0.0.5:8000/v1\"",
        "retry: { max_attempts: 3 }\nrequest: { default_deadline: 60s }",
        "weight: { latency: 3.0 }",
        "== workflows/gpt_main.yaml",
        "== workflows/gpt_old.yaml",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    told(&import, "model_list[3]", Fate::Carried, "limits add up");
    told(&import, "model_list[3].litellm_params.api_key", Fate::Changed, "OPENAI_GPT_MAIN_KEY");
    told(&import, "model_list[5]", Fate::Left, "vertex_ai");
    told(&import, "model_list[6]", Fate::Left, "embedding");
    told(&import, "model_list[7]", Fate::Left, "wildcards");
    told(&import, "model_list[1].litellm_params.rpm", Fate::Left, "429");
    told(&import, "fallbacks.gpt-main", Fate::Left, "nowhere");
    told(&import, "general_settings.master_key", Fate::Left, "turnout key create");
    told(&import, "litellm_settings.success_callback", Fate::Left, "/metrics");
}

#[test]
fn addresses_that_litellm_completes_are_written_out() {
    let base = |model: &str, base: &str| {
        let text = format!(
            "model_list: [{{ model_name: m, litellm_params: {{ model: {model}, api_base: '{base}' }} }}]"
        );
        let (import, files) = check(Kind::Litellm, &text);
        let line = files.lines().find_map(|l| l.trim().strip_prefix("base_url: ")).unwrap().to_owned();
        (line, !fate(&import, "model_list[0].litellm_params.api_base").is_empty())
    };
    for (model, given, want, told) in [
        ("ollama_chat/llama3", "http://localhost:11434", "http://localhost:11434/v1", true),
        ("ollama/llama3", "http://localhost:11434/api/generate", "http://localhost:11434/v1", true),
        ("ollama/llama3", "http://localhost:11434/v1/", "http://localhost:11434/v1", false),
        ("anthropic/claude-x", "http://10.0.0.5", "http://10.0.0.5/v1", true),
        ("anthropic/claude-x", "http://10.0.0.5/v1/messages", "http://10.0.0.5/v1", true),
        ("mistral/m", "http://10.0.0.5/", "http://10.0.0.5/v1", true),
        ("openai/m", "http://10.0.0.5/v1/chat/completions", "http://10.0.0.5/v1", false),
        ("openai/m", "http://10.0.0.5", "http://10.0.0.5", false),
    ] {
        assert_eq!(base(model, given), (format!("\"{want}\""), told), "{model} at {given}");
    }
    let budgets = "model_list: [{ model_name: m, litellm_params: { model: groq/x } }]\ngeneral_settings: { max_budget: 10 }\nlitellm_settings: { max_budget: 10, budget_duration: 30d }";
    let (import, _) = check(Kind::Litellm, budgets);
    for place in
        ["general_settings.max_budget", "litellm_settings.max_budget", "litellm_settings.budget_duration"]
    {
        told(&import, place, Fate::Left, "turnout tenant create");
    }
}

#[test]
fn a_portkey_config_becomes_rules_of_which_the_first_counts() {
    let (import, files) = check(Kind::Portkey, PORTKEY);
    no_secret(&import, &files);
    for part in [
        "when: \"request.metadata.get(\\\"plan\\\") == \\\"paid\\\"\"",
        "portkey_1_best: { models: [\"openai/gpt-5.5\", \"anthropic/claude-opus-4-8\"] }",
        "(request.max_tokens ?? 0) > 4000",
        "group: portkey",
        "portkey_default: { models: [\"groq/llama-3.1-8b-instant\", \"openai/gpt-5.4-nano\"] }",
        "retry: { max_attempts: 4 }\nrequest: { default_deadline: 30s }",
        "strict_is_replayable",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    told(&import, "strategy.conditions[2]", Fate::Left, "$regex");
    told(&import, "targets[3]", Fate::Left, "bedrock");
    told(&import, "cache", Fate::Left, "no cache");
    told(&import, "targets[0].targets[0]", Fate::Changed, "OPENAI_PROD_API_KEY");
}

#[test]
fn openrouter_preferences_become_a_rule() {
    let (import, files) = check(Kind::Openrouter, OPENROUTER);
    for part in [
        "cap_attempts: 1",
        "exclude: [\"deepseek/*\"]",
        "data_policy: { trains: false }",
        "(model.price_in ?? 1000000.0) <= 5.0 && (model.price_out ?? 1000000.0) <= 20.0",
        "weight: { latency: 3.0 }",
        "openrouter/some-lab/new-model:",
        "{ models: [\"anthropic/*\"], strength: 0.8 }",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    told(&import, "provider.order", Fate::Left, "nowhere");
    told(&import, "provider.quantizations", Fate::Left, "fp8");
    told(&import, "provider.experimental", Fate::Left, "no such preference");
}

#[test]
fn what_is_something_else_is_refused_and_nothing_breaks() {
    let matrix = shipped();
    let wrong = |kind, text: &str| super::import(kind, "file", text, &matrix).unwrap_err();
    assert!(wrong(Kind::Litellm, "a: 1").contains("no LiteLLM config"));
    assert!(wrong(Kind::Portkey, "{\"a\": 1}").contains("no Portkey config"));
    assert!(wrong(Kind::Openrouter, "{}").contains("no OpenRouter preferences"));
    for text in ["[1]", "7", "a: [", "model_list: &a [*a]"] {
        assert!(super::import(Kind::Litellm, "file", text, &matrix).is_err(), "{text}");
    }
    for odd in [
        "model_list: [1, {}, {model_name: 7}, {model_name: x, litellm_params: {model: ''}}]\nlitellm_settings: {num_retries: many, fallbacks: 3}",
        "model_list: []",
        "model_list: [{model_name: 'a b/ü', litellm_params: {model: openai/x y, api_base: 'http://', api_key: ''}}]",
    ] {
        let import = super::import(Kind::Litellm, "file", odd, &matrix).unwrap();
        let _ = import.files(Kind::Litellm);
    }
}

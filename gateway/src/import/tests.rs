//! Files in the forms that their vendors document: what they become, what is reported, and that no secret is repeated.

use super::*;

const LITELLM: &str = include_str!("../../../docs/examples/import/litellm.yaml");
const PORTKEY: &str = include_str!("../../../docs/examples/import/portkey.json");
const OPENROUTER: &str = include_str!("../../../docs/examples/import/openrouter.json");

fn shipped() -> Matrix {
    let file = SourceFile::new("capability_matrix.yaml", providers::matrix::SHIPPED);
    providers::matrix::load(&[file], &|_| None, None).0
}

/// The import, and its files as one text; what is written is a configuration without errors.
#[track_caller]
fn check(kind: Kind, text: &str) -> (Import, String) {
    let Settled { import, files, loaded } =
        settle(super::import(kind, "file", text, &shipped()).unwrap(), kind);
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
        "retry: { max_attempts: 3 }\nrequest: { default_deadline: 60s, client_deadline: 60s }",
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
        "(request.max_tokens ?? 4000) > 4000",
        "group: portkey",
        "portkey_default: { models: [\"groq/llama-3.1-8b-instant\", \"openai/gpt-5.4-nano\"] }",
        "retry: { max_attempts: 4 }\nrequest: { default_deadline: 30s, client_deadline: 30s }",
        "strict_is_replayable",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    told(&import, "strategy.conditions[2]", Fate::Left, "$regex");
    told(&import, "targets[3]", Fate::Left, "bedrock");
    told(&import, "cache", Fate::Left, "no cache");
    told(&import, "targets[0].targets[0]", Fate::Changed, "OPENAI_PROD_API_KEY");
}

/// What a report sends people to is there: every variable that it names is one that rules can read.
#[test]
fn variables_that_reports_name_are_read_by_rules() {
    let sources = [
        include_str!("condition.rs"),
        include_str!("litellm.rs"),
        include_str!("openrouter.rs"),
        include_str!("portkey.rs"),
    ];
    let quoted =
        |text: &'static str| text.split('`').skip(1).step_by(2).zip(text.split('`').skip(2).step_by(2));
    let mut named: Vec<&str> = Vec::new();
    for line in sources.iter().flat_map(|text| text.lines()).filter(|l| !l.trim_start().starts_with("//")) {
        for (name, after) in quoted(line) {
            let of_rules = name.starts_with("request.") || name.starts_with("response.");
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b));
            if of_rules && plain && !after.starts_with(" in turnout.yaml") && !named.contains(&name) {
                named.push(name);
            }
        }
    }
    // A setting is told with the file that it stands in, some words further on.
    named.retain(|name| *name != "request.default_deadline");
    assert!(named.contains(&"request.options.tags") && named.contains(&"request.has_tools"), "{named:?}");
    for name in named {
        let phase = name.split('.').next().unwrap();
        let rule = format!(
            "version: 1\nrules:\n  - {{ id: a, phase: {phase}, when: \"{name} == {name}\", actions: {{ tag: {{ a: b }} }} }}\n"
        );
        let given = crate::config::Source::Given(vec![("routing_rules.yaml".into(), rule)]);
        let loaded = crate::config::load(&given, &Default::default(), crate::config::Simulated::AsWritten);
        assert!(loaded.is_good(), "{name}: {}", loaded.report(false));
    }
}

/// A condition on a number holds for the same requests as at Portkey: of those that do not say it, `$ne` and `$nin` alone.
#[test]
fn portkey_conditions_hold_for_what_they_held() {
    let check = |query: &str, absent: bool, of_100: bool| {
        let config = format!(
            "{{\"strategy\": {{\"mode\": \"conditional\", \"conditions\": [{{\"query\": {query}, \"then\": \"a\"}}]}}, \
             \"targets\": [{{\"name\": \"a\", \"provider\": \"openai\", \"override_params\": {{\"model\": \"gpt-5.5\"}}}}]}}"
        );
        let made = super::import(Kind::Portkey, "file", &config, &shipped()).unwrap();
        let Settled { loaded, files, .. } = settle(made, Kind::Portkey);
        let when = files.iter().flat_map(|(_, t)| t.lines()).filter(|l| l.contains("?? "));
        let when: Vec<&str> = when.collect();
        let expect = |holds: bool| if holds { "matched" } else { "not_matched" };
        let tests = format!(
            "version: 1\ncases:\n  - name: absent\n    given: {{ request: {{}} }}\n    expect: {{ {}: [portkey_1_a] }}\n  \
             - name: of 100\n    given: {{ request: {{ max_tokens: 100, temperature: 1.0 }} }}\n    expect: {{ {}: [portkey_1_a] }}\n",
            expect(absent),
            expect(of_100)
        );
        let failing = loaded
            .bundle
            .unwrap()
            .policies()
            .failing(&[SourceFile::new("policies/tests/a.yaml", tests)], &policies::Registries::new());
        assert!(failing.is_empty(), "{query}: {when:?}\n{failing:?}");
    };
    check("{\"params.max_tokens\": {\"$lt\": 500}}", false, true);
    check("{\"params.max_tokens\": {\"$lte\": 100}}", false, true);
    check("{\"params.max_tokens\": {\"$lt\": 100}}", false, false);
    check("{\"params.max_tokens\": {\"$gt\": 99}}", false, true);
    check("{\"params.max_tokens\": {\"$gte\": 0}}", false, true);
    check("{\"params.max_tokens\": {\"$gt\": -5}}", false, true);
    check("{\"params.max_tokens\": {\"$gte\": 10, \"$lte\": 99}}", false, false);
    check("{\"params.max_tokens\": 0}", false, false);
    check("{\"params.max_tokens\": {\"$eq\": 100}}", false, true);
    check("{\"params.max_tokens\": {\"$ne\": 5}}", true, true);
    check("{\"params.max_tokens\": {\"$in\": [0, 100]}}", false, true);
    check("{\"params.max_tokens\": {\"$nin\": [0, 100]}}", true, false);
    check("{\"params.temperature\": {\"$lte\": 1.5}}", false, true);
    check("{\"params.temperature\": {\"$gte\": 0.5}}", false, true);
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
    let odd = "{\"models\": [\"openai/gpt-5.5\", 7], \"provider\": {\"order\": \"openai\", \"ignore\": [\"groq\", {}]}}";
    let (import, files) = check(Kind::Openrouter, odd);
    assert!(files.contains("openrouter_models: { models: [\"openai/gpt-5.5\"] }"), "{files}");
    for place in ["models[1]", "provider.order", "provider.ignore[1]"] {
        told(&import, place, Fate::Left, "expected");
    }
    // The model that is asked first is one of those that may be asked.
    let both = "{\"model\": \"openai/gpt-5.4\", \"models\": [\"openai/gpt-5.4\", \"openai/gpt-5.5\"]}";
    let (import, files) = check(Kind::Openrouter, both);
    assert!(
        files.contains("openrouter_models: { models: [\"openai/gpt-5.4\", \"openai/gpt-5.5\"] }"),
        "{files}"
    );
    assert!(files.contains("prefer: { models: [\"openai/gpt-5.4\"], strength: 1.0 }"), "{files}");
    told(&import, "model", Fate::Carried, "openai/gpt-5.4");
    // What is told of an entry names its own place, whatever stands before it.
    let (import, _) = check(Kind::Openrouter, "{\"models\": [7, \"openai/gpt-5.5\"]}");
    told(&import, "models[0]", Fate::Left, "expected");
    told(&import, "models[1]", Fate::Carried, "openai/gpt-5.5");
}

/// Who asks for `auto` names no model, whatever stands beside it.
#[test]
fn openrouter_auto_leaves_the_choice_to_the_router() {
    let (import, files) = check(
        Kind::Openrouter,
        "{\"model\": \"auto\", \"models\": [\"openai/gpt-5.4\", \"openai/gpt-5.5\"], \"provider\": {\"order\": [\"openai\"]}}",
    );
    told(&import, "model", Fate::Carried, "the router chooses");
    assert!(!files.contains("auto\"") && !files.contains("openrouter/auto"), "{files}");
    assert!(
        files.contains("openrouter_models: { models: [\"openai/gpt-5.4\", \"openai/gpt-5.5\"] }"),
        "{files}"
    );
    assert!(files.contains("{ models: [\"openai/gpt-5.4\"], strength: 1.0 }"), "{files}");
    let (import, _) =
        check(Kind::Openrouter, "{\"model\": \"auto\", \"provider\": {\"ignore\": [\"groq\"]}}");
    told(&import, "model", Fate::Carried, "the router chooses");
    // A list with it allows every model, and the first is preferred where one stands before it.
    for (models, preferred) in [
        ("[\"openai/gpt-5.5\", \"openrouter/auto\"]", true),
        ("[\"openrouter/auto\", \"openai/gpt-5.5\"]", false),
    ] {
        let (import, files) = check(Kind::Openrouter, &format!("{{\"models\": {models}}}"));
        told(&import, if preferred { "models[1]" } else { "models[0]" }, Fate::Changed, "any model");
        assert!(!files.contains("openrouter/auto") && !files.contains("pool:openrouter_models"), "{files}");
        assert_eq!(files.contains("prefer: { models: [\"openai/gpt-5.5\"]"), preferred, "{files}");
    }
}

/// A model pinned to its own vendor, which is the commonest preference of all, goes to that vendor.
#[test]
fn openrouter_models_are_asked_of_the_providers_that_only_names() {
    let preferences = |models: &str, only: &str| {
        check(Kind::Openrouter, &format!("{{\"models\": {models}, \"provider\": {{\"only\": {only}}}}}"))
    };
    let claude =
        "[\"anthropic/claude-sonnet-4.6\", \"anthropic/claude-haiku-4.5\", \"anthropic/claude-new\"]";
    let (import, files) = preferences(claude, "[\"anthropic\", \"azure\"]");
    let pool = "[\"anthropic/claude-sonnet-4-6\", \"anthropic/claude-haiku-4-5\", \"anthropic/claude-new\"]";
    assert!(files.contains(&format!("openrouter_models: {{ models: {pool} }}")), "{files}");
    assert_eq!(import.variables, ["ANTHROPIC_API_KEY"]);
    // What can be no candidate is told, and costs the others nothing.
    let (import, files) =
        preferences("[\"openai/gpt-5.4-mini\", \"anthropic/claude-sonnet-5\"]", "[\"anthropic\"]");
    assert!(files.contains("openrouter_models: { models: [\"anthropic/claude-sonnet-5\"] }"), "{files}");
    told(&import, "models[0]", Fate::Left, "none of the providers");
    let (import, files) = preferences("[\"some-lab/new-model\"]", "[\"anthropic\"]");
    assert!(
        !files.contains("pool:openrouter_models") && files.contains("require: [\"anthropic/*\"]"),
        "{files}"
    );
    told(&import, "models[0]", Fate::Left, "none of the providers");
    let (_, files) = preferences("[\"some-lab/new-model\"]", "[\"openrouter\"]");
    assert!(files.contains("openrouter/some-lab/new-model"), "{files}");
    // Nothing of it contradicts itself.
    for (models, only) in [(claude, "[\"anthropic\"]"), ("[\"openai/gpt-5.4-mini\"]", "[\"anthropic\"]")] {
        let text = format!("{{\"models\": {models}, \"provider\": {{\"only\": {only}}}}}");
        let made = super::import(Kind::Openrouter, "file", &text, &shipped()).unwrap();
        let Settled { loaded, .. } = settle(made, Kind::Openrouter);
        assert!(loaded.problems.iter().all(|d| d.code != "PL315"), "{}", loaded.report(false));
    }
}

#[test]
fn what_is_assumed_of_a_model_is_marked_and_told() {
    let text = "model_list:
  - { model_name: gpt-4o, litellm_params: { model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY } }
  - { model_name: own, litellm_params: { model: openai/own, api_base: os.environ/OWN_BASE, api_key: none } }
  - { model_name: none, litellm_params: { model: groq/plain }, model_info: { supports_function_calling: false, max_input_tokens: 8192 } }
";
    let (import, files) = check(Kind::Litellm, text);
    for part in [
        "openai/gpt-4o:\n    context_window: 128000     # assumed\n    abilities: [streaming, json, tools]     # tools: assumed",
        "env-own-base/own:\n    context_window: 32768     # assumed",
        "groq/plain:\n    context_window: 8192\n    abilities: [streaming, json]\n",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    told(&import, "model_list[0]", Fate::Changed, "need json_schema, vision");
    told(&import, "model_list[0]", Fate::Changed, "No price");
    told(&import, "model_list[2]", Fate::Changed, "need tools, json_schema, vision");
    assert_eq!(import.variables, ["GROQ_API_KEY", "OPENAI_API_KEY", "OWN_BASE"]);
}

#[test]
fn what_is_told_to_be_carried_is_carried() {
    let text = "model_list:
  - { model_name: a, litellm_params: { model: groq/llama-3.1-8b-instant } }
  - { model_name: b, litellm_params: { model: openai/gpt-5.4-nano, thinking: {}, order: 1 } }
  - { model_name: o, litellm_params: { model: openai/responses/o3-pro } }
litellm_settings: { num_retries: 3, request_timeout: 600, default_fallbacks: [b], json_logs: true, content_policy_fallbacks: [] }
router_settings: { model_group_alias: { old: a }, num_retries: 2, timeout: 30, provider_budget_config: {} }
general_settings: { alerting: [slack], max_parallel_requests: 10 }
";
    let (import, files) = check(Kind::Litellm, text);
    for part in [
        "openai/o3-pro:",
        "old: { models: [\"groq/llama-3.1-8b-instant\", \"openai/gpt-5.4-nano\"] }",
        "== workflows/old.yaml",
        "validators: [contract]",
        "retry: { max_attempts: 3 }\nrequest: { default_deadline: 30s, client_deadline: 30s }",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    for (place, fate, why) in [
        ("model_list[2].litellm_params.model", Fate::Changed, "Responses API"),
        ("litellm_settings.num_retries", Fate::Left, "`router_settings.num_retries`"),
        ("litellm_settings.request_timeout", Fate::Left, "`router_settings.timeout`"),
        ("router_settings.num_retries", Fate::Carried, "max_attempts: 3"),
        ("litellm_settings.json_logs", Fate::Left, "TURNOUT_LOG_FORMAT"),
        ("litellm_settings.content_policy_fallbacks", Fate::Left, "escalate"),
        ("router_settings.provider_budget_config", Fate::Left, "for model"),
        ("general_settings.alerting", Fate::Left, "notify"),
        ("general_settings.max_parallel_requests", Fate::Left, "concurrency"),
        ("model_list[1].litellm_params.thinking", Fate::Left, "reasoning_effort"),
        ("model_list[1].litellm_params.order", Fate::Left, "prefer"),
    ] {
        told(&import, place, fate, why);
    }
    assert_eq!(fate(&import, "litellm_settings.num_retries").len(), 1);
}

#[test]
fn every_setting_of_portkey_is_told() {
    let config = "{\"retry\": {\"attempts\": 2, \"on_status_codes\": [500], \"use_retry_after_header\": true, \"odd\": 1}, \
        \"strategy\": {\"mode\": \"conditional\", \"cb_config\": {}, \"odd\": 1, \"conditions\": [\
        {\"query\": {\"params.stream\": true}, \"then\": \"a\"}, {\"query\": {\"params.tools\": {\"$ne\": 1}}, \"then\": \"a\"}, \
        {\"query\": {\"params.stream\": false}, \"then\": \"a\"}]}, \
        \"targets\": [{\"name\": \"a\", \"provider\": \"openai\", \"override_params\": {\"model\": \"gpt-5.5\"}}]}";
    let (import, files) = check(Kind::Portkey, config);
    assert!(files.contains("when: \"request.stream\""), "{files}");
    for (place, fate, why) in [
        ("retry", Fate::Changed, "max_attempts: 3"),
        ("retry.on_status_codes", Fate::Changed, "not by a list"),
        ("retry.use_retry_after_header", Fate::Carried, "anyway"),
        ("retry.odd", Fate::Left, "no such setting"),
        ("strategy.cb_config", Fate::Changed, "breaker"),
        ("strategy.odd", Fate::Left, "no such setting"),
        ("strategy.conditions[1]", Fate::Left, "request.has_tools"),
        ("strategy.conditions[2]", Fate::Left, "whether it is true"),
    ] {
        told(&import, place, fate, why);
    }
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
        check(Kind::Litellm, odd);
    }
}

/// One entry that cannot be kept, beside one that can: the import is good, the other one is in it, and the report says why.
#[test]
fn one_bad_entry_costs_no_other() {
    for (entry, place, why) in [
        ("{ model: openai/my model, api_base: 'https://host.example/v1' }", "model_list[0]", "\"my model\""),
        (
            "{ model: 'azure/', api_base: 'https://x.openai.azure.com' }",
            "model_list[0]",
            "a model of the name \"\"",
        ),
        ("{ model: openai/x, api_base: 'ftp://host.example' }", "provider host-example", "base_url"),
        ("{ model: openai/x, api_base: 'not an address' }", "provider not-an-address", "base_url"),
        (
            "{ model: openai/x, api_base: 'https://h.example/v1', api_key: 'os.environ/NOT A NAME' }",
            "provider h-example",
            "api_key_env",
        ),
        (
            "{ model: openai/x, api_base: 'https://h.example/v1', api_key: os.environ/TURNOUT_MASTER_KEY }",
            "provider h-example",
            "TURNOUT_",
        ),
        (
            "{ model: openai/x, api_base: 'https://h.example/v1', input_cost_per_token: 1e9, output_cost_per_token: 1e9 }",
            "the price of h-example/x",
            "price",
        ),
    ] {
        let text = format!(
            "model_list:\n  - {{ model_name: bad, litellm_params: {entry} }}\n  - {{ model_name: good, litellm_params: {{ model: groq/llama-3.1-8b-instant }} }}\n\
             litellm_settings: {{ fallbacks: [{{ good: [bad] }}] }}\n"
        );
        let (import, files) = check(Kind::Litellm, &text);
        assert!(files.contains("aliases: [\"good\"]"), "{entry}: {files}");
        assert!(!files.contains("TURNOUT_MASTER_KEY"), "{entry}: {files}");
        assert_eq!(import.variables, ["GROQ_API_KEY"], "of what is left out no variable is needed");
        told(&import, place, Fate::Left, why);
    }
}

/// A name that is the router's own, or another model's, is lost alone: its model, and what else names that, stay.
#[test]
fn a_name_that_cannot_be_kept_costs_nothing_else() {
    let text = "model_list:
  - { model_name: auto, litellm_params: { model: openai/house-1, api_base: 'https://h.example/v1', api_key: none } }
  - { model_name: house, litellm_params: { model: openai/house-1, api_base: 'https://h.example/v1', api_key: none } }
  - { model_name: other, litellm_params: { model: openai/house-2, api_base: 'https://h.example/v1', api_key: none } }
  - { model_name: auto, litellm_params: { model: groq/llama-3.1-8b-instant } }
  - { model_name: small, litellm_params: { model: groq/llama-3.1-8b-instant } }
  - { model_name: auto:best, litellm_params: { model: groq/llama-3.1-8b-instant } }
  - { model_name: autopilot, litellm_params: { model: groq/llama-3.1-8b-instant } }
litellm_settings: { fallbacks: [{ other: [house, house] }] }
";
    let (import, files) = check(Kind::Litellm, text);
    for part in [
        "h-example/house-1:",
        "aliases: [\"house\"]",
        "aliases: [\"small\", \"autopilot\"]",
        "other: { models: [\"h-example/house-2\", \"h-example/house-1\"] }",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    told(&import, "the name auto", Fate::Left, "clients ask for \"h-example/house-1\"");
    told(&import, "the name auto:best", Fate::Left, "a name that is not auto or workflow");
    told(&import, "model_list[1]", Fate::Carried, "house-1");
}

/// An entry is not told to be carried over when its model is left out.
#[test]
fn what_is_left_out_is_told_at_every_entry_of_it() {
    let entry = "{ model: openai/x, api_base: 'ftp://host.example' }";
    let text = format!(
        "model_list:\n  - {{ model_name: a, litellm_params: {entry} }}\n  - {{ model_name: b, litellm_params: {entry} }}\n"
    );
    let (import, files) = check(Kind::Litellm, &text);
    assert!(!files.contains("host-example/x"), "{files}");
    for place in ["model_list[0]", "model_list[1]"] {
        told(&import, place, Fate::Left, "left out");
        assert!(fate(&import, place).iter().all(|(f, _)| *f != Fate::Carried), "{:?}", import.notes);
    }
}

#[test]
fn prices_of_the_cache_are_kept() {
    let price = |more: &str| {
        let text = format!(
            "model_list: [{{ model_name: m, litellm_params: {{ model: openai/x, api_base: 'https://h.example/v1', api_key: none }}, \
             model_info: {{ {more} }} }}]"
        );
        let (import, files) = check(Kind::Litellm, &text);
        (files.lines().find_map(|l| Some(l.trim().strip_prefix("price: ")?.to_owned())), import)
    };
    let both = "input_cost_per_token: 3e-6, output_cost_per_token: 15e-6";
    let cache = "cache_read_input_token_cost: 3e-7, cache_creation_input_token_cost: 3.75e-6";
    let (found, import) = price(&format!("{both}, {cache}"));
    assert_eq!(found.as_deref(), Some("{ input: 3.0, cached_input: 0.3, cache_write: 3.75, output: 15.0 }"));
    assert!(!import.notes.iter().any(|n| n.place.contains("cache_")), "{:?}", import.notes);
    assert_eq!(price(both).0.as_deref(), Some("{ input: 3.0, output: 15.0 }"));
    let (found, import) = price(cache);
    assert_eq!(found, None);
    told(&import, "model_list[0].cache_read_input_token_cost", Fate::Left, "give all");
}

#[test]
fn prices_of_long_requests_and_tiers_of_service_are_kept() {
    let both = "input_cost_per_token: 1e-6, output_cost_per_token: 4e-6";
    let check = |params: &str, info: &str, want: Option<&str>, left: &[(&str, &str)]| {
        let text = format!(
            "model_list: [{{ model_name: m, litellm_params: {{ model: openai/x, api_base: 'https://h.example/v1', api_key: none{params} }}, \
             model_info: {{ {info} }} }}]"
        );
        let (import, files) = check(Kind::Litellm, &text);
        let found = files.lines().find_map(|l| l.trim().strip_prefix("price: "));
        assert_eq!(found, want, "{params} {info}: {:?}", import.notes);
        for (place, why) in left {
            told(&import, &format!("model_list[0].{place}"), Fate::Left, why);
        }
        let said: Vec<_> = import.notes.iter().filter(|n| n.fate == Fate::Left).collect();
        assert_eq!(said.len(), left.len(), "{params} {info}: {said:?}");
        import
    };
    // As some are written in the parameters, others in the facts, and both count; what is not told of long requests costs
    // what it does in short ones.
    check(
        &format!(", {both}, cache_read_input_token_cost: 1e-7"),
        "input_cost_per_token_above_200k_tokens: 2e-6, output_cost_per_token_above_200k_tokens: 6e-6, \
         input_cost_per_token_above_128k_tokens: 1.5e-6, cache_creation_input_token_cost_above_1hr: 2e-6, \
         output_cost_per_reasoning_token: 5e-6, input_cost_per_image_token: 3e-6",
        Some(
            "{ input: 1.0, cached_input: 0.1, cache_write_1h: 2.0, image: 3.0, output: 4.0, reasoning: 5.0, above: [\
             { tokens: 128000, input: 1.5, cached_input: 0.1, cache_write_1h: 2.0, image: 3.0, output: 4.0, reasoning: 5.0 }, \
             { tokens: 200000, input: 2.0, cached_input: 0.1, cache_write_1h: 2.0, image: 3.0, output: 6.0, reasoning: 5.0 }] }",
        ),
        &[],
    );
    check(
        "",
        &format!(
            "{both}, input_cost_per_token_flex: 5e-7, output_cost_per_token_flex: 2e-6, input_cost_per_token_priority: 2e-6, \
             output_cost_per_token_priority: 8e-6, input_cost_per_token_above_200k_tokens: 2e-6, \
             input_cost_per_token_above_200k_tokens_priority: 4e-6"
        ),
        Some(
            "{ input: 1.0, output: 4.0, above: { tokens: 200000, input: 2.0, output: 4.0 }, tiers: { flex: 0.5, priority: 2.0 } }",
        ),
        &[],
    );
    check(
        "",
        &format!("{both}, input_cost_per_token_priority: 2e-6, output_cost_per_token_priority: 5e-6"),
        Some("{ input: 1.0, output: 4.0 }"),
        &[("input_cost_per_token_priority", "one factor on all prices")],
    );
    check(
        "",
        &format!("{both}, input_cost_per_token_flex: 5e-7"),
        Some("{ input: 1.0, output: 4.0 }"),
        &[("input_cost_per_token_flex", "one factor on all prices")],
    );
    let ranges = check(
        "",
        "tiered_pricing: [{ range: [0, 32000], input_cost_per_token: 1e-6, output_cost_per_token: 4e-6 }, \
         { range: [32000, 128000], input_cost_per_token: 2e-6, output_cost_per_token: 8e-6, cache_read_input_token_cost: 2e-7 }]",
        Some(
            "{ input: 1.0, output: 4.0, above: { tokens: 32000, input: 2.0, cached_input: 0.2, output: 8.0 } }",
        ),
        &[],
    );
    told(&ranges, "model_list[0].tiered_pricing", Fate::Changed, "`above`");
    check(
        "",
        &format!("{both}, tiered_pricing: [1]"),
        Some("{ input: 1.0, output: 4.0 }"),
        &[("tiered_pricing", "a list of ranges")],
    );
    check(
        ", input_cost_per_second: 0.01",
        &format!("{both}, input_cost_per_token_batches: 5e-7, output_cost_per_token_above_128k_tokens: much"),
        Some("{ input: 1.0, output: 4.0, above: { tokens: 128000, input: 1.0, output: 4.0 } }"),
        &[
            ("litellm_params.input_cost_per_second", "no price of this kind"),
            ("model_info.input_cost_per_token_batches", "no price of this kind"),
            ("output_cost_per_token_above_128k_tokens", "a number of 0 or more"),
        ],
    );
    check("", "input_cost_per_token: 1e-6", None, &[("input_cost_per_token", "give both")]);
}

#[test]
fn more_retries_than_there_may_be_are_as_many_as_there_may_be() {
    let config = "{\"provider\": \"openai\", \"override_params\": {\"model\": \"gpt-5.5\"}, \"retry\": {\"attempts\": 9}}";
    let (import, files) = check(Kind::Portkey, config);
    assert!(files.contains("retry: { max_attempts: 5 }"), "{files}");
    told(&import, "retry", Fate::Changed, "which is the most");
}

#[test]
fn names_that_are_taken_or_alike_are_told_apart() {
    let text = "model_list:\n\
        - { model_name: default, litellm_params: { model: groq/llama-3.1-8b-instant } }\n\
        - { model_name: default, litellm_params: { model: openai/gpt-5.4-mini } }\n\
        - { model_name: gpt-4, litellm_params: { model: groq/llama-3.1-8b-instant } }\n\
        - { model_name: gpt-4, litellm_params: { model: openai/gpt-5.4-mini } }\n\
        - { model_name: gpt_4, litellm_params: { model: openai/gpt-5.4-nano } }\n\
        - { model_name: gpt_4, litellm_params: { model: openai/gpt-5.4-mini } }\n\
        - { model_name: my chat, litellm_params: { model: openai/gpt-5.5 } }\n";
    let (import, files) = check(Kind::Litellm, text);
    for part in ["workflows/default_2.yaml", "workflows/gpt_4.yaml", "workflows/gpt_4_2.yaml"] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    assert!(!files.contains("workflows/default.yaml"), "the shipped workflow is replaced: {files}");
    told(&import, "group my chat", Fate::Changed, "openai/gpt-5.5");
}

#[test]
fn no_secret_is_repeated_wherever_it_stands() {
    let text = "
model_list:
  - model_name: gateway
    litellm_params: { model: openai/x, api_base: 'http://user:pa55-in-clear@10.0.0.1:8000/v1?sig=q-in-clear', api_key: sk-in-clear-1234 }
  - model_name: sk-in-clear-1234
    litellm_params: { model: openai/y, api_base: 'https://t-in-clear@h.example' , api_key: t-in-clear }
  - model_name: headers
    litellm_params: { model: groq/llama-3.1-8b-instant, extra_headers: { Authorization: 'Bearer b-in-clear' }, aws_secret_access_key: a-in-clear }
general_settings: { master_key: sk-m-in-clear, database_url: 'postgresql://u:db-in-clear@h/db' }
router_settings: { model_group_alias: { other: sk-m-in-clear } }
environment_variables: { OPENAI_API_KEY: e-in-clear }
";
    let (import, files) = check(Kind::Litellm, text);
    no_secret(&import, &files);
    assert!(files.contains("base_url: \"http://10.0.0.1:8000/v1\""), "{files}");
    told(&import, "model_list[0].address", Fate::Changed, "headers");
    let portkey = "{\"provider\": \"openai\", \"custom_host\": \"https://u:p-in-clear@h.example/v1\", \"api_key\": \"k-in-clear\", \
                    \"override_params\": {\"model\": \"k-in-clear model\"}}";
    let (import, files) = check(Kind::Portkey, portkey);
    no_secret(&import, &files);
}

/// Files as people write them for LiteLLM's reader, which takes more than ours.
#[test]
fn what_litellm_reads_is_read() {
    let text = "
base: &defaults
  api_key: os.environ/OPENAI_API_KEY
  timeout: '30'
model_list:
  - model_name: a
    litellm_params: { <<: *defaults, model: openai/gpt-new, timeout: 20 }
    model_info: { id: '1', base_model: x, max_input_tokens: '64000', supports_vision: True, input_cost_per_token: 3e-06, output_cost_per_token: '1.5e-5' }
    tpm: 1000
  - model_name: b
    litellm_params: { model: azure/dep, litellm_credential_name: mine, stream_timeout: os.environ/T }
  - model_name: c
    litellm_params: { model: azure/dep, litellm_credential_name: gone, api_base: os.environ/AZURE_API_BASE }
  - model_name: other
    litellm_params: { model: siliconflow/Qwen/Q, api_base: 'https://api.host.example/v1', api_key: first-in-clear }
  - model_name: other
    litellm_params: { model: siliconflow/Qwen/Q, api_base: 'https://api.host.example/v1', api_key: second-in-clear }
  - model_name: pictures
    litellm_params: { model: openai/dall-e-3 }
  - model_name: d
    litellm_params: { model: hosted_vllm/qwen, api_base: 'http://localhost:8000/v1', api_key: none, input_cost_per_token: 0.000001 }
credential_list:
  - credential_name: mine
    credential_values: { api_base: 'https://mine.openai.azure.com', api_key: os.environ/MINE_KEY }
include: [more.yaml]
litellm_settings:
  drop_params: True
  num_retries: '7'
  fallbacks: [{ a: [b, { model: c }] }]
  content_policy_fallbacks: [{ a: [b] }]
router_settings:
  model_group_alias: { e: { model: a, hidden: true } }
";
    let (import, files) = check(Kind::Litellm, text);
    for part in [
        "context_window: 64000",
        "abilities: [streaming, json, tools, vision]     # tools: assumed",
        "price: { input: 3.0, output: 15.0 }",
        "base_url: \"https://mine.openai.azure.com/openai/v1\"\n    tier: paid\n    api_key_env: [\"MINE_KEY\"]",
        "base_url: \"${ENV:AZURE_API_BASE}/openai/v1\"",
        "timeouts: { total: 20000ms }",
        "retry: { max_attempts: 5 }",
        "api_key_env: [\"API_HOST_EXAMPLE_OTHER_KEY\", \"API_HOST_EXAMPLE_OTHER_KEY_2\"]",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    no_secret(&import, &files);
    for (place, why) in [
        ("model_list[0].tpm", "429"),
        ("model_list[0].model_info.id", "no such fact"),
        ("model_list[0].model_info.base_model", "no such fact"),
        ("model_list[1].litellm_params.stream_timeout", "seconds"),
        ("model_list[2].litellm_params.litellm_credential_name", "no credentials"),
        ("model_list[5]", "something else"),
        ("model_list[6].input_cost_per_token", "give both"),
        ("litellm_settings.fallbacks.a", "no name of a group"),
        ("litellm_settings.content_policy_fallbacks", "escalate"),
        ("router_settings.model_group_alias.e.hidden", "no such setting"),
        ("include", "import each"),
        ("base", "no such section"),
    ] {
        told(&import, place, Fate::Left, why);
    }
    told(&import, "model_list[6].litellm_params.api_key", Fate::Changed, "no key");
    told(&import, "model_list[3].litellm_params.model", Fate::Changed, "chat completions");
}

//! A LiteLLM proxy's `config.yaml`.

mod settings;

use super::{Fate, Flow, Import, flag, known, members, number, prices, quoted, text, variable};
use serde_json::{Map, Value};
use settings::{BUDGET, instead, setting};
use std::collections::{BTreeMap, BTreeSet};
use types::matrix::Matrix;

/// Prefixes of models behind any address that speaks chat completions.
const COMPATIBLE: &[&str] = &[
    "openai",
    "hosted_vllm",
    "vllm",
    "lm_studio",
    "llamafile",
    "custom_openai",
    "openai_like",
    "litellm_proxy",
];

/// Limits of an account.
const ACCOUNT: &str = "what one key of the vendor may use, of all models together, stands in `key_limits` of the provider in matrix.d, of one model in its `limits`; limits that nobody states are learned from 429s. To limit who asks, use `turnout key create --limit`, and for all together a rule with `rate_limit: { per: model, model: NAME, over: all, … }`";

/// What is written where a host asks for no key.
const NO_KEYS: &[&str] = &[
    "",
    "none",
    "null",
    "empty",
    "dummy",
    "na",
    "n/a",
    "not-needed",
    "not_needed",
    "no-key",
    "fake-key",
    "anything",
    "-",
];

/// Words in the names of models that do not chat.
const NO_CHAT: &[&str] =
    &["embed", "rerank", "dall-e", "whisper", "tts-", "moderation", "gpt-image", "stable-diffusion"];

/// What each of the client's names stands for, in order of the file.
type Groups = Vec<(String, Vec<String>)>;

/// What the names of a file stand for.
#[derive(Default)]
struct Names {
    groups: Groups,
    /// The fallbacks of groups.
    falls: BTreeMap<String, Vec<String>>,
    /// Other names of groups, and whose.
    aliases: Vec<(String, String)>,
}

pub(super) fn read(document: &Value, shipped: &Matrix, import: &mut Import) -> Result<(), String> {
    let Some(list) = document.get("model_list").and_then(Value::as_array) else {
        return Err("there is no `model_list`: this is no LiteLLM config".to_owned());
    };
    let mut names = Names::default();
    for (i, entry) in list.iter().enumerate() {
        let place = format!("model_list[{i}]");
        let entry = with_credentials(entry, document, &place, import);
        deployment(&entry, &place, shipped, import, &mut names.groups);
    }
    let router = document.get("router_settings").unwrap_or(&Value::Null);
    let settings = document.get("litellm_settings").unwrap_or(&Value::Null);
    for (section, value) in [("litellm_settings", settings), ("router_settings", router)] {
        for (name, value) in members(value) {
            setting(section, name, value, import, &mut names);
        }
    }
    for (name, _) in members(document.get("general_settings").unwrap_or(&Value::Null)) {
        let why = match name.as_str() {
            "master_key" => "make keys with `turnout key create --role admin`; its value is not read",
            "max_budget" | "budget_duration" => BUDGET,
            "database_url" | "store_model_in_db" => "Turnout keeps its own data; nothing is to be set",
            _ => instead(name),
        };
        import.note(format!("general_settings.{name}"), Fate::Left, why);
    }
    for (name, _) in members(document.get("environment_variables").unwrap_or(&Value::Null)) {
        import.note(
            format!("environment_variables.{name}"),
            Fate::Left,
            "set it where Turnout is started; its value is not read",
        );
    }
    for (name, _) in members(document) {
        let known = [
            "model_list",
            "credential_list",
            "router_settings",
            "litellm_settings",
            "general_settings",
            "environment_variables",
        ];
        if !known.contains(&name.as_str()) {
            let why = match name.as_str() {
                "include" => "the files it names are not read: import each of them",
                "guardrails" => {
                    "use the verbs `redact` and `validators` of rules, and validators of workflows"
                }
                _ => "there is no such section here",
            };
            import.note(name, Fate::Left, why);
        }
    }
    finish(names, import);
    Ok(())
}

/// The entry with what the credentials of its `litellm_credential_name` say beside its own parameters.
fn with_credentials(entry: &Value, document: &Value, place: &str, import: &mut Import) -> Value {
    let mut entry = entry.clone();
    let Some(params) = entry.get_mut("litellm_params").and_then(Value::as_object_mut) else { return entry };
    let Some(name) = params.remove("litellm_credential_name") else { return entry };
    let all = document.get("credential_list").and_then(Value::as_array);
    let named = |c: &&Value| c.get("credential_name") == Some(&name);
    let place = format!("{place}.litellm_params.litellm_credential_name");
    match all.into_iter().flatten().find(named).and_then(|c| c.get("credential_values")?.as_object()) {
        Some(values) => {
            let own: Map<String, Value> = std::mem::take(params);
            params.extend(values.clone());
            params.extend(own);
            import.note(place, Fate::Carried, "what the credentials of that name say");
        }
        None => import.note(place, Fate::Left, "there are no credentials of that name in the file"),
    }
    entry
}

fn deployment(entry: &Value, place: &str, shipped: &Matrix, import: &mut Import, groups: &mut Groups) {
    let params = entry.get("litellm_params").unwrap_or(&Value::Null);
    let info = entry.get("model_info").unwrap_or(&Value::Null);
    let (Some(group), Some(model)) = (text(entry, "model_name"), text(params, "model")) else {
        return import.note(place, Fate::Left, "it has no `model_name` or no `litellm_params.model`");
    };
    if let Some(mode) = text(info, "mode").filter(|m| !["chat", "completion", "responses"].contains(m)) {
        return import.note(place, Fate::Left, format!("Turnout serves chat; this is for `{mode}`"));
    }
    if info.get("mode").is_none() && NO_CHAT.iter().any(|word| model.contains(word)) {
        let text = "Turnout serves chat, and by its name this model is for something else; `mode: chat` in its `model_info` would say that it is not";
        return import.note(place, Fate::Left, text);
    }
    if group.contains('*') || model.contains('*') {
        return import.note(
            place,
            Fate::Left,
            "wildcards are not kept: the matrix names each model, and `provider/*` selects among them",
        );
    }
    let (prefix, name) = model.split_once('/').unwrap_or(("openai", model));
    let name = match name.strip_prefix("responses/") {
        Some(bare) if ["openai", "azure"].contains(&prefix) => {
            let text = "`responses/` asks for OpenAI's Responses API: here the model is asked by chat completions, which it has to take";
            import.note(format!("{place}.litellm_params.model"), Fate::Changed, text);
            bare
        }
        _ => name,
    };
    let Some(provider) = provider(prefix, params, place, shipped, import) else { return };
    let Some(id) = known::model(import, shipped, &provider, name, place) else { return };
    key(&provider, group, params, place, import);
    facts(&id, (params, info), place, import);
    times(&provider, params, place, import);
    for (name, _) in members(params) {
        other_param(name, place, import);
    }
    for (name, _) in
        members(entry).filter(|(n, _)| !["model_name", "litellm_params", "model_info"].contains(&n.as_str()))
    {
        let why =
            if ["rpm", "tpm"].contains(&name.as_str()) { ACCOUNT } else { "there is no such member here" };
        import.note(format!("{place}.{name}"), Fate::Left, why);
    }
    match groups.iter_mut().find(|(g, _)| g == group) {
        Some((_, all)) if all.contains(&id) => {
            import.note(
                place,
                Fate::Carried,
                format!("another key of `{id}`: the keys are one pool, their limits add up"),
            );
        }
        Some((_, all)) => {
            import.note(place, Fate::Carried, format!("`{id}` in the group `{group}`"));
            all.push(id);
        }
        None => {
            import.note(place, Fate::Carried, format!("`{group}` is `{id}`"));
            groups.push((group.to_owned(), vec![id]));
        }
    }
}

/// The provider of a deployment; `None` = it cannot be called, which is noted.
fn provider(
    prefix: &str,
    params: &Value,
    place: &str,
    shipped: &Matrix,
    import: &mut Import,
) -> Option<String> {
    let base = text(params, "api_base").or_else(|| text(params, "base_url")).map(|b| {
        match b.strip_prefix("os.environ/") {
            Some(name) => format!("${{ENV:{name}}}"),
            None => b.to_owned(),
        }
    });
    match (prefix, base) {
        ("azure", Some(base)) => {
            import.note(format!("{place}.litellm_params.api_base"), Fate::Changed, "the version 1 address of Azure OpenAI is used (`/openai/v1`), which takes chat completions without `api_version`");
            let base = base
                .trim_end_matches('/')
                .trim_end_matches("/openai/v1")
                .trim_end_matches("/openai")
                .to_owned();
            Some(known::at(import, "openai_chat", &format!("{base}/openai/v1"), place))
        }
        ("azure", None) => {
            import.note(place, Fate::Left, "an Azure deployment without `api_base` has no address");
            None
        }
        ("anthropic", Some(base)) => {
            let base = versioned(base.trim_end_matches('/').trim_end_matches("/v1/messages"), place, import);
            Some(known::at(import, "anthropic_messages", &base, place))
        }
        ("ollama" | "ollama_chat", Some(base)) => {
            // LiteLLM speaks Ollama's own form below `/api`; the form that is spoken here stands below `/v1`.
            let base = base.trim_end_matches('/');
            let base = ["/api/chat", "/api/generate", "/api"]
                .iter()
                .find_map(|end| base.strip_suffix(end))
                .unwrap_or(base);
            let base = versioned(base, place, import);
            Some(known::at(import, "openai_chat", &base, place))
        }
        ("mistral", Some(base)) => {
            let base = versioned(&base, place, import);
            Some(known::at(import, "openai_chat", &base, place))
        }
        (prefix, Some(base))
            if COMPATIBLE.contains(&prefix) || known::provider(prefix, shipped).is_some() =>
        {
            let base = base.trim_end_matches('/').trim_end_matches("/chat/completions");
            Some(known::at(import, "openai_chat", base, place))
        }
        (prefix, Some(base)) if !known::speaks_otherwise(prefix) => {
            let text = format!(
                "`{prefix}` is no provider of the shipped matrix: its address is taken to speak chat completions"
            );
            import.note(format!("{place}.litellm_params.model"), Fate::Changed, text);
            let base = base.trim_end_matches('/').trim_end_matches("/chat/completions");
            Some(known::at(import, "openai_chat", base, place))
        }
        (prefix, _) => match known::provider(prefix, shipped) {
            Some(ours) => {
                import.providers.entry(ours.to_owned()).or_default();
                Some(ours.to_owned())
            }
            None => {
                import.note(place, Fate::Left, known::why_not(prefix));
                None
            }
        },
    }
}

/// An address with the version that LiteLLM adds by itself.
fn versioned(base: &str, place: &str, import: &mut Import) -> String {
    let base = base.trim_end_matches('/');
    if base.ends_with("/v1") {
        return base.to_owned();
    }
    let text = "`/v1` is added: LiteLLM completes this address by itself, here it is written out";
    import.note(format!("{place}.litellm_params.api_base"), Fate::Changed, text);
    format!("{base}/v1")
}

fn key(provider: &str, group: &str, params: &Value, place: &str, import: &mut Import) {
    let Some(given) = text(params, "api_key") else { return };
    if NO_KEYS.contains(&given.to_ascii_lowercase().as_str()) {
        let text = "it stands for no key: none is sent";
        return import.note(format!("{place}.litellm_params.api_key"), Fate::Changed, text);
    }
    match given.strip_prefix("os.environ/") {
        Some(name) => import.key(provider, name),
        None => {
            let name = format!("{}_{}_KEY", variable(provider), variable(group));
            import.clear_key(provider, given, &name, format!("{place}.litellm_params.api_key"));
        }
    }
}

/// What the file says of the model.
fn facts(id: &str, (params, info): (&Value, &Value), place: &str, import: &mut Import) {
    let given = |name: &str| info.get(name).or_else(|| params.get(name));
    let whole = |name: &str| info.get(name).and_then(number).filter(|n| *n >= 1.0).map(|n| n as u64);
    let names: BTreeSet<&str> = members(info).chain(members(params)).map(|(name, _)| name.as_str()).collect();
    let price = prices::read(&names, given, place, import);
    let Some(m) = import.models.get_mut(id) else { return };
    m.price = price.or_else(|| m.price.take());
    let fresh = m.fresh;
    let mut known = vec!["mode"];
    if fresh {
        known.extend(["max_input_tokens", "max_output_tokens", "max_tokens"]);
        m.context = whole("max_input_tokens").or(m.context);
        m.output = whole("max_output_tokens").or_else(|| whole("max_tokens")).or(m.output);
        for (theirs, ours) in ABILITIES {
            known.push(theirs);
            if let Some(can) = info.get(*theirs).and_then(flag) {
                m.abilities.insert(ours, can);
            }
        }
    }
    let told = |name: &str| known.contains(&name) || prices::is_one(name);
    for (name, _) in members(info).filter(|(n, _)| !told(n)) {
        let shipped = !fresh && (name.starts_with("max_") || ABILITIES.iter().any(|(a, _)| a == name));
        let why = if shipped {
            "the shipped matrix knows this model, and its own numbers are kept"
        } else {
            prices::why_not(name).unwrap_or("there is no such fact here")
        };
        import.note(format!("{place}.model_info.{name}"), Fate::Left, why);
    }
}

/// What models can do.
const ABILITIES: &[(&str, &str)] = &[
    ("supports_function_calling", "tools"),
    ("supports_vision", "vision"),
    ("supports_response_schema", "json_schema"),
    ("supports_reasoning", "reasoning"),
];

fn times(provider: &str, params: &Value, place: &str, import: &mut Import) {
    for (name, first) in [("timeout", false), ("stream_timeout", true)] {
        let Some(given) = params.get(name) else { continue };
        let Some(seconds) = number(given).filter(|s| (0.001..=3_600.0).contains(s)) else {
            let text = "expected seconds, 0.001 to 3600";
            import.note(format!("{place}.litellm_params.{name}"), Fate::Left, text);
            continue;
        };
        // Within the bounds above.
        let ms = (seconds * 1e3) as u64;
        if let Some(p) = import.providers.get_mut(provider) {
            *(if first { &mut p.first_ms } else { &mut p.total_ms }) = Some(ms);
        }
        let what = if first { "first_token" } else { "total" };
        import.note(
            format!("{place}.litellm_params.{name}"),
            Fate::Changed,
            format!("`timeouts.{what}` of the provider `{provider}`, for all its models"),
        );
    }
}

fn other_param(name: &str, place: &str, import: &mut Import) {
    let known = ["model", "api_key", "api_base", "base_url", "timeout", "stream_timeout"];
    if known.contains(&name) || prices::is_one(name) {
        return;
    }
    let why = match name {
        "rpm" | "tpm" => ACCOUNT,
        "weight" => "shares are not kept: the router chooses by expected outcome, cost and latency",
        "order" => {
            "no order is kept: the router chooses by expected outcome, cost and latency; a rule with `prefer` says which one comes first"
        }
        "thinking" | "reasoning_effort" => {
            "use a rule with `set_params: { reasoning_effort: … }`; clients may send it as well"
        }
        "max_parallel_requests" => {
            "a vendor that complains gets fewer calls at once by itself; to limit who asks, use a limit on `concurrency`, for all together a rule with `concurrency: { per: model, model: NAME, over: all, max: … }`"
        }
        "tags" => "give the model the tags in matrix.d, and use rules that read `request.options.tags`",
        "extra_headers" | "headers" => "give them as `headers` of the provider in matrix.d",
        "api_version" => "the address used here needs none",
        "max_tokens" | "temperature" | "top_p" | "seed" => {
            "a default for a parameter of requests; use a rule with `set_params` or `cap_max_tokens`"
        }
        "max_budget" | "budget_duration" => {
            "use a rule with `rate_limit: { per: model, model: NAME, over: all, usd: …, window: day }`"
        }
        _ => prices::why_not(name).unwrap_or("there is no such parameter here"),
    };
    import.note(format!("{place}.litellm_params.{name}"), Fate::Left, why);
}

/// Groups become aliases, pools and workflows.
fn finish(Names { groups, mut falls, aliases }: Names, import: &mut Import) {
    // Another name of a group has what the group has.
    for (alias, target) in aliases {
        if let Some(to) = falls.get(&target).cloned() {
            falls.entry(alias).or_insert(to);
        }
    }
    let groups = &groups;
    let find = |name: &str| groups.iter().find(|(g, _)| g == name).map(|(_, ids)| ids.clone());
    for (group, ids) in groups {
        let mut all = ids.clone();
        for to in falls.get(group).into_iter().flatten() {
            match find(to) {
                Some(more) => {
                    let new: Vec<String> = more.into_iter().filter(|m| !all.contains(m)).collect();
                    all.extend(new);
                }
                None => {
                    import.note(format!("fallbacks.{group}"), Fate::Left, format!("there is no group `{to}`"))
                }
            }
        }
        alias(group, ids, import);
        if all.len() < 2 {
            continue;
        }
        let name = import.name_for(group);
        import.pools.insert(name.clone(), all);
        let flow = Flow {
            description: format!("The LiteLLM group {group}, then its fallbacks."),
            pool: name.clone(),
            prefer: ids.clone(),
        };
        import.flows.insert(name.clone(), flow);
        import.note(format!("group {group}"), Fate::Changed, format!(
            "the pool `{name}` and the workflow `{name}`: clients ask for \"workflow/{name}\" to get all of it (\"{group}\" by itself is `{}` alone), or for \"auto\" to let the router choose",
            ids.first().map_or("", String::as_str)
        ));
    }
    for (group, _) in falls.iter().filter(|(g, _)| find(g).is_none()) {
        import.note(format!("fallbacks.{group}"), Fate::Left, format!("there is no group {}", quoted(group)));
    }
}

/// The name that clients use, where it may stand for one model.
fn alias(group: &str, ids: &[String], import: &mut Import) {
    let Some(first) = ids.first() else { return };
    if group == first {
        return;
    }
    let taken = import.models.values().any(|m| m.aliases.iter().any(|a| a == group))
        || import.models.contains_key(group);
    let why = match () {
        () if taken => "the name stands for another model",
        () if !types::options::is_identifier(group) => "names have letters, digits and . _ : / @ + -",
        () => {
            if let Some(m) = import.models.get_mut(first) {
                m.aliases.push(group.to_owned());
            }
            return;
        }
    };
    import.note(format!("group {group}"), Fate::Changed, format!("clients ask for \"{first}\": {why}"));
}

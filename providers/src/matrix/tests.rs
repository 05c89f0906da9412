//! Tables over broken and merged files, and the shipped matrix.

use super::*;
use types::axis::TaskFamily;
use types::diagnostic::Severity;
use types::matrix::{Dialect, Tier};
use types::profile::SubLabel;

fn env(name: &str) -> Option<String> {
    match name {
        "ACCOUNT" => Some("a1".to_owned()),
        "BAD_URL" => Some("ftp://x".to_owned()),
        "EMPTY_KEY" => Some(String::new()),
        "BLANK_KEY" | "OPENAI_API_KEY" => Some(" \n".to_owned()),
        _ => None,
    }
}

fn read(texts: &[&str]) -> (Matrix, Vec<Diagnostic>) {
    let files: Vec<SourceFile> =
        texts.iter().enumerate().map(|(i, t)| SourceFile::new(format!("{i}.yaml"), *t)).collect();
    load(&files, &env, types::calendar::Date::parse("2026-11-21"))
}

const HEAD: &str =
    "version: 1\nproviders:\n  p:\n    dialect: openai_chat\n    base_url: https://h/v1\nmodels:\n";
const SIM: &str = "version: 1\nproviders:\n  s: { dialect: simulated }\nmodels:\n";

/// Each `§` of the texts stands where a problem is expected; the codes follow in the same order.
fn check(marked: &[&str], codes: &str) {
    let mut places = Vec::new();
    let mut texts = Vec::new();
    for (i, text) in marked.iter().enumerate() {
        for (row, line) in text.lines().enumerate() {
            for (nth, (at, _)) in line.match_indices('§').enumerate() {
                let column = line[..at].chars().count() + 1 - nth;
                places.push((format!("{i}.yaml"), row + 1, column));
            }
        }
        texts.push(text.replace('§', ""));
    }
    let (_, problems) = read(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let got: Vec<_> = problems.iter().map(|d| (d.file.clone(), d.line, d.column)).collect();
    let got_codes: Vec<&str> = problems.iter().map(|d| d.code.as_str()).collect();
    assert_eq!((got, got_codes.join(" ")), (places, codes.to_owned()), "{marked:?} {problems:#?}");
}

fn check_model(body: &str, codes: &str) {
    check(&[&format!("{HEAD}  p/m: {body}\n")], codes);
}

fn check_provider(body: &str, codes: &str) {
    check(&[&format!("version: 1\nproviders:\n  p: {body}\nmodels: {{}}\n")], codes);
}

#[test]
fn problems_of_the_whole_file_have_their_place() {
    check(&["version: §2\nproviders: {}\nmodels: {}\n"], "CM104");
    check(&["§providers: {}\nmodels: {}\n§model: {}\n"], "CM102 CM101");
    check(&["version: 1\nproviders: {}\nmodels:\n  §q/m: { context_window: 1 }\n"], "CM201");
    check(&["version: 1\nproviders: {}\nmodels:\n  §m: { context_window: 1 }\n"], "CM104");
    check(&["version: [\n§"], "CM001");
    let (_, problems) = read(&[""]);
    assert_eq!(problems.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["CM102"; 3]);
}

#[test]
fn problems_of_providers_have_their_place() {
    check_provider("{ dialect: §openai, base_url: https://h }", "CM104");
    check_provider("{ §dialect: openai_chat }", "CM102");
    check_provider("{ §dialect: recorded }", "CM102");
    check_provider("{ dialect: simulated, base_url: §https://h }", "CM204");
    check_provider("{ dialect: gemini, base_url: https://h, seed: §1, file: §x }", "CM204 CM204");
    for url in ["ftp://h", "h/v1", "https://", "https://u@h", "https://h?x=1", "\"${ENV:BAD_URL}\""] {
        check_provider(&format!("{{ dialect: gemini, base_url: §{url} }}"), "CM205");
    }
    check_provider("{ dialect: gemini, base_url: §\"https://${HOST}\" }", "CM206");
    let with = |rest: &str, codes: &str| {
        check_provider(&format!("{{ dialect: gemini, base_url: https://h, {rest} }}"), codes);
    };
    with("tier: §fre", "CM104");
    with("api_key_env: §sk-1-secret", "CM104");
    with("headers: { §Host: a }", "CM104");
    with("headers: { authorization: §Bearer abcdef }", "CM104");
    with("headers: { x-api-key: §abcdef }", "CM104");
    with("headers: { x-other: §sk-proj-aB3dE5fG7hJ9 }", "CM104");
    with("headers: { authorization: \"Bearer ${ENV:A}\" }", "");
    with("headers: { a: §\"x${b}\" }", "CM206");
    with("headers: { a: §\"x\\ny\" }", "CM104");
    with("timeouts: { connect: §5 }", "CM111");
    with("timeouts: { total: §2h, first_token: §0s }", "CM104 CM104");
    with("quirks: { §stream_use: true }", "CM101");
    with("quirks: { max_tokens_field: §max }", "CM104");
    with("data: { trains: §1 }", "CM103");
    with("as_of: §2026-02-30", "CM207");
    with("as_of: §2026-05-01", "CM301");
    with("as_of: 2026-06-01", "");
    check(&["version: 1\nproviders: { §workflow: { dialect: simulated } }\nmodels: {}\n"], "CM104");
}

#[test]
fn a_key_that_stands_in_the_file_is_not_repeated_and_the_way_out_is_told() {
    const KEY: &str = "sk-proj-aB3dE5fG7hJ9kL1mN3pQ5rS7";
    for wrong in [format!("api_key: {KEY}"), format!("headers: {{ authorization: \"Bearer {KEY}\" }}")] {
        let text = format!(
            "version: 1\nproviders:\n  o: {{ dialect: gemini, base_url: https://h, {wrong} }}\nmodels: {{}}\n"
        );
        let (_, problems) = read(&[&text]);
        let told: Vec<String> =
            problems.iter().map(|d| format!("{d}\n{}", d.render(Some(&text), false))).collect();
        assert!(told.len() == 1 && !told[0].contains("aB3d") && told[0].contains("environment"), "{told:?}");
    }
}

#[test]
fn a_variable_that_is_to_hold_a_key_and_is_empty_is_told() {
    let with = |rest: &str, codes: &str| {
        check_provider(&format!("{{ dialect: gemini, base_url: https://h, {rest} }}"), codes);
    };
    with("api_key_env: §EMPTY_KEY", "CM302");
    with("api_key_env: §§[ACCOUNT, EMPTY_KEY, BLANK_KEY]", "CM302 CM302");
    with("api_key_env: NOT_SET", "");
    with("api_key_env: EMPTY_KEY, enabled: false", "");
    // The shipped file names the variables of all vendors; a file of one's own that names one means it.
    let own = "providers: { openai: { api_key_env: OPENAI_API_KEY } }\n";
    let told = |texts: &[&str]| read(texts).1.iter().filter(|d| d.code == "CM302").count();
    assert_eq!((told(&[SHIPPED]), told(&[SHIPPED, own])), (0, 1));
}

#[test]
fn a_change_of_a_provider_that_is_not_there_names_the_nearest() {
    let base =
        "version: 1\nproviders: { openai: { dialect: openai_chat, base_url: https://h } }\nmodels: {}\n";
    for overlay in ["{ enabled: false }", "{ base_url: https://other }", "{ api_key_env: OTHER_KEY }"] {
        let overlay =
            format!("providers: {{ §opnai: {overlay} }}\nmodels: {{ opnai/m: {{ context_window: 9 }} }}\n");
        check(&[base, &overlay], "CM201");
        let (_, problems) = read(&[base, &overlay.replace('§', "")]);
        let told = &problems[0];
        assert_eq!(told.hint.as_deref(), Some("did you mean `openai`?"));
        assert_eq!(told.message, "there is no provider `opnai` to change");
    }
}

#[test]
fn one_problem_of_an_entry_hides_no_other() {
    check(
        &["version: 1\nproviders: {}\nmodels: { §p/m: { context_window: §32k, §contxt: 1 } }\n"],
        "CM201 CM103 CM101",
    );
    // A new provider whose `dialect` is misspelt is no change of one that is not there.
    check(
        &["version: 1\nproviders: { p: { §§dialekt: openai_chat, base_url: https://h } }\nmodels: {}\n"],
        "CM102 CM101",
    );
    check(
        &["version: 1\n§version: 1\nproviders: {}\nmodels: { §p/m: { context_window: 9 } }\n"],
        "CM002 CM201",
    );
}

#[test]
fn a_matrix_of_ones_own_is_told_to_replace_the_shipped_one() {
    let own =
        "version: 1\nproviders: { openai: { tier: paid } }\nmodels: { groq/new: { context_window: 9 } }\n";
    let (_, problems) = read(&[own]);
    let hints: Vec<_> = problems.iter().filter_map(|d| d.hint.as_deref()).collect();
    assert!(hints.len() == 2 && hints.iter().all(|h| h.contains("matrix.d/")), "{problems:?}");
}

#[test]
fn problems_of_models_have_their_place() {
    check_model("§{ }", "CM102");
    check_model("{ context_window: §0 }", "CM104");
    check(&[&format!("{HEAD}  §p/n: {{ enabled: false }}\n  p/m: {{ context_window: 9 }}\n")], "CM201");
    check_model("{ context_window: 9, max_output_tokens: §10 }", "CM104");
    check_model("{ context_window: 9, price: { input: §-1, output: 1 } }", "CM104");
    check_model("{ context_window: 9, price: { §input: 1 } }", "CM102");
    check_model("{ context_window: 9, abilities: [tools, §visoin] }", "CM104");
    check_model("{ context_window: 9, quality_tier: §4, speed_tier: §0 }", "CM104 CM104");
    check_model("{ context_window: 9, prior: { success: { coding: §1.2 } } }", "CM104");
    check_model("{ context_window: 9, prior: { success: { §codng: 0.2 } } }", "CM101");
    check_model("{ context_window: 9, prior: { strength: §0 } }", "CM104");
    check_model("{ context_window: 9, free_tier: { rpm: §x } }", "CM103");
    check_model("{ context_window: 9, limits: { rpm: §0, resets: §noon } }", "CM104 CM104");
    check_model(
        "{ context_window: 9, price: { input: 1, output: 1, above: { §input: 2, output: 2 } } }",
        "CM102",
    );
    let above = |list: &str, codes: &str| {
        check_model(
            &format!("{{ context_window: 9, price: {{ input: 1, output: 1, above: {list} }} }}"),
            codes,
        );
    };
    above("[{ tokens: 5, input: 2, output: 2 }, { tokens: 6, input: 3, output: 3 }]", "");
    above("[{ tokens: 5, input: 2, output: 2 }, { tokens: §5, input: 3, output: 3 }]", "CM104");
    above("[{ tokens: 5, input: 2, output: 2 }, { tokens: §4, input: 3, output: 3 }]", "CM104");
    above("[{ tokens: 5, input: 2, output: 2 }, { §input: 3, output: 3 }]", "CM102");
    above("§[{}, {}, {}, {}, {}]", "CM104");
    above("§5", "CM103");
    check_model("{ context_window: 9, price: { input: 1, output: 1, tiers: { flex: §-1 } } }", "CM104");
    check_model("{ context_window: 9, price: { input: 1, output: 1, tiers: { §fast: 2 } } }", "CM101");
    check_model("{ context_window: 9, aliases: [§\"a b\"] }", "CM104");
    check_model("{ context_window: 9, §contextwindow: 9 }", "CM101");
    check_model("{ context_window: 9, simulate: { §success: { default: 1 } } }", "CM204");
}

#[test]
fn limits_of_single_keys_name_a_key_and_are_limits() {
    let with = |limits: &str, codes: &str| {
        let base = "dialect: openai_chat, base_url: \"https://h/v1\", api_key_env: [A, B]";
        check_provider(&format!("{{ {base}, key_limits: {limits} }}"), codes);
    };
    with("{ B: [{ metric: requests, amount: 0.5, per: second }, { metric: concurrency, amount: 2 }] }", "");
    with(
        "{ A: [{ metric: usd, amount: 5, per: month }], B: [{ metric: tokens, amount: 1000, per: hour }] }",
        "",
    );
    with("{ §C: [{ metric: requests, amount: 5, per: minute }] }", "CM104");
    with("{ A: [{ §metric: requests, amount: 5 }] }", "CM104");
    with("{ A: [{ §metric: requests, amount: 0, per: day }] }", "CM104");
    with("{ A: [{ §metric: concurrency, amount: 1.5 }] }", "CM104");
    with("{ A: [{ metric: §request, amount: 5, per: §week }] }", "CM104 CM104");
    with("{ A: [{ metric: usd, amount: 5, per: §request }] }", "CM104");
    with("{ A: [{ §metric: usd, per: day }] }", "CM102");
    with("{ A: §5 }", "CM103");
    let text = "version: 1\nproviders:\n  p: { dialect: openai_chat, base_url: \"https://h/v1\", api_key_env: A, key_limits: { A: [{ metric: requests, amount: 9, per: minute }] } }\nmodels: {}\n";
    let (matrix, problems) = read(&[text]);
    assert!(problems.is_empty(), "{problems:#?}");
    let (name, limits) = &matrix.providers()[0].key_limits[0];
    assert_eq!((name.as_str(), limits[0].amount, limits[0].per.as_deref()), ("A", 9.0, Some("minute")));
}

#[test]
fn simulated_models_need_their_block() {
    let sim = |body: &str, codes: &str| check(&[&format!("{SIM}  s/m: {body}\n")], codes);
    sim("{ §context_window: 9 }", "CM102");
    sim("{ context_window: 9, simulate: { success: { §coding: 1 } } }", "CM102");
    let with = |rest: &str, codes: &str| {
        sim(&format!("{{ context_window: 9, simulate: {{ success: {{ default: 1 }}, {rest} }} }}"), codes);
    };
    with("failures: { §borken_json: 0.1 }", "CM101");
    with("failures: { §refuse: 0.6, stall: 0.6 }", "CM208");
    with("latency: { ttft: §1h }", "CM104");
    with("latency: { ttft: 1s, sigma: §9 }", "CM104");
}

#[test]
fn a_name_names_one_model() {
    let two = |a: &str, b: &str| {
        format!(
            "{HEAD}  p/a: {{ context_window: 9, aliases: [{a}] }}\n  p/b: {{ context_window: 9, aliases: [{b}] }}\n"
        )
    };
    check(&[&two("x", "y")], "");
    check(&[&two("x", "§x")], "CM203");
    check(&[&two("§p/b", "y")], "CM203");
    check(&[&two("§auto", "§\"auto:best\"")], "CM203 CM203");
    // What is switched off gives its alias up.
    check(&[&two("x", "x"), "models:\n  p/a: { enabled: false }\n"], "");
}

#[test]
fn all_problems_of_all_files_come_at_once_each_in_its_own_file() {
    let base = format!("{HEAD}  p/m:\n    context_window: §x\n    price: {{ input: 1, output: 2 }}\n");
    check(
        &[
            &base,
            "models:\n  p/m:\n    price:\n      input: §-3\n  §q/z: { context_window: 1 }\n",
            "§nodels: {}\n",
        ],
        "CM103 CM104 CM201 CM101",
    );
    check(&[&base, "models: [\n§"], "CM103 CM001");
    check(&["models: [\n§", "version: 3\n"], "CM001");
}

#[test]
fn later_files_merge_key_by_key() {
    let base = format!(
        "{HEAD}  p/m:\n    context_window: 100\n    abilities: [tools, json]\n    price: {{ input: 1, output: 2 }}\n  p/n: {{ context_window: 7 }}\n"
    );
    let over = "providers:\n  p: { tier: free }\n  p2: { dialect: gemini, base_url: \"https://h/${ENV:ACCOUNT}/\" }\nmodels:\n  p/m: { price: { input: 5 }, abilities: [vision] }\n  p/n: { enabled: false }\n  p2/x: { context_window: 3 }\n";
    let (m, problems) = read(&[&base, over, "models:\n"]);
    assert!(problems.is_empty(), "{problems:#?}");
    let pm = m.model(m.find("p/m").unwrap()).unwrap();
    assert_eq!(pm.context_window, 100);
    assert_eq!(
        pm.price.map(|p| (p.input, p.cached_input, p.cache_write, p.output)),
        Some((5.0, 5.0, 5.0, 2.0))
    );
    assert_eq!(
        pm.price.map(|p| (p.image, p.reasoning)),
        Some((5.0, 2.0)),
        "those of text where none are said"
    );
    let own = over.replace("price: { input: 5 }", "price: { image: 9, reasoning: 4 }");
    let (m, problems) = read(&[&base, &own, "models:\n"]);
    assert!(problems.is_empty(), "{problems:#?}");
    let price = m.model(m.find("p/m").unwrap()).unwrap().price;
    assert_eq!(price.map(|p| (p.input, p.image, p.output, p.reasoning)), Some((1.0, 9.0, 2.0, 4.0)));
    let (m, _) = read(&[&base, over, "models:\n"]);
    assert!(pm.abilities.vision && !pm.abilities.tools);
    assert!(!m.model(m.find("p/n").unwrap()).unwrap().enabled);
    assert_eq!(m.providers()[0].tier, Tier::Free);
    assert_eq!(m.providers()[0].base_url, "https://h/v1");
    let x = m.find("p2/x").unwrap();
    assert_eq!(m.provider_of(x).unwrap().base_url, "https://h/a1");
    assert_eq!(m.find("x"), Some(x), "a bare name finds its only model");
}

#[test]
fn defaults_are_those_stated() {
    let (m, problems) = read(&[&format!("{HEAD}  p/a/Llama-3: {{ context_window: 100000 }}\n")]);
    assert!(problems.is_empty(), "{problems:#?}");
    let model = &m.models()[0];
    assert_eq!((model.upstream_name.as_str(), model.family.as_str()), ("a/Llama-3", "llama"));
    assert_eq!(model.max_output_tokens, 8_192);
    assert_eq!((model.quality_tier, model.speed_tier), (2, 2));
    assert!(model.price.is_none() && model.free_tier.is_none() && model.enabled);
}

#[test]
fn an_address_whose_variable_is_not_set_stays_as_written() {
    let (m, problems) = read(&[
        "version: 1\nproviders: { o: { dialect: openai_chat, base_url: \"${ENV:NOT_SET}\" } }\nmodels: {}\n",
    ]);
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(first_reference(&m.providers()[0].base_url), Some("NOT_SET"));
}

#[test]
fn a_key_in_the_file_is_not_repeated() {
    let (_, problems) = read(&[
        "version: 1\nproviders: { o: { dialect: gemini, base_url: https://h, api_key_env: sk-secret } }\nmodels: {}\n",
    ]);
    assert!(
        !problems.is_empty() && problems.iter().all(|d| !d.to_string().contains("secret")),
        "{problems:?}"
    );
}

fn shipped() -> Matrix {
    let (matrix, problems) = load(
        &[SourceFile::new("capability_matrix.yaml", SHIPPED)],
        &|_| None,
        types::calendar::Date::parse("2026-11-21"),
    );
    assert!(problems.is_empty(), "{problems:#?}");
    matrix
}

#[test]
fn the_shipped_matrix_is_clean_and_whole() {
    let m = shipped();
    for vendor in [
        "openai",
        "anthropic",
        "google",
        "groq",
        "openrouter",
        "together",
        "mistral",
        "nvidia",
        "cerebras",
        "cohere",
        "cloudflare",
        "github",
        "huggingface",
        "zai",
        "deepseek",
        "xai",
        "fireworks",
        "ollama",
        "compatible",
        "sim",
    ] {
        let place = m.providers().iter().position(|p| p.id == vendor);
        let models = m.models().iter().filter(|m| Some(m.provider) == place).count();
        assert!((2..=6).contains(&models), "{vendor} has {models} models");
    }
    for (i, p) in m.providers().iter().enumerate() {
        let sourced = p.as_of.is_some() && p.source.is_some();
        let priced = m.models().iter().any(|m| m.provider == i && m.price.is_some_and(|p| p.output > 0.0));
        assert!(sourced || !priced || !p.dialect.is_remote(), "the prices of {} have no source", p.id);
        assert_eq!(p.dialect == Dialect::Simulated, p.id == "sim");
    }
    assert!(m.providers().iter().filter(|p| !p.enabled).map(|p| p.id.as_str()).eq(["github", "sim"]));
}

#[test]
fn priors_of_the_shipped_matrix_are_moderate() {
    use types::axis::AxisValue as _;
    let m = shipped();
    let math = Some(SubLabel::Math);
    for (family, sub) in TaskFamily::ALL.iter().map(|f| (*f, None)).chain([(TaskFamily::Chat, math)]) {
        let real = m.models().iter().filter(|m| m.simulate.is_none());
        let beliefs: Vec<f64> = real.map(|m| m.prior.success(family, sub)).collect();
        let (lo, hi) = beliefs.iter().fold((1.0_f64, 0.0_f64), |(lo, hi), b| (lo.min(*b), hi.max(*b)));
        // A quarter between best and worst, and the rounding of both.
        assert!(lo >= 0.5 && hi <= 0.95 && hi - lo <= 0.26, "{family} {sub:?}: {lo}..{hi}");
    }
}

/// How many beliefs of each kind of task rest on judgement. A number falls where a table is found, and never rises.
const JUDGED: [(&str, usize); 10] = [
    ("default", 5),
    ("coding", 5),
    ("extraction", 19),
    ("tool_use", 9),
    ("agent_loop", 8),
    ("planning", 4),
    ("rag", 8),
    ("summarisation", 0),
    ("math", 8),
    ("knowledge_qa", 5),
];

/// Every belief of the shipped matrix says where it comes from, and those that cite a score follow from it.
#[test]
fn priors_of_the_shipped_matrix_are_sourced() {
    let m = shipped();
    let (mut all, mut judged) = (0, std::collections::BTreeMap::new());
    for model in m.models().iter().filter(|m| m.simulate.is_none()) {
        let sources = &model.prior.sources;
        for family in model.prior.by_family.iter().map(|(f, _)| f.as_str()).chain(["default"]) {
            let of: Vec<&str> =
                sources.iter().filter(|(f, _)| f == family).map(|(_, s)| s.as_str()).collect();
            assert_eq!(of.len(), 1, "{}, {family}: {of:?}", model.id);
            all += 1;
            *judged.entry(family.to_owned()).or_insert(0_usize) += usize::from(of[0] == "judgement");
        }
        assert_eq!(sources.len(), model.prior.by_family.len() + 1, "{}: {sources:?}", model.id);
    }
    // A cited score from which the belief does not follow would be read as judgement.
    let cited = SHIPPED.lines().filter(|l| l.trim_start().starts_with("judgement: ["));
    let stated: usize = cited.map(|l| l.matches(',').count() + 1).sum();
    let total: usize = judged.values().sum();
    assert_eq!(total, stated, "a belief departs from the score it cites");
    for (family, ceiling) in JUDGED {
        let now = judged.remove(family).unwrap_or_default();
        assert!(now <= ceiling, "{family}: {now} beliefs rest on judgement, {ceiling} at most");
        assert_eq!(now, ceiling, "{family}: fewer beliefs rest on judgement; lower the ceiling");
    }
    assert!(judged.is_empty(), "kinds of task without a ceiling: {judged:?}");
    let told = format!("{} of its {all} beliefs", all - total);
    let docs = include_str!("../../../docs/configuration.md");
    assert!(docs.contains(&told), "docs/configuration.md should say that {told} follow from a score");
}

#[test]
fn sources_of_priors_have_their_place() {
    const TEXT: &str = "version: 1\nevaluations:\n  e: { measures: x, source: y, as_of: 2026-01-01, scale: { coding: { base: 0.5, slope: 0.4 } } }\n\
        providers:\n  p:\n    dialect: openai_chat\n    base_url: https://h/v1\nmodels:\n  p/m: { context_window: 9, prior: ";
    let prior = |body: &str| read(&[&format!("{TEXT}{body} }}\n")]).0.models()[0].prior.sources.clone();
    let is = |family: &str, source: &str| vec![(family.to_owned(), source.to_owned())];
    let ok = "{ success: { coding: 0.7 }, sources: { e: { of: m-high, coding: 0.5 } } }";
    assert_eq!(prior(ok), is("coding", "e 0.5, as m-high"));
    let mine = "{ success: { coding: 0.9 }, sources: { e: { coding: 0.5 } } }";
    assert_eq!(prior(mine), is("coding", "judgement"), "stated by hand");
    for (body, codes) in [
        ("{ sources: { §f: { coding: 0.5 } } }", "CM201"),
        ("{ sources: { e: { §math: 0.5 } } }", "CM101"),
        ("{ sources: { e: { coding: §1.5 } } }", "CM104"),
        ("{ sources: { judgement: §3 } }", "CM103"),
    ] {
        check(&[&format!("{TEXT}{body} }}\n")], codes);
    }
    let head = "version: 1\nproviders: {}\nmodels: {}\nevaluations:\n  e: ";
    check(
        &[&format!("{head}{{ measures: x, source: y, as_of: §2026-13-01, scale: {{ §cding: {{}} }} }}\n")],
        "CM104 CM101",
    );
}

#[test]
fn the_simulated_fleet_leaves_something_to_learn() {
    let m = shipped();
    let best = |family: &str| {
        let rate = |m: &Model| {
            let s = &m.simulate.as_ref()?.success;
            s.iter().find(|(k, _)| k == family).map(|(_, p)| p.get())
        };
        let fleet = m.models().iter().filter_map(|m| rate(m).map(|r| (r, m.id.to_string())));
        fleet.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, id)| id).unwrap()
    };
    assert_eq!(best("coding"), "sim/coder-14b");
    assert_eq!(best("math"), "sim/thinker-32b");
    assert_eq!(best("extraction"), "sim/strong-70b");
}

#[test]
fn severities_are_stated() {
    let (_, problems) = read(&[
        "version: 1\nproviders: { p: { dialect: gemini, base_url: https://h, as_of: 2020-01-01 } }\nmodels: {}\n",
    ]);
    assert_eq!(problems.iter().map(|d| d.severity).collect::<Vec<_>>(), [Severity::Warning]);
}

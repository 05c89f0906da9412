//! `turnout import` on the files that the migration page shows: what it writes passes `turnout check`, and it serves.

use serde_json::{Value, json};
use std::path::PathBuf;
use tests::folder::Folder;
use tests::house::{House, Model, Plan, cli};
use tests::vendor::{Dialect, Reply, Vendor};

fn example(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/import").join(name).display().to_string()
}

/// Requests with and without the metadata that the example's first condition reads.
const ABSENT: &str = "\
version: 1
cases:
  - name: without metadata
    given: { request: { max_tokens: 100 } }
    expect: { not_matched: [portkey_1_best] }
  - name: of those who pay
    given: { request: { max_tokens: 100, metadata: { plan: paid } } }
    expect: { matched: [portkey_1_best] }
";

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_imported_and_what_comes_of_it_is_good() {
    for (kind, file) in
        [("litellm", "litellm.yaml"), ("portkey", "portkey.json"), ("openrouter", "openrouter.json")]
    {
        let folder = Folder::default();
        let new = Folder::default();
        let to = new.path().display().to_string();
        let dry = cli(&folder, &["import", kind, &example(file)]).await;
        assert!(dry.status.success(), "{dry:?}");
        assert!(tests::admin::files(new.path()).is_empty(), "without -o nothing is written");
        let made = cli(&folder, &["--json", "import", kind, &example(file), "-o", &to]).await;
        assert!(made.status.success(), "{made:?}");
        let report: Value = serde_json::from_slice(&made.stdout).unwrap();
        let fates =
            |fate: &str| report["notes"].as_array().unwrap().iter().filter(|n| n["fate"] == fate).count();
        assert!(fates("carried") > 0 && fates("left") > 0, "{kind}: {report}");
        let all = [dry.stdout, dry.stderr, made.stdout, made.stderr].concat();
        let written: Vec<u8> = tests::admin::files(new.path()).into_iter().flat_map(|(_, b)| b).collect();
        for text in [String::from_utf8_lossy(&all), String::from_utf8_lossy(&written)] {
            assert!(!text.contains("in-clear"), "{kind}: a secret is repeated: {text}");
        }
        let checked = cli(&new, &["check"]).await;
        assert!(checked.status.success(), "{kind}: {}", String::from_utf8_lossy(&checked.stdout));
        if kind == "portkey" {
            // What a request does not say is no match, and no error.
            new.write("policies/tests/absent.yaml", ABSENT);
            let tested = cli(&new, &["policy", "test"]).await;
            assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));
        }
        let again = cli(&folder, &["import", kind, &example(file), "-o", &to]).await;
        assert_eq!(again.status.code(), Some(2), "files that are there are not replaced: {again:?}");
        assert!(cli(&folder, &["import", kind, &example(file), "-o", &to, "--force"]).await.status.success());
    }
    let folder = Folder::default();
    let wrong = cli(&folder, &["import", "portkey", &example("litellm.yaml")]).await;
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no Portkey config"), "{wrong:?}");
    let none = cli(&folder, &["import", "litellm", "nowhere.yaml"]).await;
    assert!(String::from_utf8_lossy(&none.stderr).contains("nowhere.yaml"), "{none:?}");
}

/// A group of two deployments and a fallback, served under the names that the import gives.
#[tokio::test(flavor = "multi_thread")]
async fn an_imported_group_serves_and_falls_back() {
    let (one, two) = (Vendor::start(Dialect::OpenAi).await, Vendor::start(Dialect::OpenAi).await);
    let folder = Folder::default();
    folder.write("config.yaml", &format!(
        "model_list:\n  - model_name: main\n    litellm_params: {{ model: openai/small, api_base: \"{}/v1\" }}\n  \
         - model_name: spare\n    litellm_params: {{ model: openai/other, api_base: \"{}/v1\" }}\n\
         litellm_settings:\n  fallbacks: [{{ main: [spare] }}]\n",
        one.origin(), two.origin()
    ));
    let from = folder.path().join("config.yaml").display().to_string();
    let to = folder.path().join("made");
    let made = cli(&folder, &["import", "litellm", &from, "-o", to.to_str().unwrap()]).await;
    assert!(made.status.success(), "{made:?}");
    let mut plan = Plan::new();
    for (path, bytes) in tests::admin::files(&to) {
        let name = PathBuf::from(path).strip_prefix(&to).unwrap().display().to_string();
        plan = plan.file(&name, &String::from_utf8(bytes).unwrap());
    }
    let house = plan.start().await;
    let ask = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    let first = house.client().chat(&ask("main")).await;
    assert_eq!((first.status, one.count(), two.count()), (200, 1, 0), "{}", first.text());
    let group = house.client().chat(&ask("workflow/main")).await;
    assert_eq!((group.status, one.count()), (200, 2), "its own deployment first: {}", group.text());
    one.otherwise(|_| Reply::error(503));
    let fallen = house.client().chat(&ask("workflow/main")).await;
    assert_eq!((fallen.status, two.count()), (200, 1), "{}", fallen.text());
}

async fn two() -> (Vendor, House) {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .vendor("beta", &vendor)
        .model(&Model::new("alpha/one").success(0.9).price(5.0))
        .model(&Model::new("beta/one").success(0.8).price(1.0))
        .model(&Model::new("beta/two").success(0.1).price(0.5).with("tags: [fp8]"))
        .rules(crate::NO_CHANCE)
        .start()
        .await;
    (vendor, house)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_carry_preferences_in_the_form_of_openrouter() {
    let (vendor, house) = two().await;
    let ask = |more: Value| {
        let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, want) in [
        (json!({"provider": {"only": ["Alpha"]}}), "alpha/one"),
        (json!({"provider": {"ignore": ["alpha"]}}), "beta/one"),
        (json!({"provider": {"max_price": {"prompt": 0.7}}}), "beta/two"),
        (json!({"provider": {"quantizations": ["fp8"]}}), "beta/two"),
        (json!({"models": ["beta/two"]}), "beta/two"),
        (json!({"model": "beta/one", "models": ["alpha/one"]}), "beta/one"),
    ] {
        let answer = house.client().chat(&ask(more.clone())).await;
        assert_eq!(
            (answer.status, answer.json()["model"].as_str()),
            (200, Some(want)),
            "{more}: {}",
            answer.text()
        );
    }
    assert!(vendor.seen().iter().all(|s| s.body.get("provider").is_none() && s.body.get("models").is_none()));
    // The first of an order fails, the next one answers; without fallbacks the client hears of it.
    let calls = std::sync::atomic::AtomicUsize::new(0);
    vendor.otherwise(move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 | 2 => Reply::error(503),
        _ => Reply::text("hello"),
    });
    let models = json!({"models": ["alpha/one", "beta/one"]});
    assert_eq!(house.client().chat(&ask(models.clone())).await.json()["model"], "beta/one");
    let mut alone = models;
    alone["provider"] = json!({"allow_fallbacks": false});
    assert!(house.client().chat(&ask(alone)).await.status >= 500);
    for (more, part) in [
        (json!({"provider": {"ordr": ["alpha"]}}), "did you mean `order`"),
        (json!({"provider": {"only": ["gamma"]}}), "gamma"),
        (json!({"provider": {"data_collection": "deny"}}), "no model here fits this request"),
        (json!({"provider": 7}), "provider"),
        (json!({"models": "alpha/one"}), "list"),
    ] {
        let refused = house.client().chat(&ask(more.clone())).await;
        assert!(
            (400..=503).contains(&refused.status) && refused.text().contains(part),
            "{more}: {}",
            refused.text()
        );
    }
}

/// One model at its own vendor, which writes `4-6`, and at one that sells it on, which writes `4.6`.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_found_at_its_own_vendor_however_it_is_spelt() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let plan = Plan::new().vendor("lab", &vendor).vendor("shop", &vendor).rules(crate::NO_CHANCE);
    let plan = plan.model(&Model::new("lab/poet-4-6").success(0.8));
    let house = plan.model(&Model::new("shop/lab/poet-4.6").success(0.9)).start().await;
    let ask = async |model: &str, more: Value| {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        house.client().chat(&body).await
    };
    let only = |name: &str| json!({"provider": {"only": [name]}});
    let listed = |name: &str| json!({"models": ["lab/poet-4.6"], "provider": {"only": [name]}});
    for (model, more, want) in [
        ("lab/poet-4.6", only("lab"), "lab/poet-4-6"),
        ("lab/poet-4.6", only("shop"), "shop/lab/poet-4.6"),
        ("auto", listed("lab"), "lab/poet-4-6"),
        ("auto", listed("shop"), "shop/lab/poet-4.6"),
        ("lab/poet-4.6", json!({"provider": {"order": ["lab"]}}), "lab/poet-4-6"),
        ("lab/poet-4.6", json!({"provider": {"ignore": ["shop"]}}), "lab/poet-4-6"),
        ("poet-4.6", json!({}), "lab/poet-4-6"),
        ("lab/poet-4-6", json!({}), "lab/poet-4-6"),
    ] {
        let answer = ask(model, more.clone()).await;
        assert_eq!(answer.header("x-turnout-model"), Some(want), "{model} {more}: {}", answer.text());
    }
    let answer = ask("lab/poet-4.6", only("lab")).await;
    let record = house.client().get(&format!("/v1/decisions/{}", answer.request_id())).await.text();
    assert!(record.contains("`lab/poet-4.6` is read as `shop/lab/poet-4.6` or `lab/poet-4-6`"), "{record}");
    // The exact id of a model is that model alone.
    let error = ask("lab/poet-4-6", only("shop")).await.error(400);
    assert_eq!(error["param"], "provider.only", "{error}");
    let error = ask("lab/poet-4.6", json!({"n": 2, "routing": {"exclude": ["*"]}})).await.error(400);
    assert!(error["message"].as_str().unwrap().contains("neither `"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_has_is_told_with_the_nearest_names() {
    let (_, house) = two().await;
    for (model, near) in [
        ("alfa/one", "did you mean `alpha/one`?"),
        ("tow", "did you mean `two`?"),
        // Two providers have it.
        ("one", "did you mean `alpha/one` or `beta/one`?"),
        ("xyzzy", "GET /v1/models lists what is"),
    ] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let error = house.client().chat(&body).await.error(404);
        assert_eq!(
            (error["code"].as_str(), error["param"].as_str()),
            (Some("model_not_found"), Some("model"))
        );
        assert!(error["message"].as_str().unwrap().contains(near), "{error}");
    }
}

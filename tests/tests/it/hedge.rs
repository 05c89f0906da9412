//! Calls beside each other: the loser is cancelled, paid for and never shown, and both keep to the budget.

use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::{Race, metered};
use tests::client::text_of;
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Vendor};

const HEDGED: &str = "\
version: 1
name: hedged
nodes:
  - { id: ask, type: generate, primary: true, hedge: { after: AFTER } }
  - { id: answer, type: stream, from: nodes.ask.completion }
edges:
  - { from: ask, to: answer }
";

/// `slow` is believed to be better and is asked first.
async fn start(slow: &Vendor, quick: &Vendor, after: &str) -> House {
    Plan::new()
        .vendor("slow", slow)
        .vendor("quick", quick)
        .model(&Model::new("slow/one").success(0.95))
        .model(&Model::new("quick/one").success(0.5))
        .rules(crate::NO_CHANCE)
        .file("workflows/hedged.yaml", &HEDGED.replace("AFTER", after))
        .start()
        .await
}

fn ask(stream: bool) -> Value {
    json!({"model": "workflow/hedged", "stream": stream, "max_tokens": 1000,
        "messages": [{"role": "user", "content": "say something"}]})
}

/// Scenario 11: the loser is cancelled, charged, never shown; only content decides.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_11_the_loser_is_cancelled_charged_and_never_shown() {
    // It opens its stream at once, and no content follows.
    let stuck = Answer::text("never to be seen").fault(1, Fault::Hang);
    let slow = Vendor::scripted(Dialect::OpenAi, move |_| Reply::Answer(stuck.clone())).await;
    let quick = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("quick words")).await;
    let house = start(&slow, &quick, "40ms").await;
    for stream in [false, true] {
        let (request, said) = if stream {
            let events = house.client().stream(&ask(true)).await;
            let request = events.header("x-turnout-decision").unwrap().to_owned();
            (request, text_of(&events.collect().await.0))
        } else {
            let answer = house.client().chat(&ask(false)).await;
            assert_eq!(answer.json()["model"], "quick/one");
            (answer.request_id(), answer.content())
        };
        assert_eq!(said, "quick words");
        let lost = slow.seen().last().unwrap().clone();
        assert!(lost.wait_left().await, "the loser goes on");
        let record = house.decision(&request).await;
        let calls: Vec<Value> = record["run"]["steps"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|s| s["calls"].as_array().cloned().unwrap_or_default())
            .collect();
        assert_eq!(calls.len(), 2, "{record:#}");
        let of = |model: &str| calls.iter().find(|c| c["model"] == model).unwrap().clone();
        let (loser, winner) = (of("slow/one"), of("quick/one"));
        assert_eq!(
            (&loser["purpose"], &winner["purpose"]),
            (&json!("primary"), &json!("hedge")),
            "{calls:?}"
        );
        assert_eq!(loser["error"]["kind"], "cancelled", "{loser}");
        assert_eq!(loser["usage"]["estimated"], true, "{loser}");
        let cost = |c: &Value| c["cost_usd"].as_f64().unwrap();
        assert!(cost(&loser) > 0.0 && cost(&winner) > 0.0, "{calls:?}");
        let total = record["outcome"]["cost_usd"].as_f64().unwrap();
        assert!((total - cost(&loser) - cost(&winner)).abs() < 1e-9, "{total} {calls:?}");
    }
    assert_eq!((slow.count(), quick.count()), (2, 2));
}

/// What follows a node that was called `ask` and says what the run has used by then.
const TOLD: &str = "
  - id: sum
    type: set
    values: { usd: 'spent.usd', tokens: 'spent.tokens' }
    needs: [{ node: ask, outcome: any }]
  - { id: last, type: generate, model: quick/one, needs: sum }
  - id: tell
    type: merge
    method: template
    from: [nodes.last.completion]
    template: '${ nodes.sum.usd } ${ nodes.sum.tokens }'
    needs: last
output: nodes.tell.completion
";

/// What was cancelled is spent at what the record says of it, not at the most that it might have cost.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_cancelled_is_spent_as_it_is_recorded() {
    let slow = Vendor::scripted(Dialect::OpenAi, |_| Reply::Hang).await;
    let quick = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("quick words")).await;
    let asks = [
        ("hedged", "type: generate, primary: true, hedge: { after: 40ms }"),
        (
            "sampled",
            "type: generate, samples: 2, distinct: model, min_ok: 1, stop_when: 'completions.len() >= 1'",
        ),
        ("late", "type: generate, model: slow/one, timeout: 300ms"),
    ];
    let mut plan = Plan::new()
        .vendor("slow", &slow)
        .vendor("quick", &quick)
        .model(&Model::new("slow/one").success(0.95))
        .model(&Model::new("quick/one").success(0.5))
        .rules(crate::NO_CHANCE);
    for (name, ask) in asks {
        let text = format!(
            "version: 1\nname: {name}\nrevision: third try\nlabels: {{ team: blue }}\nnodes:\n  - {{ id: ask, {ask} }}{TOLD}"
        );
        plan = plan.file(&format!("workflows/{name}.yaml"), &text);
    }
    let house = plan.start().await;
    for (name, _) in asks {
        let mut body = ask(false);
        body["model"] = json!(format!("workflow/{name}"));
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let said = answer.content();
        let (usd, tokens) = said.split_once(' ').unwrap();
        let record = house.decision(&answer.request_id()).await;
        let steps = record["run"]["steps"].as_array().unwrap();
        let own = (&record["run"]["revision"], &record["run"]["labels"]);
        assert_eq!(own, (&json!("third try"), &json!({"team": "blue"})), "the workflow's own");
        let calls: Vec<&Value> = steps
            .iter()
            .filter(|s| s["node"] == "ask")
            .flat_map(|s| s["calls"].as_array().unwrap())
            .collect();
        assert!(calls.iter().any(|c| c["error"].is_object()), "{name}: nothing was cancelled, {calls:?}");
        let cost: f64 = calls.iter().map(|c| c["cost_usd"].as_f64().unwrap()).sum();
        assert!((usd.parse::<f64>().unwrap() - cost).abs() < 1e-9, "{name}: {said}, {calls:?}");
        let used =
            |c: &&Value| c["usage"]["input"].as_u64().unwrap() + c["usage"]["output"].as_u64().unwrap();
        assert_eq!(tokens.parse::<u64>().unwrap(), calls.iter().map(used).sum::<u64>(), "{name}: {calls:?}");
    }
}

/// A call that fails brings no hedge about: it is answered as any failure is.
#[tokio::test(flavor = "multi_thread")]
async fn a_quick_answer_and_a_quick_failure_have_no_company() {
    let slow = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("in time")).await;
    let quick = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("instead")).await;
    let house = start(&slow, &quick, "20s").await;
    assert_eq!(house.client().chat(&ask(false)).await.content(), "in time");
    assert_eq!((slow.count(), quick.count()), (1, 0));
    slow.queue(Reply::error(400));
    house.client().chat(&ask(false)).await;
    assert_eq!(slow.count(), 2);
    assert!(quick.seen().iter().all(|s| s.body["model"] == "one"), "a fallback at most, no hedge");
}

/// A tool that must not be called twice is offered once, whatever rules say of hedges.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_offers_an_unsafe_tool_has_no_company() {
    // Who may not send waits for a hedge in vain unless it comes.
    let slow =
        Vendor::scripted(Dialect::OpenAi, |seen| match seen.body["tools"].to_string().contains("send") {
            true => Reply::text("at last").slow(Duration::from_millis(600)),
            false => Reply::Hang,
        })
        .await;
    let quick = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("instead")).await;
    let offers = |name: &str, tools: &str| {
        format!(
            "version: 1\nname: {name}\nnodes:\n  - {{ id: ask, type: generate, primary: true, tools: [{tools}] }}\n\
             output: nodes.ask.completion\n"
        )
    };
    let tool = |name: &str, effect: &str| {
        format!(
            "  {name}:\n    description: Does it.\n    url: http://127.0.0.1:9/{name}\n    \
             input_schema: {{ type: object }}\n    side_effect: {effect}\n"
        )
    };
    let rules = format!(
        "{}tools:\n{}{}rules:\n  - {{ id: hurry, actions: {{ hedge: {{ after: 20ms }} }} }}\n",
        crate::NO_CHANCE,
        tool("send", "unsafe"),
        tool("look", "none")
    );
    let house = Plan::new()
        .vendor("slow", &slow)
        .vendor("quick", &quick)
        .model(&Model::new("slow/one").success(0.95))
        .model(&Model::new("quick/one").success(0.5))
        .settings("tools: { allow_hosts: [127.0.0.1], allow_http: true, allow_private: true }\n")
        .rules(&rules)
        .file("workflows/sends.yaml", &offers("sends", "look, send"))
        .file("workflows/looks.yaml", &offers("looks", "look"))
        .start()
        .await;
    let mut body = ask(false);
    body["model"] = json!("workflow/sends");
    let answer = house.client().chat(&body).await;
    assert_eq!((answer.content().as_str(), quick.count()), ("at last", 0), "{}", answer.text());
    let step = house.decision(&answer.request_id()).await["run"]["steps"][0].clone();
    assert_eq!(step["note"], "the hedge was left out: the tool `send` is `unsafe`", "{step}");
    body["model"] = json!("workflow/looks");
    assert_eq!(house.client().chat(&body).await.content(), "instead", "others are asked beside a slow one");
}

/// Two hundred at once, each with a second call beside a slow one, against a budget of twenty answers. What a vendor
/// counts is what counts: a call that was left is paid for in full, and the budget holds all the same.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_hedged_at_once_spend_no_more_than_the_budget_allows() {
    let slow = Vendor::start(Dialect::OpenAi).await;
    let quick = Vendor::start(Dialect::OpenAi).await;
    // Much longer than the wait for the hedge and its answer, also where the machine is busy.
    metered(&slow, Duration::from_secs(5), |_| "hello");
    metered(&quick, Duration::from_millis(300), |_| "hello");
    let house = start(&slow, &quick, "40ms").await;
    let bodies = (0..200).map(|i| ask(i % 3 == 0)).collect();
    // Few enough at once that there is money for hedges: nobody has any set aside for it.
    let limits = json!([
        {"metric": "usd", "amount": 0.0202, "per": "month"}, {"metric": "concurrency", "amount": 8}
    ]);
    let key = Race::racer(&house, limits).await;
    let race = Race::with(&house, &[&slow, &quick], 0.0202, &key, bodies).await;
    assert!(quick.count() > 0, "nothing was hedged, so nothing is shown");
    race.holds();
}

const SPREAD: &str = "\
version: 1
name: spread
nodes:
  - id: ask
    type: generate
    primary: true
    samples: 2
    distinct: provider
    min_ok: 2
    hedge: { after: 60ms, max: 2 }
  - id: tell
    type: merge
    method: template
    from: [nodes.ask.completions]
    template: '${ nodes.ask.completions.map(|c| c.model + \"=\" + c.text) }'
  - { id: answer, type: stream, from: nodes.tell.completion }
edges:
  - { from: ask, to: tell }
  - { from: tell, to: answer }
";

/// Scenario 12: whoever an answer is said to be of has given it, under fallback and hedging too.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_12_every_answer_names_who_gave_it() {
    let down = Vendor::scripted(Dialect::OpenAi, |_| Reply::error(503)).await;
    let stuck = Vendor::scripted(Dialect::OpenAi, |_| Reply::Hang).await;
    let mut plan = Plan::new().rules(crate::NO_CHANCE).file("workflows/spread.yaml", SPREAD);
    plan = plan.vendor("down", &down).model(&Model::new("down/one").success(0.95));
    plan = plan.vendor("stuck", &stuck).model(&Model::new("stuck/one").success(0.9));
    let mut good = Vec::new();
    for (name, success) in [("first", 0.8), ("second", 0.7), ("third", 0.6)] {
        let vendor = Vendor::scripted(Dialect::OpenAi, move |_| Reply::text(name)).await;
        plan = plan.vendor(name, &vendor).model(&Model::new(&format!("{name}/one")).success(success));
        good.push(vendor);
    }
    let house = plan.start().await;
    let mut body = ask(false);
    body["model"] = json!("workflow/spread");
    let answer = house.client().chat(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said: Vec<String> = serde_json::from_str(&answer.content()).unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    for one in &said {
        let (model, text) = one.split_once('=').unwrap();
        assert_eq!(model, format!("{text}/one"), "{said:?}");
    }
    assert_ne!(said[0], said[1], "of different providers");
    assert!(down.count() > 0 && stuck.count() > 0, "neither a fallback nor a hedge was seen");
}

/// Where the fastest model is the strongest as well, another one drafts beside it; where there is no other, nobody does.
#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_hedge_asks_no_model_twice() {
    let other = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("drafted")).await;
    let one = |vendor: &Vendor| {
        // As quick as the other, and believed in more: it comes first both ways.
        let both = Model::new("best/one").success(0.95);
        Plan::new().vendor("best", vendor).model(&both).rules(crate::NO_CHANCE)
    };
    let mut body = ask(false);
    body["model"] = json!("workflow/speculative_hedge");

    // It never answers, so that the draft is taken.
    let best = Vendor::scripted(Dialect::OpenAi, |_| Reply::Hang).await;
    let less = Model::new("other/one").success(0.5);
    let house = one(&best).vendor("other", &other).model(&less).start().await;
    let answer = house.client().chat(&body).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "drafted"), "{}", answer.text());
    let record = house.decision(&answer.request_id()).await;
    let steps = record["run"]["steps"].as_array().unwrap();
    let calls = steps.iter().filter_map(|s| s["calls"].as_array()).flatten();
    let models: Vec<&Value> = calls.map(|c| &c["model"]).collect();
    assert_eq!(models.len(), 2, "{record:#}");
    assert!(models.contains(&&json!("best/one")) && models.contains(&&json!("other/one")), "{models:?}");

    let alone = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("strong words")).await;
    let house = one(&alone).start().await;
    let answer = house.client().chat(&body).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "strong words"), "{}", answer.text());
    assert_eq!(alone.count(), 1);
}

//! Bounds that a request or a rule sets, sessions, and what they do to the choice.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::time::Duration;
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Reply, Vendor};

fn ask(more: &Value) -> Value {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "Say hello to me."}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

async fn one(vendor: &Vendor, rules: &str) -> House {
    let model = Model::new("lab/one").price(1.0).untimed();
    Plan::new().vendor("lab", vendor).model(&model).rules(rules).start().await
}

/// The call that a rule shortens is what its ceiling on the cost is held against.
#[tokio::test(flavor = "multi_thread")]
async fn a_shortened_answer_fits_a_ceiling_that_a_long_one_breaks() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let rules = |actions: &str| {
        format!("version: 1\nrules:\n  - {{ id: thrift, when: \"true\", actions: {{ {actions} }} }}\n")
    };
    let capped = one(&vendor, &rules("cap_cost: 0.00006, cap_max_tokens: 10")).await;
    for more in [json!({}), json!({"max_tokens": 100}), json!({"max_tokens": 10})] {
        let answer = capped.client().chat(&ask(&more)).await;
        assert_eq!(answer.status, 200, "{more}: {}", answer.text());
        assert_eq!(vendor.seen().last().unwrap().body["max_tokens"], 10, "{more}");
    }
    let uncapped = one(&vendor, &rules("cap_cost: 0.00006")).await;
    let refused = uncapped.client().chat(&ask(&json!({"max_tokens": 100}))).await;
    assert!(refused.text().contains("max_cost"), "{}", refused.text());
}

/// What a rule alone stands in the way of is the rule's doing: the refusal and the record name it, and no retry mends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_or_floor_of_a_rule_names_the_rule() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    for (action, reason) in [("cap_cost: 0.0000001", "max_cost"), ("min_quality: 0.999", "min_quality")] {
        let rules = format!("version: 1\nrules:\n  - {{ id: strict, actions: {{ {action} }} }}\n");
        let house = one(&vendor, &rules).await;
        let refused = house.client().chat(&ask(&json!({}))).await;
        let error = refused.error(403);
        assert_eq!(error["code"], "no_candidates", "{error}");
        let told = format!("{reason} of rule strict");
        assert!(error["message"].as_str().unwrap().contains(&told), "{error}");
        let record = house.decision(&refused.request_id()).await;
        let excluded = record["decision"]["excluded"].as_array().unwrap().clone();
        assert!(!excluded.is_empty(), "{record:#}");
        for one in &excluded {
            assert_eq!((&one["reason"], &one["rule"]), (&json!(reason), &json!("strict")), "{record:#}");
        }
        assert_eq!(record["outcome"]["status"], "denied", "{record:#}");
        // The request's own ceiling is the request's doing, where it is the lower one.
        if reason == "max_cost" {
            let own = json!({"routing": {"max_cost_usd": 0.00000001}});
            let whose = house.client().chat(&ask(&own)).await.error(400);
            assert_eq!(whose["param"], "routing.max_cost_usd", "{whose}");
        }
    }
    assert_eq!(vendor.count(), 0);
}

/// A default that nobody stated keeps no model out; what was seen does.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_left_out_for_its_times_only_where_they_are_known() {
    let quick = Vendor::start(Dialect::OpenAi).await;
    let house = one(&quick, NO_CHANCE).await;
    // Nothing is known: the model is asked, whatever comes of it.
    let hasty = ask(&json!({"routing": {"max_latency_ms": 700}}));
    let first = house.client().chat(&hasty).await;
    let record = house.decision(&first.request_id()).await;
    assert!(!record["decision"]["excluded"].to_string().contains("max_latency"), "{record:#}");
    // Whole answers never say when they began; that they ended soon is learned from them all the same.
    let patient = ask(&json!({"routing": {"max_latency_ms": 20_000}}));
    for i in 0..20 {
        let answer = house.client().chat(&patient).await;
        assert_eq!(answer.status, 200, "request {i}: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let slow = Vendor::scripted(Dialect::OpenAi, |_| {
        Reply::Answer(Answer::text("slowly").after(Duration::from_millis(900)))
    })
    .await;
    let house = one(&slow, NO_CHANCE).await;
    for _ in 0..4 {
        assert_eq!(house.client().chat(&ask(&json!({"stream": false}))).await.status, 200);
    }
    // Until what was seen is known it is asked, and does not answer in time; then it is not even asked.
    let hasty = ask(&json!({"routing": {"max_latency_ms": 800}}));
    let refused = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let answer = house.client().chat(&hasty).await;
            if answer.status == 503 {
                return answer;
            }
            assert_eq!(answer.status, 504, "{}", answer.text());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let refused = refused.await.expect("what was seen is never held against it");
    is_told_to_wait(&refused);
}

/// A refusal for what was seen of the times of models, which passes within a minute.
#[track_caller]
fn is_told_to_wait(refused: &Response) {
    let error = refused.error(503);
    assert_eq!(error["code"], "no_candidates", "{error}");
    assert!(error["message"].as_str().unwrap().contains("max_latency"), "{error}");
    assert_eq!(refused.header("x-should-retry"), Some("true"), "{error}");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

/// Times that the matrix states do not pass: the request is at fault, or the rule that sets the ceiling.
#[tokio::test(flavor = "multi_thread")]
async fn stated_times_that_break_a_ceiling_are_no_matter_of_waiting() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let rules = "version: 1\nrules:\n  - { id: swift, actions: { cap_latency: 10ms } }\n";
    for (rules, own, status) in
        [(NO_CHANCE, json!({"routing": {"max_latency_ms": 10}}), 400), (rules, json!({}), 403)]
    {
        let house =
            Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).rules(rules).start().await;
        let refused = house.client().chat(&ask(&own)).await;
        let error = refused.error(status);
        assert!(error["message"].as_str().unwrap().contains("> 10 ms"), "{error}");
        assert_eq!(refused.header("x-should-retry"), Some("false"), "{error}");
        assert_eq!(refused.header("retry-after"), None, "{error}");
    }
    assert_eq!(vendor.count(), 0);
}

/// What was seen passes under a rule's ceiling as well as under the request's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_rules_ceiling_refuses_for_a_while_what_was_seen_to_break_it() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| {
        Reply::Answer(Answer::text("slowly").after(Duration::from_secs(3)))
    })
    .await;
    let rules = "version: 1\nrules:\n  - { id: swift, actions: { cap_latency: 300ms } }\n";
    let house = one(&vendor, rules).await;
    let refused = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let answer = house.client().chat(&ask(&json!({}))).await;
            if answer.status == 503 {
                return answer;
            }
            assert_eq!(answer.status, 504, "{}", answer.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    is_told_to_wait(&refused.await.expect("it is asked again and again"));
}

/// A ceiling on time goes by what models took: neither one that is known to be slow is asked, however good it is, nor
/// one that nobody knows, where another is known to be fast.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_on_time_finds_the_model_that_is_known_to_keep_it() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| match seen.model().as_str() {
        "fast" => Reply::text("at once"),
        _ => Reply::text("slowly").slow(Duration::from_secs(6)),
    })
    .await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/slow").success(0.9).untimed())
        .model(&Model::new("lab/unknown").success(0.9).untimed())
        .model(&Model::new("lab/fast").success(0.6).untimed())
        .rules(NO_CHANCE)
        .start()
        .await;
    for model in ["lab/slow", "lab/fast"] {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (client, body) = (house.client(), ask(&json!({"model": model})));
            asked.spawn(async move { client.chat(&body).await.status });
        }
        assert_eq!(asked.join_all().await, [200; 6]);
    }
    let hasty = ask(&json!({"routing": {"max_latency_ms": 3_000}}));
    let learned = tokio::time::timeout(Duration::from_secs(60), async {
        while house.client().chat(&hasty).await.content() != "at once" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    learned.await.expect("the fast model is never found");
    for i in 0..14 {
        let answer = house.client().chat(&hasty).await;
        assert_eq!((answer.status, answer.content().as_str()), (200, "at once"), "{i}: {}", answer.text());
        let record = house.decision(&answer.request_id()).await;
        let out = record["decision"]["excluded"].to_string();
        assert!(out.contains("lab/slow") && !out.contains("lab/fast"), "{i}: {out}");
    }
}

/// What a ceiling cut off is known to take longer: after a few such calls the request is refused, and the ceiling is
/// named. Whole answers, and streams that begin in time and do not end in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_a_ceiling_cut_off_is_not_asked_again_under_it() {
    for stream in [false, true] {
        let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
            let slow = Answer::text("one two three four five six");
            let pause = Duration::from_millis(1_500);
            Reply::Answer(if seen.streams() { slow.gap(pause) } else { slow.after(pause) })
        })
        .await;
        let house = Plan::new()
            .vendor("lab", &vendor)
            .model(&Model::new("lab/one").untimed())
            .rules(NO_CHANCE)
            .start()
            .await;
        let hasty = ask(&json!({"stream": stream, "routing": {"max_latency_ms": 300}}));
        let refused = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let answer = house.client().chat(&hasty).await;
                if answer.status == 503 {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let refused = refused.await.expect("it is asked again and again");
        is_told_to_wait(&refused);
        let asked = vendor.count();
        for _ in 0..5 {
            assert_eq!(house.client().chat(&hasty).await.status, 503);
        }
        assert_eq!(vendor.count(), asked, "{stream}: it was asked again");
        // Who has more time is served.
        let patient = ask(&json!({"routing": {"max_latency_ms": 30_000}}));
        assert_eq!(house.client().chat(&patient).await.status, 200);
    }
}

/// Trying others out is for those who lose nothing by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_never_explored_with() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let rules = "version: 1\nexploration: { epsilon: 0.5, arms: 3, within: 0.1, budget: 1.0 }\n";
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .model(&Model::new("lab/two"))
        .model(&Model::new("lab/three"))
        .rules(rules)
        .start()
        .await;
    // Requests that might have gone to another arm than the best, whichever was drawn.
    let explored = async |body: Value| {
        let mut explored = 0;
        for _ in 0..10 {
            let answer = house.client().chat(&body).await;
            let record = house.decision(&answer.request_id()).await;
            let arms = record["decision"]["arms"].as_array().unwrap().iter();
            let likely = arms.filter(|a| a["propensity"].as_f64().is_some_and(|p| p > 0.0)).count();
            explored += usize::from(likely > 1 || record["decision"]["explored"] == true);
        }
        explored
    };
    assert!(explored(ask(&json!({}))).await > 0, "nothing is explored at all");
    let _first = house.client().chat(&ask(&json!({"routing": {"session": "talk"}}))).await;
    assert_eq!(explored(ask(&json!({"routing": {"session": "talk"}}))).await, 0);
}

/// A client that only sends its conversation again, as all do, is in a session as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_a_session_without_being_named() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let rules =
        "version: 1\nexploration: { epsilon: 0.5, arms: 3, within: 0.1, budget: 1.0, switch: 0.01 }\n";
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .model(&Model::new("lab/two"))
        .model(&Model::new("lab/three"))
        .rules(rules)
        .start()
        .await;
    let turn = |opening: &str, goes_on: bool| {
        let mut messages = vec![json!({"role": "user", "content": opening})];
        if goes_on {
            messages.push(json!({"role": "assistant", "content": "A span of planks."}));
            messages
                .push(json!({"role": "user", "content": "Tell me more about the oldest of them, please."}));
        }
        json!({"model": "auto", "messages": messages})
    };
    let decided = async |body: Value| {
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        house.decision(&answer.request_id()).await["decision"].clone()
    };
    let leaving_costs = |decision: &Value| {
        let arms = decision["arms"].as_array().unwrap();
        arms.iter().any(|a| a["terms"]["switching"].as_f64().unwrap_or(0.0) > 0.0)
    };
    let bridges = "Tell me something about the history of bridges, please.";
    for _ in 0..30 {
        // Questions that are alike are not one conversation.
        assert!(!leaving_costs(&decided(turn(bridges, false)).await));
    }
    for _ in 0..30 {
        let second = decided(turn(bridges, true)).await;
        assert!(leaving_costs(&second), "{second}");
        assert_eq!((&second["epsilon"], &second["explored"]), (&json!(0.0), &json!(false)), "{second}");
    }
    let other = decided(turn("Tell me something about the history of tunnels, please.", true)).await;
    assert!(!leaving_costs(&other), "{other}");
}

/// A workflow that asks no model of its own calls one that is given its model, and falls back on one.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_without_a_model_calls_one_that_needs_one() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| match seen.model().as_str() {
        "small" => Reply::error(400),
        _ => Reply::text("from the large one"),
    })
    .await;
    let calls = "version: 1\nname: calls\nnodes:\n  - { id: a, type: call, workflow: default }\noutput: nodes.a.completion\n";
    let falls = "version: 1\nname: falls\non_failure: { fallback: default }\nnodes:\n  - { id: a, type: generate, model: lab/small }\noutput: nodes.a.completion\n";
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/small").success(0.2))
        .model(&Model::new("lab/large").success(0.9))
        .rules(NO_CHANCE)
        .file("workflows/calls.yaml", calls)
        .file("workflows/falls.yaml", falls)
        .start()
        .await;
    for workflow in ["workflow/calls", "workflow/falls"] {
        let answer = house.client().chat(&ask(&json!({"model": workflow}))).await;
        assert_eq!(answer.status, 200, "{workflow}: {}", answer.text());
        assert_eq!(answer.content(), "from the large one", "{workflow}");
    }
}

/// What a workflow's file says of the models it takes holds for the node that the router chooses a model for, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_route_of_a_primary_node_keeps_models_out() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| Reply::text(&seen.model())).await;
    let flow = |name: &str, route: &str| {
        format!(
            "version: 1\nname: {name}\nnodes:\n  - {{ id: ask, type: generate, primary: true, samples: 1, route: {route} }}\n\
             output: nodes.ask.completion\n"
        )
    };
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/small").success(0.1))
        .model(&Model::new("lab/middle").success(0.5))
        .model(&Model::new("lab/large").success(0.99))
        .rules(NO_CHANCE)
        .file("workflows/no_large.yaml", &flow("no_large", "{ exclude: [lab/large] }"))
        .file("workflows/only_small.yaml", &flow("only_small", "{ require: [lab/small] }"))
        .start()
        .await;
    for (workflow, want) in [("no_large", "middle"), ("only_small", "small"), ("default", "large")] {
        let answer = house.client().chat(&ask(&json!({"model": format!("workflow/{workflow}")}))).await;
        assert_eq!(answer.content(), want, "{workflow}: {}", answer.text());
    }
    // Not as a fallback either.
    vendor.otherwise(|seen| if seen.model() == "small" { Reply::error(500) } else { Reply::text("another") });
    let answer = house.client().chat(&ask(&json!({"model": "workflow/only_small"}))).await;
    assert!(answer.status >= 500, "{}", answer.text());
    assert!(vendor.seen().last().unwrap().model() == "small");
}

/// A ceiling on time is the client's, and nearly all of it belongs to the answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_within_the_ceiling_on_time_is_delivered() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| {
        Reply::Answer(Answer::text("in time").after(Duration::from_secs(7)))
    })
    .await;
    let house = one(&vendor, NO_CHANCE).await;
    let answer = house.client().chat(&ask(&json!({"routing": {"max_latency_ms": 10_000}}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.content(), "in time");
}

/// A session stays with the model that answered it, which has read it, and not with the one that was chosen and failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_with_the_model_that_answered() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| match seen.model().as_str() {
        "first" => Reply::error(500),
        _ => Reply::text("from the second"),
    })
    .await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/first").success(0.95))
        .model(&Model::new("lab/second").success(0.6))
        .rules(NO_CHANCE)
        .start()
        .await;
    let talk = ask(&json!({"routing": {"session": "talk"}}));
    let answer = house.client().chat(&talk).await;
    assert_eq!(answer.header("x-turnout-model"), Some("lab/second"), "{}", answer.text());
    let answer = house.client().chat(&talk).await;
    let record = house.decision(&answer.request_id()).await;
    let arms = record["decision"]["arms"].as_array().unwrap();
    let switching = |model: &str| {
        let arm = arms.iter().find(|a| a["model"] == model && a["workflow"] == "default");
        // What is nothing is not written.
        arm.map(|a| a["terms"]["switching"].as_f64().unwrap_or(0.0))
    };
    assert_eq!(switching("lab/second"), Some(0.0), "{arms:?}");
    assert!(switching("lab/first").is_none_or(|price| price > 0.0), "{arms:?}");

    // Where nobody answered, nobody has read anything.
    vendor.otherwise(|_| Reply::error(400));
    let lost = ask(&json!({"routing": {"session": "lost"}}));
    assert!(house.client().chat(&lost).await.status >= 400);
    vendor.otherwise(|_| Reply::text("well again"));
    let answer = house.client().chat(&lost).await;
    let record = house.decision(&answer.request_id()).await;
    let arms = record["decision"]["arms"].as_array().unwrap();
    assert!(arms.iter().all(|a| a["terms"]["switching"].as_f64().unwrap_or(0.0) == 0.0), "{arms:?}");
}

/// What vendors keep from being asked for a while is no rule's doing, whatever rules left of the others.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_refusal_by_a_rule() {
    let (down, away) = (
        Vendor::scripted(Dialect::OpenAi, |_| Reply::error(503)).await,
        Vendor::start(Dialect::OpenAi).await,
    );
    let rules = "version: 1\nrules:\n  - { id: stays, when: \"true\", actions: { exclude: [away/one] } }\n";
    let house = Plan::new()
        .vendor("down", &down)
        .vendor("away", &away)
        .model(&Model::new("down/one"))
        .model(&Model::new("away/one"))
        .rules(rules)
        .start()
        .await;
    let mut last = None;
    for _ in 0..40 {
        let answer = house.client().chat(&ask(&json!({}))).await;
        let error = answer.error(503);
        if error["code"] == "no_candidates" {
            last = Some(answer);
            break;
        }
    }
    let kept_out = last.expect("the breaker never opened");
    assert!(
        kept_out.text().contains("breaker") && kept_out.text().contains("rule stays"),
        "{}",
        kept_out.text()
    );
    assert!(kept_out.header("x-turnout-bundle").is_some(), "{}", kept_out.text());
    assert_eq!(away.count(), 0, "an excluded model was called");
}

/// Very many workflows and models are told of before they cost anything, and then a request carries the best arms alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_choice_among_very_many_arms_is_told_of_and_keeps_the_best() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let mut plan = Plan::new().vendor("lab", &vendor).rules(NO_CHANCE);
    for n in 0..70 {
        plan = plan.model(&Model::new(&format!("lab/m{n}")).price(1.0));
    }
    for n in 0..60 {
        let text = format!(
            "version: 1\nname: way_{n}\nserves: \"true\"\nnodes:\n  - {{ id: ask, type: generate }}\n  \
             - {{ id: out, type: stream, from: nodes.ask.completion }}\nedges:\n  - {{ from: ask, to: out }}\n"
        );
        plan = plan.file(&format!("workflows/way_{n}.yaml"), &text);
    }
    let house = plan.start().await;
    let told = house.cli(&["check"]).await;
    let told = [told.stdout, told.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(told.contains("PL220") && told.contains("70 models"), "{told}");

    let answer = house.client().chat(&ask(&json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = house.decision(&answer.request_id()).await;
    let decision = &record["decision"];
    let arms = decision["arms"].as_array().unwrap();
    assert!((512..=577).contains(&arms.len()), "{}", arms.len());
    let left_out = decision["left_out"]["arms"].as_u64().unwrap();
    assert!(left_out + arms.len() as u64 >= 4_200, "{left_out}");
    let chosen = &arms[usize::try_from(decision["chosen"].as_u64().unwrap()).unwrap()];
    assert_eq!(
        (chosen["utility"].as_f64(), decision["propensity"].as_f64()),
        (arms[0]["utility"].as_f64(), Some(1.0))
    );
}

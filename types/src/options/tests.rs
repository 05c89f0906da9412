//! Every option is settable, checked and merged.

use super::*;
use serde_json::json;

fn check(name: &str, value: impl Into<Value>, message: Option<&str>) {
    let got = Options::default().set(name, &value.into());
    match message {
        None => assert_eq!(got, Ok(()), "{name}"),
        Some(m) => assert!(got.clone().is_err_and(|p| p.message.contains(m)), "{name}: {got:?}"),
    }
}

#[test]
fn options_are_checked_one_by_one() {
    check("max_cost_usd", json!(0.01), None);
    check("max_cost_usd", json!(-1), Some("dollars"));
    check("max_cost", json!(1), Some("did you mean `max_cost_usd`?"));
    check("economy", json!("cheap"), Some("cheapest, balanced, best_possible"));
    check("task_family", json!("coding"), None);
    check("prefer", json!(["groq/*"]), None);
    check("prefer", json!("groq"), Some("list"));
    check("session", json!("a b"), Some("identifier"));
    check("explain", json!(true), None);
    check("mode", json!("free"), None);
    check("cap_cost", json!("a"), Some("dollars"));
    check("cap_latency", json!("2s"), None);
    check("cap_latency", json!(2), Some("such as 800ms"));
    check("cap_tokens", json!(0), Some("at least 1"));
    check("weight", json!("latncy"), Some("did you mean `latency`?"));
    check("weight", json!({"cost": 2}), Some("price, latency, quality, safety"));
    check("stream", json!("bufferd"), Some("did you mean `buffered`?"));
    check("explore", json!("all"), Some("expected none"));
    check("experiment", json!("none"), None);
    check("experiment", json!("all"), Some("expected none"));
    check("experiment", json!({"only": ["a"]}), Some("expected none"));
    check("experiment", json!(false), Some("expected none"));
    check("sticky", json!({"by": "user", "ttl": "30m"}), None);
    check("sticky", json!({"ttl": "30m"}), Some("`by`: expected conversation, user, tenant"));
    check("sticky", json!({"by": "user", "ttl": 5}), Some("such as 30m"));
    check("sticky", json!({"by": "user", "ttl": "2d"}), Some("at most 24h"));
    check("sticky", json!({"by": "user", "tll": "2m"}), Some("not `tll`"));
    check("sticky", json!("usr"), Some("did you mean `user`?"));
    check("validators", json!(["json", {"use": "length"}]), None);
    check("validators", json!("json"), Some("a list of up to 16"));
    check("validators", json!([7]), Some("a list of up to 16"));
    check("avoid", json!(["a/*"]), None);
    check("avoid", json!([{"where": "true"}]), Some("selectors"));
    check("strict", json!(1), Some("true or false"));
    check("validator", json!([]), Some("did you mean `validators`?"));
    check("capcost", json!(1), Some("did you mean `cap_cost`?"));
}

/// An option of the body, then of a header: what holds in the end, or what the refusal says.
fn check_both(name: &str, body: &Value, header: &str, want: Result<Options, &str>) {
    let mut got = Options::default();
    got.set(name, body).unwrap();
    let said = got.set_header(&name.replace('_', "-"), header);
    got.given.clear();
    match want {
        Ok(want) => assert_eq!((said, got), (Ok(()), want), "{name} {body} {header}"),
        Err(part) => assert!(said.is_err_and(|p| p.message.contains(part)), "{name} {body} {header}"),
    }
}

#[test]
fn what_restricts_only_becomes_tighter() {
    let with = |change: fn(&mut Options)| {
        let mut o = Options::default();
        change(&mut o);
        Ok(o)
    };
    for (body, header) in [(0.5, "0.1"), (0.1, "0.5")] {
        let want = with(|o| o.max_cost = Some(Usd::from_dollars(0.1)));
        check_both("max_cost_usd", &json!(body), header, want);
        check_both("min_quality", &json!(body), header, with(|o| o.min_quality = UnitInterval::new(0.5)));
    }
    for (body, header) in [(1, "3"), (3, "1")] {
        let want = with(|o| o.max_latency = Some(Duration::from_millis(1)));
        check_both("max_latency_ms", &json!(body), header, want);
        check_both("min_quality_tier", &json!(body), header, with(|o| o.min_quality_tier = Some(3)));
    }
    let list = |from, s: &str| Demand { from, selectors: vec![s.to_owned()] };
    let both = Options {
        require: vec![list("routing.require", "a/*"), list("x-turnout-require", "b/*")],
        ..Options::default()
    };
    check_both("require", &json!(["a/*"]), "b/*", Ok(both));
    let both = Options {
        exclude: vec![list("routing.exclude", "a/*"), list("x-turnout-exclude", "b/*")],
        ..Options::default()
    };
    check_both("exclude", &json!(["a/*"]), "b/*", Ok(both));
    for (body, header) in [("free", "auto"), ("auto", "free"), ("free", "free")] {
        check_both("mode", &json!(body), header, with(|o| o.mode = Some(Mode::Free)));
    }
    for (body, header) in [("locked_down", "permissive"), ("permissive", "locked_down")] {
        check_both("safety", &json!(body), header, with(|o| o.safety = Some(SafetyPosture::LockedDown)));
    }
    check_both("mode", &json!("free"), "paid", Err("no model is both"));
    check_both(
        "economy",
        &json!("cheapest"),
        "balanced",
        with(|o| o.economy = Some(EconomicPolicy::Balanced)),
    );
}

#[test]
fn of_verbs_what_restricts_adds_up_and_the_last_word_counts_for_the_rest() {
    let mut o = Options::default();
    for (name, value) in [("weight", json!("price")), ("stream", json!("windowed"))] {
        o.set(name, &value).unwrap();
    }
    o.set_header("weight", "quality").unwrap();
    o.set_header("stream", "buffered").unwrap();
    let told: Vec<_> = o.asks.iter().map(|a| (a.from, a.argument.as_str().unwrap())).collect();
    let want =
        [("routing.stream", "windowed"), ("x-turnout-weight", "quality"), ("x-turnout-stream", "buffered")];
    assert_eq!(told, want);
    // The two names of one ceiling are one.
    let mut o = Options::default();
    o.set("cap_cost", &json!(0.2)).unwrap();
    o.set("max_cost_usd", &json!(0.5)).unwrap();
    assert_eq!(o.max_cost, Some(Usd::from_dollars(0.2)));
}

#[test]
fn every_name_is_settable_by_header() {
    for name in names() {
        let text = match name {
            "max_latency_ms" | "min_quality_tier" => "1",
            "max_cost_usd" | "min_quality" => "0.5",
            "economy" => "cheapest",
            "latency_class" => "batch",
            "precision" => "high",
            "determinism" => "strict",
            "safety" => "standard",
            "task_family" => "chat",
            "mode" => "auto",
            "cache" => "off",
            "on_disconnect" => "finish",
            "explain" => "true",
            "tags" | "tag" => "team=a",
            "cap_cost" => "0.5",
            "cap_latency" => "800ms",
            "cap_tokens" => "100",
            "weight" => "latency",
            "stream" => "buffered",
            "explore" | "experiment" => "none",
            "sticky" => "user",
            "strict" => "true",
            _ => "x",
        };
        let mut o = Options::default();
        assert_eq!(o.set_header(&name.replace('_', "-"), text), Ok(()), "{name}");
        assert_ne!(o, Options::default(), "{name} had no effect");
    }
}

/// A part that is no pair is told of, as everywhere else: a rule that goes by it would not hold.
#[test]
fn a_header_of_tags_holds_pairs() {
    let check = |text: &str, want: Option<&[(&str, &str)]>| {
        let mut o = Options::default();
        let said = o.set_header("tags", text);
        let tags: Vec<(&str, &str)> = o.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(said.is_ok().then_some(&tags[..]), want, "{text}: {said:?}");
    };
    check("team=a, env = b=c", Some(&[("env", "b=c"), ("team", "a")]));
    check("team=a,", Some(&[("team", "a")]));
    check("", Some(&[]));
    check("batch", None);
    check("team=a,batch", None);
}

#[test]
fn what_a_request_asks_is_told_from_rules() {
    for (name, own) in [
        ("routing.stream", true),
        ("x-turnout-validators", true),
        ("provider.order", true),
        ("metadata.guardrails", true),
        ("models", true),
        ("cheap_when_red", false),
        ("models_of_acme", false),
    ] {
        assert_eq!(super::is_source(name), own, "{name}");
    }
}

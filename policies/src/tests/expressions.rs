//! The expression language: static checks, values, limits, nothing folded.

use crate::testing::{profile, scope_of};
use crate::{language, request_variables};
use serde_json::{Value, json};
use types::axis::TaskFamily;
use types::expr::{Type, Variables};
use types::profile::Scored;

fn variables() -> Variables {
    let mut v = request_variables();
    v.push(("xs".to_owned(), Type::map([("q", Type::Float), ("name", Type::Str)]).list()));
    v.push(("maybe".to_owned(), Type::map([("n", Type::Int)]).optional()));
    v.push(("any".to_owned(), Type::Any));
    v
}

/// Number, line, column and a piece of message and hint of every problem, warnings included.
#[track_caller]
fn check(source: &str, want: &[(&str, usize, usize, &str)]) {
    let got = match language().compile(source, &variables(), Some(&Type::Bool)) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    let places: Vec<_> = got.iter().map(|p| (p.number, p.line, p.column)).collect();
    assert_eq!(places, want.iter().map(|w| (w.0, w.1, w.2)).collect::<Vec<_>>(), "{source}: {got:#?}");
    for (p, w) in got.iter().zip(want) {
        let text = format!("{} {}", p.message, p.hint.as_deref().unwrap_or(""));
        assert!(text.contains(w.3), "{source}: {text}");
    }
}

#[test]
fn names_are_known() {
    check("workload.task_family == \"coding\"", &[]);
    check("worklod.task_family == \"coding\"", &[("301", 1, 1, "did you mean `workload`?")]);
    check("response.text == \"red\"", &[("301", 1, 1, "known names: request, workload, tenant, time")]);
    check("workload.task_famly == \"coding\"", &[("301", 1, 10, "did you mean `task_family`?")]);
    check("workload.axis_confidence.task_famly > 0.5", &[("301", 1, 26, "task_family")]);
    check("workload[\"task_famly\"] == \"coding\"", &[("301", 1, 10, "task_family")]);
    check("leng(request.tool_names) > 1", &[("301", 1, 1, "`len`")]);
    check("request.tool_names.leng() > 1", &[("301", 1, 20, "`len`")]);
    check("request.model_asked.starts_with() ", &[("301", 1, 21, "arguments")]);
    check("xs.some(|x| x.qq > 0.5)", &[("301", 1, 15, "`q`")]);
    check("xs.some(|x| x.q > workload.confidnce)", &[("301", 1, 28, "confidence")]);
    check("\"x\" in set(\"eu\")", &[("301", 1, 12, "unknown set `eu`")]);
    check("sleep(1) == 1 && request.stream", &[("301", 1, 1, "unknown function `sleep`")]);
    check("any.thing.goes > 1", &[]);
}

#[test]
fn loop_is_a_name_where_there_is_one() {
    let mut known = variables();
    known.push(("loop".to_owned(), Type::map([("index", Type::Int), ("remaining", Type::Int)])));
    let ask = |source: &str| language().compile(source, &known, Some(&Type::Bool));
    let (e, warnings) = ask("\"loop\" != \"x\" && loop.index == 1 && loop.remaining > 0").unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(e.reads(), ["loop.index", "loop.remaining"]);
    for (index, want) in [(1, true), (2, false)] {
        let values = vec![("loop".to_owned(), json!({"index": index, "remaining": 3}))];
        assert_eq!(e.eval_bool(&language().scope(None, values)), Ok(want));
    }
    let wrong = ask("1 == 1 && loop.indx > 1").unwrap_err();
    assert_eq!((wrong[0].number, wrong[0].column), ("301", 16), "{wrong:?}");
    // Elsewhere it is a name that nobody knows, and never a statement.
    check("loop.index == 1", &[("301", 1, 1, "loop")]);
    assert!(ask("[1].some(|x| { loop { } })").is_err() && ask("loop { }").is_err());
}

#[test]
fn results_and_operands_have_their_types() {
    check("workload.confidence", &[("302", 1, 1, "a decimal number, not true or false")]);
    check("request.stream && workload.confidence", &[("302", 1, 19, "`&&` takes true or false")]);
    check("!request.message_count", &[("302", 1, 2, "`!` takes true or false")]);
    check("request.message_count < \"abc\"", &[("303", 1, 23, "between a whole number and a string")]);
    check("request.stream == \"yes\"", &[("303", 1, 16, "always false")]);
    check("request.model_asked == ()", &[("303", 1, 21, "never unknown")]);
    check("request.max_tokens > 100", &[("303", 1, 1, "(request.max_tokens ?? 0)")]);
    check("workload.required_depth > \"shallow\"", &[("303", 1, 1, "no order")]);
    check("request.user.len() > 1", &[("303", 1, 14, "may be unknown")]);
    check("maybe.n > 1", &[("303", 1, 7, "?.n")]);
    check("3 in request.tool_names", &[("303", 1, 3, "never holds")]);
    check("request.tool_names[\"a\"] == \"b\"", &[("303", 1, 20, "indexed by a whole number")]);
}

/// A rule that forbids what is more than 5 must not let `"6"` pass, nor what is not there.
#[test]
fn only_numbers_or_texts_have_an_order() {
    let known = vec![("x".to_owned(), Type::Any)];
    let ask = |source: &str, x: Value| {
        let (e, _) = language().compile(source, &known, Some(&Type::Bool)).unwrap();
        e.eval_bool(&language().scope(None, vec![("x".to_owned(), x)]))
    };
    for (source, x, want) in [
        ("x > 5", json!(6), true),
        ("x > 5", json!(5.5), true),
        ("x <= 5", json!(5), true),
        ("x < \"b\"", json!("a"), true),
        ("x >= \"b\"", json!("a"), false),
        ("(x ?? 0) > 5", Value::Null, false),
        ("x == 5", json!("5"), false),
        ("x != 5", Value::Null, true),
    ] {
        assert_eq!(ask(source, x), Ok(want), "{source}");
    }
    for source in ["x > 5", "x < 5", "5 >= x", "!(x <= 5)", "[x].some(|y| y > 5)"] {
        for x in [json!("6"), json!([6]), json!({"a": 6}), json!(true), Value::Null] {
            let refused = ask(source, x.clone()).unwrap_err();
            assert!(refused.message.contains("two numbers or two texts"), "{source} of {x}: {refused:?}");
        }
    }
}

#[test]
fn lists_are_joined_with_lists() {
    // What a loop carries has a type that nobody knows before it runs.
    let carry = Type::map([("all", Type::Any)]);
    let variables = vec![("carry".to_owned(), carry), ("names".to_owned(), Type::Str.list())];
    let compiled = |source: &str| language().compile(source, &variables, None);
    let joined = |source: &str, all: serde_json::Value, want: serde_json::Value| {
        let (e, warnings) = compiled(source).unwrap_or_else(|p| panic!("{source}: {p:#?}"));
        assert!(warnings.is_empty(), "{warnings:#?}");
        let values = vec![("carry".to_owned(), json!({"all": all})), ("names".to_owned(), json!(["x", "y"]))];
        assert_eq!(e.eval(&language().scope(None, values)).unwrap(), want, "{source}");
    };
    joined("carry.all + [1]", json!([]), json!([1]));
    joined("carry.all + names", json!(["a"]), json!(["a", "x", "y"]));
    joined("[carry.all.len()] + carry.all", json!(["a"]), json!([1, "a"]));
    joined("names + names", json!(null), json!(["x", "y", "x", "y"]));
    joined("(carry.all ?? []) + [#{ id: \"c\" }]", json!(null), json!([{"id": "c"}]));
    for (source, column) in [("names + 1", 9), ("\"a\" + names", 1), ("names + \"a\"", 9)] {
        let wrong = compiled(source).map(|_| ()).unwrap_err();
        assert_eq!((wrong[0].number, wrong[0].column), ("303", column), "{source}: {wrong:?}");
    }
}

#[test]
fn arguments_have_their_types() {
    check("lower(3) == \"a\"", &[("303", 1, 7, "`lower` takes a string here")]);
    check("request.tool_names.lower() == \"a\"", &[("303", 1, 20, "takes a string here")]);
    check("mean(request.tool_names) == 1.0", &[("303", 1, 6, "a list of numbers")]);
    check("lower(request.user) == \"a\"", &[("303", 1, 7, "may be unknown")]);
    check("request.user?.lower() == \"a\"", &[]);
    check("truncate(request.model_asked, \"2\") == \"a\"", &[("303", 1, 31, "a whole number")]);
    check("xs.some(|x| x.q)", &[("302", 1, 9, "a function that gives true or false")]);
    check("xs.map(3).len() == 1", &[("303", 1, 8, "a function such as")]);
    check("xs.map(|x| x.name).some(|n| n > 3)", &[("303", 1, 31, "between a string and a whole number")]);
    check("xs.map(|x| x.q).max() > 0.5", &[("303", 1, 1, "may be unknown")]);
    // So is what may not be there, whatever it is where it is.
    check("request.model_asked.find(\"zz\") + 1 > 2", &[("303", 1, 1, "may be unknown")]);
    check("min([]) + 1 > 2", &[("303", 1, 1, "may be unknown")]);
    check("get(#{a: 1}, \"b\") + 1 > 2", &[("303", 1, 1, "may be unknown")]);
    check("request.metadata.get(\"a\") > 2", &[("303", 1, 1, "may be unknown")]);
    check("request.metadata.get(\"a\").get(\"b\") == 2", &[("303", 1, 27, "may be unknown")]);
    check("(request.metadata.get(\"a\") ?? 0) > 2", &[]);
    check("request.metadata.get(\"a\") == \"b\"", &[]);
    check("request.metadata.get(\"a\") in [\"b\"]", &[]);
    check("(max(xs.map(|x| x.q)) ?? 0.0) > 0.5", &[]);
    check("xs.find(|x| x.q > 0.5).name == \"a\"", &[("303", 1, 24, "?.name")]);
    check("xs.find(|x| x.q > 0.5)?.name == \"a\"", &[]);
    check("request.model_asked.find(\"-\") != ()", &[]);
    check("request.model_asked.find(\"-\") > 2", &[("303", 1, 1, "?? 0")]);
    check("request.model_asked.find(|c| c == \"-\") != ()", &[("303", 1, 26, "a string")]);
    check("any.thing.find(\"-\") != () && any.list.find(|x| x > 1) != ()", &[]);
    check("xs.filter(|x, i| i > 0 && x.nam == \"a\").len() > 0", &[("301", 1, 29, "`name`")]);
    check("request.message_count in 1..5", &[]);
    check("request.message_count !in 1..=5 && request.stream", &[]);
    check("request.model_asked in 1..5", &[("303", 1, 21, "in a range")]);
    check("request.message_count in 1.5..5", &[("303", 1, 26, "whole numbers")]);
    check("sha256(request.model_asked).len() == 64", &[]);
}

#[test]
fn what_may_be_skipped_is_guarded() {
    let nodes = Type::map([
        ("fix", Type::map([("status", Type::Str), ("attempts", Type::Int), ("list", Type::Str.list())])),
        ("always", Type::map([("attempts", Type::Int)])),
    ]);
    let variables = vec![("nodes".to_owned(), nodes)];
    let check = |source: &str, want: &[(&str, usize)]| {
        let doubtful = ["nodes.fix".to_owned()];
        let found = language().compile_with(source, &variables, Some(&Type::Bool), &doubtful);
        let (_, warnings) = found.unwrap_or_else(|p| panic!("{source}: {p:#?}"));
        assert!(warnings.iter().all(|p| p.warning), "{warnings:#?}");
        let got: Vec<_> = warnings.iter().map(|p| (p.number, p.column)).collect();
        assert_eq!(got, want, "{source}");
    };
    check("nodes.fix.attempts > 1", &[("307", 1)]);
    check("nodes.always.attempts > 1", &[]);
    check("(nodes.fix.attempts ?? 0) > 1", &[]);
    check("nodes.fix.status == \"resolved\"", &[]);
    check("nodes.fix.status == \"resolved\" && nodes.fix.attempts > 1", &[]);
    check("nodes.fix.status in [\"a\", \"b\"] && nodes.fix.attempts > 1", &[]);
    check("nodes.fix.status == \"resolved\" || nodes.fix.attempts > 1", &[("307", 35)]);
    check("nodes.fix.list.len() > 1", &[("307", 16)]);
}

#[test]
fn the_type_of_the_value_is_told() {
    let of = |source: &str| language().compile(source, &variables(), None).unwrap().0.result();
    assert_eq!(of("xs.map(|x| x.name)"), Type::Str.list());
    assert_eq!(of("xs.find(|x| x.q > 1.0)"), Type::map([("q", Type::Float), ("name", Type::Str)]).optional());
    assert_eq!(of("xs.len() * 2"), Type::Int);
    assert_eq!(of("request.max_tokens ?? 10"), Type::Int);
    assert_eq!(of("any.thing"), Type::Any);
}

#[test]
fn handled_unknowns_pass() {
    check("(request.max_tokens ?? 0) > 100", &[]);
    check("request.max_tokens != () && request.max_tokens > 100", &[]);
    check("request.max_tokens == () || request.max_tokens > 100", &[]);
    check("!(request.max_tokens == ()) && request.max_tokens > 100", &[]);
    check("request.max_tokens != () || request.max_tokens > 100", &[("303", 1, 29, "unknown")]);
    check("request.user == \"root\"", &[]);
    check("(maybe?.n ?? 0) > 1", &[]);
}

#[test]
fn enum_values_are_known() {
    let hint = "did you mean `coding`?";
    check("workload.task_family == \"codng\"", &[("304", 1, 25, hint)]);
    check("\"codng\" != workload.task_family", &[("304", 1, 1, hint)]);
    check("workload.task_family in [\"chat\", \"codng\"]", &[("304", 1, 34, hint)]);
    check("workload.task_family !in [\"codng\"]", &[("304", 1, 27, hint)]);
    check("request.tool_choice == \"forced\"", &[("304", 1, 24, "values: none, auto")]);
}

#[test]
fn foreign_syntax_and_what_does_not_compile() {
    check("workload.task_family == 'coding'", &[("306", 1, 25, "\"coding\"")]);
    check("request.stream and request.has_tools", &[("306", 1, 16, "&&")]);
    check("request.stream = true", &[("306", 1, 16, "==")]);
    check("`${request.user}` == \"a\"", &[("305", 1, 1, "double quotes")]);
    check("request.stream &&", &[("300", 1, 18, "")]);
    check("request.message_count => 3", &[("300", 1, 23, "`>=`")]);
    check("request.stream == true == ", &[("300", 1, 27, "")]);
    check("eval(\"1\") == 1", &[("300", 1, 1, "")]);
}

#[test]
fn doubtful_expressions_are_warned_of() {
    check("1 + 1 == 2", &[("308", 1, 1, "same for every request")]);
    check("true", &[]);
    check("request.text_bytes / 4 > 100", &[("309", 1, 20, "remainder")]);
}

#[track_caller]
fn value(source: &str, scope: Vec<(&str, Value)>, want: &Value) {
    let vars = scope.iter().map(|(n, _)| ((*n).to_owned(), Type::Any)).collect();
    let language = language();
    let (e, _) = language.compile(source, &vars, None).unwrap_or_else(|p| panic!("{source}: {p:#?}"));
    let scope = language.scope(None, scope.into_iter().map(|(n, v)| (n.to_owned(), v)).collect());
    assert_eq!(e.eval(&scope).map_err(|e| e.message), Ok(want.clone()), "{source}");
}

#[test]
fn expressions_give_values() {
    let x = || vec![("x", json!({"a": [3, 1, 2], "t": "  One two  ", "u": null, "m": {"k": 1.5}}))];
    for (source, want) in [
        ("x.a.len() + 1", json!(4)),
        ("x.a[0] + x.a[-1]", json!(5)),
        ("x.a.filter(|n| n > 1)", json!([3, 2])),
        ("x.a.map(|n| n * x.m.k)", json!([4.5, 1.5, 3.0])),
        ("x.a.some(|n| n == 2) && !x.a.all(|n| n > 1)", json!(true)),
        ("median(x.a)", json!(2.0)),
        ("mean([1, 2])", json!(1.5)),
        ("median([])", json!(null)),
        ("x.t.trim().lower()", json!("one two")),
        ("words(x.t)", json!(["One", "two"])),
        ("truncate(\"abc\", 2) + upper(\"d\")", json!("abD")),
        ("x.u ?? \"none\"", json!("none")),
        ("x?.u", json!(null)),
        ("\"k\" in x.m && \"z\" !in x.m", json!(true)),
        ("x.m.get(\"z\")", json!(null)),
        ("2 in x.a", json!(true)),
        ("glob(\"groq/llama\", \"groq/*\")", json!(true)),
        ("any_of(x.a, [9, 3])", json!(true)),
        ("agree_count([\"a b\", \"A  b\", \"c\"])", json!(2)),
        ("agree_count([\"\u{fb01}ve\", \"five\", \"FI\u{ff36}E\"])", json!(3)),
        ("json(x.m)", json!("{\"k\":1.5}")),
        ("est_tokens(\"12345\")", json!(2)),
        ("ceil(1.2) + floor(1.8) + round(2.6)", json!(6.0)),
        ("max(1, 2) + abs(-3)", json!(5)),
        ("\"a-b\".replace(\"-\", \"+\")", json!("a+b")),
        ("parse_int(\"12\") + 1", json!(13)),
        ("x.m == x.m", json!(true)),
        ("[3, 1.5, 2].min()", json!(1.5)),
        ("max(x.a)", json!(3)),
        ("max([])", json!(null)),
        ("max(1, 2.5)", json!(2.5)),
        ("floor(3) + ceil(2) + round(2.5)", json!(8.0)),
        ("x.a.find(|n| n < 3)", json!(1)),
        ("x.t.find(\"two\")", json!(6)),
        ("\"naïve\".find(\"v\") ?? -1", json!(3)),
        ("x.t.find(\"three\")", json!(null)),
        ("x.a.map(|n, i| n * i)", json!([0, 1, 4])),
        ("2 in 1..3 && 3 !in 1..3 && 3 in 1..=3", json!(true)),
        ("\"a,b,c\".split(\",\")", json!(["a", "b", "c"])),
        ("\"a,b,c\".split(\",\", 2)", json!(["a", "b,c"])),
        ("\"a  b\".split()", json!(["a", "b"])),
        ("lines(\"a\\nb\").len()", json!(2)),
        ("parse_float(\"1.5\") * 2", json!(3.0)),
        ("\"abc\".ends_with(\"bc\") && \"abc\".starts_with(\"ab\") && \"abc\".contains(\"b\")", json!(true)),
        ("sha256(\"abc\")", json!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
        ("x.a.filter(|n| n > x.m.k).map(|n| n + x.a.len())", json!([6, 5])),
    ] {
        value(source, x(), &want);
    }
}

#[test]
fn nothing_of_one_request_is_folded_into_the_tree() {
    let source = "workload.task_family == \"coding\" && 1 + 1 == 2 && request.message_count > 0";
    let (e, _) = language().compile(source, &request_variables(), Some(&Type::Bool)).unwrap();
    let coding = profile();
    let mut chat = profile();
    chat.task_family = Scored::certain(TaskFamily::Chat);
    for _ in 0..2 {
        assert_eq!(e.eval_bool(&scope_of(&coding)), Ok(true));
        assert_eq!(e.eval_bool(&scope_of(&chat)), Ok(false));
    }
}

#[test]
fn a_scope_extends_another_and_hides_equal_names() {
    let language = language();
    let base = language.scope(None, vec![("a".into(), json!(1)), ("b".into(), json!(2))]);
    let more = language.scope(Some(&base), vec![("b".into(), json!(5)), ("c".into(), json!(7))]);
    let vars: Variables = ["a", "b", "c"].map(|n| (n.to_owned(), Type::Int)).to_vec();
    let (e, _) = language.compile("a + b + c", &vars, Some(&Type::Int)).unwrap();
    assert_eq!(e.eval(&more), Ok(json!(13)));
    assert!(e.eval(&base).unwrap_err().message.contains("no variable `c`"));
    assert_eq!(e.source(), "a + b + c");
}

#[track_caller]
fn fails(source: &str, x: Value, limit: bool, message: &str) {
    let language = language();
    let (e, _) = language.compile(source, &vec![("x".into(), Type::Any)], None).unwrap();
    let error = e.eval(&language.scope(None, vec![("x".into(), x)])).unwrap_err();
    assert_eq!(error.limit, limit, "{error}");
    assert!(error.message.contains(message), "{error}");
}

#[test]
fn parts_are_told_as_they_are_looked_at() {
    let language = language();
    let source = "x > 1 && (x < 5 || x == 9)";
    let (e, _) = language.compile(source, &vec![("x".into(), Type::Int)], None).unwrap();
    assert_eq!(e.parts(), ["x > 1", "x < 5", "x == 9"]);
    let seen = |x: i64| {
        let scope = language.scope(None, vec![("x".into(), json!(x))]);
        e.looked_at(&scope).into_iter().map(|(part, holds)| format!("{part}: {holds}")).collect::<Vec<_>>()
    };
    assert_eq!(seen(1), ["x > 1: false"]);
    assert_eq!(seen(3), ["x > 1: true", "x < 5: true"]);
    assert_eq!(seen(9), ["x > 1: true", "x < 5: false", "x == 9: true"]);
}

#[test]
fn failures_never_count_as_false_and_tell_no_values() {
    fails("x.missing == 1", json!({"a": "secret"}), false, "no member `missing`");
    fails("x.a + 1 < 3", json!({"a": true}), false, "no function fits");
    fails("x.a[5] == 1", json!({"a": [1]}), false, "index is out of range");
    fails("1 / x == 1", json!(0), false, "divides by zero");
    fails("parse_int(x) == 1", json!("seven"), false, "a text that is no number is read as one at");
    fails("x && true", json!("secret"), false, "wrong type");
    let e = language().compile("x", &vec![("x".into(), Type::Any)], None).unwrap().0;
    let scope = language().scope(None, vec![("x".into(), json!("secret"))]);
    assert!(!e.eval_bool(&scope).unwrap_err().message.contains("secret"));
}

#[test]
fn limits_meet_what_a_text_makes_and_not_its_inputs() {
    let long = json!({"list": vec![1; 2000], "text": "a".repeat(100_000), "last": true});
    let x = || vec![("x", long.clone())];
    value("x.last && x.list.len() == 2000 && x.list[1999] == 1", x(), &json!(true));
    value("x.text.len() == 100000 && x.text.starts_with(\"aaa\") && x.text != \"a\"", x(), &json!(true));
    let short = json!({"text": "a".repeat(60_000)});
    value("truncate(x.text, 3)", vec![("x", short)], &json!("aaa"));
    fails("truncate(x.text, 3)", long.clone(), true, "length of text is over its limit");
    fails("json(x) == \"\"", long.clone(), true, "size of value is over its limit");
    value("x.list.len()", x(), &json!(2000));
    fails("mean(x.list)", long.clone(), true, "size of list is over its limit");
    value("1 in x.list && 2 !in x.list", x(), &json!(true));
    fails("x.list.filter(|n| n > 0).len() > 1", long.clone(), true, "size of list is over its limit");
    let middle = json!({"text": " a,b ".repeat(2_000)});
    value("x.text.split(\",\").len() + x.text.trim().len()", vec![("x", middle)], &json!(2001 + 9998));
    fails("x.a.map(|a| x.a.map(|b| x.a.map(|c| 1))).len()", json!({"a": vec![1; 30]}), true, "limit");
    fails("x.s + x.s == \"\"", json!({"s": "a".repeat(40_000)}), true, "length of string is over its limit");
    fails(
        "x.s.replace(\"a\", \"aaa\").len() > 0",
        json!({"s": "a".repeat(3000)}),
        true,
        "length of string is over its limit",
    );
}

#[test]
fn answers_of_usual_length_are_put_together() {
    let answers = |n: usize, bytes: usize| {
        let one = |i: usize| json!({"text": format!("{i}{}", "a".repeat(bytes)), "n": i});
        vec![("x", json!({"c": (0..n).map(one).collect::<Vec<_>>(), "none": []}))]
    };
    // Short, of usual length, and long: together more than one string may be.
    for bytes in [10, 1_000, 3_000, 4_090, 5_000, 14_000] {
        let check = |source: &str, want: Value| value(source, answers(5, bytes), &want);
        check("agree_count(x.c.map(|c| c.text))", json!(1));
        check("x.c.map(|c| c.text).len()", json!(5));
        check("x.c.map(|c| c.text)[-1].len()", json!(bytes + 1));
        check("x.c.map(|c| c.text).filter(|t| t.starts_with(\"3\")).len()", json!(1));
        check("(x.c.map(|c| c.text).find(|t| t.starts_with(\"3\")) ?? \"\").len()", json!(bytes + 1));
        check("x.c.map(|c| c.text).find(|t| t == \"\") == ()", json!(true));
        check("x.c.map(|c| c.text).some(|t| t.starts_with(\"4\"))", json!(true));
        check("x.c.map(|c| c.text).all(|t| t.len() > 5)", json!(true));
        check("x.c.map(|c| c.text).all(|t| t.starts_with(\"0\"))", json!(false));
        check("x.c.map(|c| c.text).map(|t| t.len())", json!(vec![bytes + 1; 5]));
        check("(x.none + x.c.map(|c| c.text) + [x.c[0].text]).len()", json!(6));
        check("(x.c.map(|c| c.text) + x.c.map(|c| c.text)).len()", json!(10));
        check("(x.none + [x.c[0].text] + [x.c[1].text] + [x.c[2].text]).len()", json!(3));
        check("[x.c[0].text, x.c[1].text].len()", json!(2));
        check("(x.c[0].text + x.c[1].text).len()", json!(2 * bytes + 2));
        check("(\"No. \" + x.c[0].text + \": \" + 1.5 + true).len()", json!(bytes + 14));
        check("(1 + x.c[0].text + 2).len()", json!(bytes + 3));
    }
    value("x.c.map(|c, i| c.n + i)", answers(3, 5_000), &json!([0, 2, 4]));
    value("x.c.map(|c| x.c.map(|d| d.n))", answers(2, 1), &json!([[0, 1], [0, 1]]));
    fails("x.a.map(|a| x.a)", json!({"a": vec![1; 16]}), true, "size of list is over its limit");
    fails("x.a + x.a + x.a", json!({"a": vec![1; 100]}), true, "size of list is over its limit");
}

#[test]
fn oversize_and_overdeep_texts_do_not_compile() {
    let long = format!("request.stream == {}true", " ".repeat(5000));
    check(&long, &[("300", 1, 1, "limit is 4096")]);
    let deep = format!("{}request.stream{}", "(".repeat(200), ")".repeat(200));
    let got = language().compile(&deep, &request_variables(), None).unwrap_err();
    assert_eq!(got[0].number, "300");
}

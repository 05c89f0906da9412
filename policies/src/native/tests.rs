//! Conditions come to the same whether they are answered here or by the engine.

use crate::expression::Rhai;
use crate::sandbox::{Constants, Sets};
use crate::testing::{around, full_body, plain_body, profile};
use crate::{Inputs, request_variables, scope};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;
use types::ChatRequest;
use types::expr::{Expression as _, Language as _, Scope, Type, Variables};

fn variables() -> Variables {
    let mut all = request_variables();
    all.push((
        "own".to_owned(),
        Type::map([
            ("n", Type::Int),
            ("x", Type::Float),
            ("s", Type::Str),
            ("none", Type::Str.optional()),
            ("list", Type::Str.list()),
            ("numbers", Type::Int.list()),
            ("flag", Type::Bool),
        ]),
    ));
    all
}

fn scopes(language: &Rhai) -> Vec<Scope> {
    let of = |body| {
        let request = Arc::new(ChatRequest::from_value(&body).unwrap());
        scope(&Inputs { request: &request, profile: &profile(), around: &around(), unix_ms: 0 })
    };
    let own = json!({
        "n": 3, "x": 3.0, "s": "search engine", "none": null, "list": ["search", "x"], "numbers": [1, 3],
        "flag": true
    });
    let more = |base: Scope| language.scope(Some(&base), vec![("own".to_owned(), own.clone())]);
    vec![more(of(plain_body())), more(of(full_body()))]
}

/// Comparisons of every kind, among them some that only the engine can answer.
fn atom() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec![
        "request.message_count",
        "(request.max_tokens ?? 7)",
        "(request.temperature ?? 0.5)",
        "own.n",
        "own.x",
        "workload.confidence",
        "time.hour",
        "3",
        "-1",
        "2.5",
        "own.numbers.len()",
    ]);
    let text = prop::sample::select(vec![
        "workload.task_family",
        "request.user",
        "tenant.id",
        "own.s",
        "own.none",
        "\"u\"",
        "\"acme\"",
        "()",
        "request.options.session",
        "request.last_user_text",
    ]);
    let relation = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let equality = prop::sample::select(vec!["==", "!="]);
    prop_oneof![
        (number.clone(), relation, number).prop_map(|(a, r, b)| format!("{a} {r} {b}")),
        (text.clone(), equality, text.clone()).prop_map(|(a, r, b)| format!("{a} {r} {b}")),
        (text, any::<bool>()).prop_map(|(a, not)| {
            format!("{a} {}in [\"coding\", \"acme\", (), \"u\"]", if not { "!" } else { "" })
        }),
        prop::sample::select(vec![
            "request.stream",
            "own.flag",
            "true",
            "false",
            "\"search\" in request.tool_names",
            "\"eng\" in own.s",
            "\"x\" in own.list",
            "3 in own.numbers",
            "tenant.id in set(\"known\")",
            "any_of(request.tool_names, [\"search\", \"b\"])",
            "any_of(own.list, set(\"known\"))",
            "own.list.len() > 1",
            "request.options.explain",
            "own.list.some(|s| s == \"x\")",
        ])
        .prop_map(str::to_owned),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    atom().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_answers_are_those_of_the_engine(source in expression()) {
        let sets = Sets::from([("known".to_owned(), vec!["acme".to_owned(), "x".to_owned()])]);
        let language = Rhai::with(&Constants { sets, providers: None });
        // What does not pass the checks (always false, say) is never evaluated.
        if let Ok((condition, _)) = language.condition(&source, &variables(), Some(&Type::Bool)) {
            for scope in scopes(&language) {
                prop_assert_eq!(condition.eval_bool(&scope), condition.by_engine(&scope), "{}", source);
            }
        }
    }
}

#[test]
fn atoms_are_told_with_their_own_brackets() {
    let check = |source: &str, want: &[&str]| {
        let language = Rhai::with(&Constants { sets: Sets::new(), providers: None });
        let (condition, _) = language.condition(source, &variables(), Some(&Type::Bool)).unwrap();
        let got: Vec<String> = condition.tree.atoms().iter().map(|a| a.text.to_string()).collect();
        assert_eq!(got, want, "{source}");
    };
    check("(request.max_tokens ?? 0) > 500", &["(request.max_tokens ?? 0) > 500"]);
    check(
        "((request.max_tokens ?? 0) > 500) && (own.flag || (own.x + 1.0) < 2.0)",
        &["(request.max_tokens ?? 0) > 500", "own.flag", "(own.x + 1.0) < 2.0"],
    );
    check("!(own.s == \")\") || own.flag", &["own.s == \")\"", "own.flag"]);
    check("(own.flag)", &["own.flag"]);
}

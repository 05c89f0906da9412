//! What policies say in the place of what nodes do: how many samples, who hedges, how much repair.

use super::prose;
use crate::testing::*;
use crate::{Ending, Overrides};
use std::sync::Arc;
use tokio::sync::mpsc;
use types::directives::{HedgeAfter, HedgeRule, RepairRule};
use types::repair::Strategy;

fn one(keys: &str) -> Arc<crate::Workflow> {
    workflow(&format!(
        "nodes:\n  - {{ id: ask, type: generate{keys} }}\n  - {{ id: answer, type: stream, from: nodes.ask.completion }}\n\
         edges:\n  - {{ from: ask, to: answer }}\n"
    ))
}

/// The purposes of what was asked for, in order.
async fn asked(
    w: &Arc<crate::Workflow>,
    say: Overrides,
    says: Vec<(&'static str, Vec<Says>)>,
) -> Vec<String> {
    let script = Script::new(says);
    let mut input = input(prose(), None);
    input.overrides = say;
    let ending = run(w, input, &script).await;
    assert!(matches!(ending, Ending::Delivered { .. }), "{ending:?}");
    script.asked.lock().unwrap().iter().map(|a| a.purpose.to_string()).collect()
}

fn samples(fanout: Option<u32>, cap_fanout: Option<u32>) -> Overrides {
    Overrides { fanout, cap_fanout, ..Overrides::default() }
}

fn answers(n: usize) -> Vec<Says> {
    vec![Says::Text(1, "x"); n]
}

#[tokio::test(start_paused = true)]
async fn policies_say_how_many_samples_are_taken() {
    let check = async |keys: &str, say: Overrides, want: usize| {
        let got = asked(&one(keys), say.clone(), vec![("ask", answers(16))]).await;
        assert_eq!(got.len(), want, "{keys} {say:?}");
    };
    check("", samples(None, None), 1).await;
    check("", samples(Some(3), None), 3).await;
    check("", samples(None, Some(4)), 1).await;
    check(", samples: 5", samples(None, Some(2)), 2).await;
    check(", samples: 5, min_ok: 4", samples(None, Some(1)), 1).await;
    check(", samples: 5", samples(Some(3), Some(2)), 2).await;
    check(", samples: 2", samples(Some(1), None), 1).await;
    // Only the primary node takes more; the ceiling is everybody's.
    check(", primary: false, samples: 2", samples(Some(3), None), 2).await;
    check(", primary: false, samples: 3", samples(None, Some(1)), 1).await;
    // Several answers cannot wait for the client's tools.
    check(", client_tools: suspend", samples(Some(3), None), 1).await;
}

/// The limits of the workflow hold whatever a policy asks for.
#[tokio::test(start_paused = true)]
async fn more_samples_are_no_more_calls_than_the_workflow_allows() {
    let w = workflow(
        "limits: { calls: 2 }\nnodes:\n  - { id: ask, type: generate }\n\
         \x20 - { id: answer, type: stream, from: nodes.ask.completion }\nedges:\n  - { from: ask, to: answer }\n",
    );
    assert_eq!(asked(&w, samples(Some(5), None), vec![("ask", answers(5))]).await.len(), 2);
}

/// Several answers cannot flow to the client at once.
#[tokio::test(start_paused = true)]
async fn several_samples_are_never_streamed_as_they_come() {
    for (fanout, want) in [(None, false), (Some(3), true)] {
        let script = Script::new(vec![("ask", answers(3))]);
        let (sink, _chunks) = mpsc::channel(64);
        let mut input = input(prose(), Some(sink));
        input.overrides.fanout = fanout;
        let trace = input.trace.clone();
        run(&one(""), input, &script).await;
        let mode = trace.snapshot().stream_mode;
        assert_eq!(mode.contains("a policy asks for several samples"), want, "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_begins_a_hedge_or_keeps_it_from_beginning() {
    let begin = |ms| Some(HedgeRule::Begin { after: HedgeAfter::Ms(ms), max: 1 });
    let check = async |keys: &str, hedge: Option<HedgeRule>, want: &[&str]| {
        let slow = vec![Says::Text(100, "x"), Says::Text(1, "y"), Says::Text(1, "z")];
        let say = Overrides { hedge, ..Overrides::default() };
        assert_eq!(asked(&one(keys), say, vec![("ask", slow)]).await, want, "{keys} {hedge:?}");
    };
    let (alone, hedged): (&[&str], &[&str]) = (&["primary"], &["primary", "hedge"]);
    check("", None, alone).await;
    check("", begin(50), hedged).await;
    check("", begin(200), alone).await;
    check(", hedge: { after: 50ms }", None, hedged).await;
    check(", hedge: { after: 50ms }", Some(HedgeRule::None), alone).await;
    check(", hedge: { after: 50ms }", begin(200), alone).await;
    check(", primary: false", begin(50), &["generate"]).await;
    check(", client_tools: suspend", begin(50), alone).await;
}

const LADDER: &str = "\
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, validators: [json] }
  - { id: fix, type: repair, from: check, max_attempts: 3, strategies: [fix, reprompt, resample, deterministic] }
  - { id: pick, type: select, from: [nodes.check.completions, nodes.fix.completion], when_none: best }
  - { id: answer, type: stream, from: nodes.pick.completion }
edges:
  - { from: ask, to: check }
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: check, to: fix, outcome: failed }
  - { from: fix, to: pick }
  - { from: pick, to: answer }
";

#[tokio::test(start_paused = true)]
async fn a_policy_bounds_what_repair_tries() {
    let check = async |repair: Option<RepairRule>, first: &'static str, want: &[&str]| {
        let says = vec![("ask", vec![Says::Text(1, first)]), ("fix", vec![Says::Text(1, "no json"); 3])];
        let say = Overrides { repair: repair.clone(), ..Overrides::default() };
        let got = asked(&workflow(LADDER), say, says).await;
        let got: Vec<_> = got.iter().filter_map(|p| p.strip_prefix("repair:")).collect();
        assert_eq!(got, want, "{repair:?}");
    };
    let most = |n| Some(RepairRule { max_attempts: Some(n), strategies: None });
    let only = |s: &[Strategy]| Some(RepairRule { max_attempts: None, strategies: Some(s.to_vec()) });
    let prose = "no json at all";
    check(None, prose, &["reprompt", "resample", "deterministic"]).await;
    check(most(4), prose, &["reprompt", "resample", "deterministic"]).await;
    check(most(1), prose, &["reprompt"]).await;
    check(most(0), prose, &[]).await;
    check(only(&[Strategy::Deterministic, Strategy::Escalate]), prose, &["deterministic"]).await;
    // Mending without a model is a strategy as well.
    check(most(0), "{\"a\": 1,}", &[]).await;
    check(only(&[Strategy::Resample]), "{\"a\": 1,}", &["resample"]).await;
    check(only(&[Strategy::Fix, Strategy::Resample]), "{\"a\": 1,}", &[]).await;
}

/// A workflow that is called has ceilings and bounds of repair as well; what else policies say is for the request's own.
#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_called_is_bounded_and_not_led() {
    let helper =
        format!("version: 1\nname: helper\n{}", LADDER.replace("generate }", "generate, samples: 3 }"));
    let caller = file("nodes:\n  - { id: go, type: call, workflow: helper }\noutput: nodes.go.completion\n");
    let (library, problems) = load_all(&[caller, types::doc::SourceFile::new("helper.yaml", helper)]);
    assert!(problems.is_empty(), "{problems:?}");
    let w = library.get("w").unwrap().clone();
    let check = async |say: Overrides, want: (usize, usize)| {
        let says = vec![
            ("go/ask", vec![Says::Text(1, "no json"); 16]),
            ("go/fix", vec![Says::Text(1, "no json"); 3]),
        ];
        let got = asked(&w, say.clone(), says).await;
        let repairs = got.iter().filter(|p| p.starts_with("repair:")).count();
        assert_eq!((got.len() - repairs, repairs), want, "{say:?}");
    };
    check(Overrides::default(), (3, 3)).await;
    check(samples(Some(5), None), (3, 3)).await;
    let repair = Some(RepairRule { max_attempts: Some(1), strategies: None });
    check(Overrides { repair, ..samples(None, Some(1)) }, (1, 1)).await;
}

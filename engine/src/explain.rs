//! A stored request as a table a person can read in seconds.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use types::completion::Why;
use types::decision::{Arm, Decision};
use types::directives::{Layer, RuleRecord, RuleResult};
use types::outcome::Beside;
use types::run::{AtMost, CallRecord, Run, Step};
use types::store::Stored;
use types::{Usage, Usd};

/// Most arms shown; the JSON form has all.
const ARMS: usize = 12;

/// What happened to a request and why, for a terminal; if `all`, also which rules did not match.
#[must_use]
pub fn table(stored: &Stored, all: bool) -> String {
    let (d, run, o) = (&stored.record.decision, &stored.record.run, &stored.record.outcome);
    let mut out = String::new();
    let choice =
        d.choice().map_or_else(|| "nothing".to_owned(), |a| format!("{} on {}", a.workflow, a.model));
    // Writing to a String cannot fail, hence the ignored results.
    let _ = writeln!(
        out,
        "{}  {} -> {choice}  (propensity {:.3}{})",
        d.request_id,
        d.model_asked,
        d.propensity,
        if d.explored { ", explored" } else { "" }
    );
    let _ = writeln!(out, " because  {}", d.why);
    profile(&mut out, d);
    ended_under(&mut out, d);
    premium(&mut out, d);
    limits(&mut out, d);
    read(&mut out, d);
    rules(&mut out, d, all);
    arms(&mut out, d);
    excluded(&mut out, d);
    steps(&mut out, run);
    for (what, entries) in &d.left_out {
        let _ = writeln!(out, " left out {entries} {what}: the record would be too long with them");
    }
    let cost = if o.cost_known {
        format!("{} USD", o.cost_usd)
    } else {
        format!("{} USD and calls of unknown price", o.cost_usd)
    };
    let _ = writeln!(
        out,
        " outcome  {}, verdict {}, reward {}, {cost}, {} in {} out tokens{}, {:.0} ms ({:.2} ms ours)",
        o.status.as_str(),
        o.verdict.as_str(),
        o.reward.map_or_else(|| "not observed".to_owned(), |r| format!("{:.3}", r.get())),
        o.usage.input,
        o.usage.output,
        estimated(&o.usage),
        o.total_ms,
        o.overhead_ms,
    );
    if let Some(e) = &o.error {
        let _ = writeln!(out, " error    {e}");
    }
    if let Some(short) = o.account.as_ref().and_then(|a| a.refused.as_ref()) {
        let _ = writeln!(out, " refused  by {}", shown(&short.to_string()));
    }
    counted(&mut out, run);
    for b in o.account.iter().flat_map(|a| &a.late) {
        let unpriced = if b.unpriced > 0 { " and calls of unknown price" } else { "" };
        let _ = writeln!(
            out,
            " after    {}: {} calls, {} USD{unpriced} once the answer was out, beside the outcome",
            b.model, b.calls, b.cost_usd
        );
    }
    let late = || o.account.iter().flat_map(|a| &a.late);
    if late().next().is_some() {
        let all = late().fold(o.cost_usd, |sum, b| sum.plus(b.cost_usd));
        let calls = late().fold(o.calls, |sum, b| sum.saturating_add(b.calls));
        let _ = writeln!(out, " together {calls} calls, {all} USD, as in `turnout usage`");
    }
    for b in o.account.iter().flat_map(|a| &a.beside) {
        beside(&mut out, b);
    }
    for f in &stored.feedback {
        // Whoever sends feedback writes what stands here, and the operator's terminal shows it.
        let (reason, source) = (shown(f.reason.as_deref().unwrap_or("")), shown(&f.source));
        let _ = writeln!(out, " feedback {:.2} by {source} {reason}", f.score.get());
    }
    out
}

/// What limits count of all its calls, where that is more than they are estimated to have cost.
fn counted(out: &mut String, run: &Run) {
    if run.calls().all(|c| c.at_most.is_none()) {
        return;
    }
    let nothing = AtMost { tokens: 0, usd: Usd::ZERO };
    let AtMost { tokens, usd } = run.calls().fold(nothing, |sum, c| sum.plus(c.counted()));
    let _ = writeln!(
        out,
        " counted  {usd} USD and {tokens} tokens at most on limits: nobody said what some calls used"
    );
}

/// A run that a rule wanted beside it.
fn beside(out: &mut String, b: &Beside) {
    let end = match (&b.error, b.same) {
        (Some(e), _) => format!("no answer ({e})"),
        (None, Some(true)) => format!("the same text, verdict {}", b.verdict.as_str()),
        (None, _) => format!("another text, verdict {}", b.verdict.as_str()),
    };
    let on = b.model.as_ref().map_or(String::new(), |m| format!(" on {m}"));
    let judged = b.judge.map_or(String::new(), |j| format!(", judged {:.2}", j.get()));
    let _ = writeln!(
        out,
        " beside   {} by {}{on}: {end}{judged}, {} USD, {:.0} ms",
        b.workflow, b.rule, b.cost_usd, b.total_ms
    );
}

/// Text of others in one line of at most a kilobyte.
fn shown(text: &str) -> std::borrow::Cow<'_, str> {
    types::printable::printable(text, 1_024)
}

fn profile(out: &mut String, d: &Decision) {
    let axes: Vec<String> =
        d.profile.iter().map(|a| format!("{}={} ({:.2})", a.axis, a.value, a.confidence)).collect();
    for (i, line) in axes.chunks(4).enumerate() {
        let _ = writeln!(out, " {:8} {}", if i == 0 { "profile" } else { "" }, line.join("  "));
    }
    let _ = writeln!(out, " cell     {}  about {} input tokens", d.cell, d.est_input_tokens);
}

/// What rules read of the request and its surroundings, beyond the profile: what their conditions were decided by.
fn read(out: &mut String, d: &Decision) {
    // Clients write some of it, such as metadata.
    let said = |(path, value): (&Arc<str>, &Value)| format!("{path}={}", shown(&value.to_string()));
    let values: Vec<String> = d.inputs.iter().map(said).collect();
    for (i, line) in values.chunks(4).enumerate() {
        let _ = writeln!(out, " {:8} {}", if i == 0 { "read" } else { "" }, line.join("  "));
    }
}

/// Under which configuration a run ended, where that is another one than it was decided under.
fn ended_under(out: &mut String, d: &Decision) {
    if let Some(bundle) = &d.ended_under {
        let _ = writeln!(
            out,
            " bundle   {} decided it; under {bundle} it went on: its tools and its answer went by the rules of that one",
            d.bundle
        );
    }
}

/// Whether it may use what budgets hold back, where they do.
fn premium(out: &mut String, d: &Decision) {
    let said = match d.premium.as_deref() {
        None => return,
        Some("no") => "not premium: what is held back of the budget is for others".to_owned(),
        Some(why) => format!("premium, {why}: all of the budget may be used"),
    };
    let _ = writeln!(out, " budget   {said}");
}

/// What limits of the key and its tenant allow one request.
fn limits(out: &mut String, d: &Decision) {
    for a in d.actions.iter().filter(|a| a.rule.starts_with("limit ")) {
        let _ = writeln!(out, " {}  {} {} ({})", a.rule, a.verb, a.argument, a.effect);
    }
}

fn rules(out: &mut String, d: &Decision, all: bool) {
    let quiet = |r: &RuleRecord| matches!(r.result, RuleResult::NotMatched | RuleResult::Disabled);
    for r in d.rules.iter().filter(|r| all || !quiet(r)) {
        let what: Vec<String> = d
            .actions
            .iter()
            .filter(|a| a.rule == r.id)
            .map(|a| format!("{} {} ({})", a.verb, a.argument, a.effect))
            .collect();
        let result = serde_json::to_value(r.result)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default();
        let why = r.because.as_deref().or(r.detail.as_deref()).unwrap_or_default();
        let whose = if r.layer == Layer::Tenant { " (tenant)" } else { "" };
        let _ = writeln!(out, " {result:12} {}{whose}  {why}{}", r.id, what.join("; "));
    }
    match d.rules.iter().filter(|r| !all && quiet(r)).count() {
        0 => {}
        1 => {
            let _ = writeln!(out, " 1 rule did not match (--verbose names it)");
        }
        n => {
            let _ = writeln!(out, " {n} rules did not match (--verbose names them)");
        }
    }
    for x in &d.denials {
        let _ = writeln!(out, " denied   by {}: {} ({})", x.rule, x.reason, x.code);
    }
}

fn arms(out: &mut String, d: &Decision) {
    if d.arms.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "          {:<24} {:<36} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6} {:>10}",
        "workflow", "model", "utility", "P", "+bonus", "Q", "S", "L", "price", "prefer", "n", "USD"
    );
    for (i, a) in d.arms.iter().take(ARMS).enumerate() {
        arm(out, a, d.chosen == Some(i));
    }
    if d.arms.len() > ARMS {
        let _ = writeln!(out, "          … and {} more (--json shows all)", d.arms.len() - ARMS);
    }
}

fn arm(out: &mut String, a: &Arm, chosen: bool) {
    let t = &a.terms;
    let _ = writeln!(
        out,
        "       {} {:<24} {:<36} {:>7.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>7.2} {:>6.1} {:>10}{}{}",
        if chosen { "=>" } else { "  " },
        a.workflow,
        a.model,
        a.utility,
        t.success,
        t.bonus,
        t.quality,
        t.schema,
        t.latency,
        t.price + t.switching,
        t.preference,
        a.outcomes,
        a.expected_cost_usd.map_or_else(|| "unknown".to_owned(), |c| format!("{:.6}", c.dollars())),
        if t.in_time < 1.0 { format!("  in time: {:.2}", t.in_time) } else { String::new() },
        if t.circuit < 1.0 { "  after failures: one probe" } else { "" },
    );
}

fn excluded(out: &mut String, d: &Decision) {
    for e in &d.excluded {
        let by = e.rule.as_ref().map_or(String::new(), |r| format!(" by {r}"));
        let on = e.workflow.as_ref().map_or(String::new(), |w| format!(" in {w}"));
        let _ = writeln!(
            out,
            " out      {}{on}: {}{by} {}",
            e.model,
            e.reason,
            e.detail.as_deref().unwrap_or("")
        );
    }
    // What no request can use is the same every time: one line per reason is enough.
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for e in d.unavailable.iter() {
        by_reason.entry(e.reason.as_str()).or_default().push(e.model.trim_end_matches("/*"));
    }
    for (reason, providers) in by_reason {
        let _ = writeln!(out, " out      {reason}: {}", providers.join(", "));
    }
}

fn steps(out: &mut String, run: &Run) {
    if run.steps.is_empty() {
        return;
    }
    let _ = writeln!(out, " run      {}  stream: {}", run.workflow, run.stream_mode);
    if let Some(limit) = &run.exhausted {
        let _ = writeln!(
            out,
            "          cut short: the limit `{limit}` was reached before the end of the workflow"
        );
    }
    if let Some(model) = &run.continued {
        let _ = writeln!(out, "          the answer was lost in its middle, and {model} went on with it");
    }
    for s in &run.steps {
        step(out, s);
    }
}

fn step(out: &mut String, s: &Step) {
    let note = s.note.as_deref().map_or(String::new(), |n| format!("  {n}"));
    let _ = writeln!(
        out,
        "          {:<12} {:<9} {:<10} {:>8.1} ms{note}",
        s.node, s.kind, s.outcome, s.duration_ms
    );
    for c in &s.calls {
        call(out, c);
    }
    for f in &s.findings {
        let _ = writeln!(out, "            ! {}", finding(f));
    }
}

/// A finding in one line, whatever a client named the members of its schema.
fn finding(f: &types::Finding) -> String {
    let path = shown(f.path.as_deref().unwrap_or_default());
    format!("{}.{} {path} {}", f.validator, f.code, shown(&f.message))
}

/// Whether tokens were counted by their vendor, and if not, why what it said does not count.
const fn estimated(usage: &Usage) -> &'static str {
    match (usage.estimated, usage.why) {
        (false, _) => "",
        (true, None) => " (estimated)",
        (true, Some(Why::ImpossibleInput)) => " (estimated: the vendor's input cannot be)",
        (true, Some(Why::ImpossibleOutput)) => " (estimated: the vendor's output cannot be)",
        (true, Some(Why::MissingInput)) => " (estimated: the vendor counted no input)",
        (true, Some(Why::UnlikelyInput)) => " (estimated: the vendor's count of the input is too low)",
        (true, Some(Why::UnlikelyOutput)) => " (estimated: the vendor's count of the output is too low)",
        (true, Some(Why::MissingOutput)) => " (estimated: the vendor counted no output)",
    }
}

fn call(out: &mut String, c: &CallRecord) {
    let end = match &c.error {
        Some(e) => format!("{}{}", e.kind.as_str(), e.status.map_or(String::new(), |s| format!(" ({s})"))),
        None => format!("{} + {} tokens{}", c.usage.input, c.usage.output, estimated(&c.usage)),
    };
    let mut cost = c.cost_usd.map_or_else(|| "unknown price".to_owned(), |x| format!("{x} USD"));
    if let Some(beyond) = c.beyond_usd {
        let _ = write!(cost, " ({beyond} more than was set aside)");
    }
    if c.at_most.is_some() {
        let AtMost { usd, tokens } = c.counted();
        let _ = write!(cost, " (limits count {usd} USD, {tokens} tokens: its vendor may bill so much)");
    }
    let _ = writeln!(out, "            {} {} {:.1} ms {end} {cost}", c.purpose, c.model, c.total_ms);
    for a in &c.adjusted {
        let from = a.from.as_ref().map_or(String::new(), |from| format!(" {from}"));
        let to = a.to.as_ref().map_or_else(|| "left out".to_owned(), |to| format!("went out as {to}"));
        let _ = writeln!(out, "            ~ {}{from} {to}", a.name);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use types::ChatRequest;
    use types::run::Purpose;

    /// A decision for tests: one arm, chosen.
    pub(crate) fn decision() -> Decision {
        let body = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
        let request = ChatRequest::from_value(&body).unwrap();
        let arm = serde_json::json!({
            "workflow": "default", "model": "p/a", "utility": 0.5, "expected_cost_usd": null, "outcomes": 0.0,
            "propensity": 1.0,
            "terms": {"success": 0.5, "bonus": 0.0, "optimistic": 0.5},
        });
        Decision {
            request_id: "r".into(),
            ts_ms: 0,
            tenant: "acme".into(),
            key: String::new(),
            engine_version: "".into(),
            model_asked: "auto".into(),
            profile: Vec::new(),
            cell: profiler::profile(&request).cell(),
            est_input_tokens: 1,
            rules: Vec::new(),
            actions: Vec::new(),
            inputs: BTreeMap::new(),
            denials: Vec::new(),
            options: BTreeMap::new(),
            arms: vec![serde_json::from_value(arm).unwrap()],
            excluded: Vec::new(),
            unavailable: std::sync::Arc::default(),
            chosen: Some(0),
            why: String::new(),
            propensity: 1.0,
            epsilon: 0.0,
            explored: false,
            seed: 0,
            lambda: 0.2,
            cost_ref_usd: types::Usd::ZERO,
            reference: None,
            statistics: 0,
            bundle: "b".into(),
            ended_under: None,
            premium: None,
            tags: BTreeMap::new(),
            left_out: BTreeMap::new(),
        }
    }

    #[test]
    fn what_limits_count_of_a_call_that_was_cut_off_is_told_beside_what_it_is_estimated_to_have_cost() {
        let made = |usd: i64, at_most: Option<AtMost>| CallRecord {
            at_most,
            ..CallRecord::lost("p/a".into(), Purpose::Primary, Some(Usd::from_nanos(usd)), "as it may be")
        };
        let told = |calls: Vec<CallRecord>| {
            let mut out = String::new();
            calls.iter().for_each(|c| call(&mut out, c));
            let step = Step { calls, ..Step::new("ask", "generate", "ok") };
            counted(&mut out, &Run { steps: vec![step], ..Run::default() });
            out
        };
        let most = AtMost { tokens: 8_254, usd: Usd::from_nanos(2_052_960) };
        let out = told(vec![made(3_360, Some(most)), made(1_000, None)]);
        let one = "0.00000336 USD (limits count 0.00205296 USD, 8254 tokens: its vendor may bill so much)";
        assert!(out.contains(one), "{out}");
        // All calls together are what stands above `turnout usage` in `turnout budget`.
        assert!(out.contains(" counted  0.00205396 USD and 8254 tokens at most on limits"), "{out}");
        let out = told(vec![made(3_360, None)]);
        assert!(!out.contains("limits"), "{out}");
    }

    #[test]
    fn what_rules_read_is_told_and_nobody_writes_to_the_terminal_with_it() {
        let inputs = [("budget.state", "red"), ("request.metadata.team", "a\u{1b}[2Jb")];
        let inputs = inputs.map(|(path, value)| (path.into(), Value::from(value)));
        let mut out = String::new();
        read(&mut out, &Decision { inputs: inputs.into(), ..decision() });
        assert!(out.starts_with(" read     budget.state=\"red\"  request.metadata.team="), "{out}");
        assert!(!out.contains('\u{1b}') && out.lines().count() == 1, "{out}");
        out.clear();
        read(&mut out, &decision());
        assert_eq!(out, "");
    }

    #[test]
    fn a_finding_is_one_line_whatever_a_client_called_the_members_of_its_schema() {
        let told = finding(&types::Finding {
            validator: "json_schema".into(),
            code: "required".into(),
            severity: types::run::Severity::Repair,
            path: Some("/a\r\n matched  no_secrets  deny".into()),
            span: None,
            message: "is missing\n".into(),
            expected: None,
            actual: None,
            hint: None,
        });
        assert_eq!(told, r"json_schema.required /a\u{d}\u{a} matched  no_secrets  deny is missing\u{a}");
    }
}

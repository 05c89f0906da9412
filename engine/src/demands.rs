//! What policies demand of the record of a request, and what is to be remembered of it.

use crate::error::{Error, Kind};
use crate::history::{Conversation, Memory};
use crate::redact::{Answers, Redaction};
use crate::said::Said;
use bytes::Bytes;
use policies::Watched;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::ChatRequest;
use types::chat::ResponseFormat;
use types::decision::Decision;
use types::directives::{Further, LogContent, Place, RuleId, Verb};
use types::options;
use types::outcome::Status;
use types::privacy::Detector;
use types::run::Run;

/// Demands on one request: there are none on most, and then nothing of this is made.
#[derive(Clone)]
pub(crate) struct Demands {
    /// How much of its content may be recorded; `None` = everything.
    log: Option<LogContent>,
    /// How many milliseconds its record is kept; `None` = while there is room.
    retention: Option<u64>,
    /// What is redacted, and what stands for what: without any rule, the ground for those of later phases.
    pub(crate) redaction: Redaction,
    /// The request fails if its record cannot be stored; the rule that demands it.
    audit: Option<RuleId>,
    /// Groups that have to agree to the request.
    agreed: Vec<String>,
    /// Which request of which conversation it is, where policies ask for that.
    turn: Option<(Conversation, Arc<Memory>)>,
    /// What the later phases say.
    pub(crate) said: Said,
}

impl Demands {
    pub(crate) fn of(
        further: Option<&Further>,
        redaction: Redaction,
        turn: Option<(Conversation, Arc<Memory>)>,
    ) -> Self {
        Demands {
            log: further.and_then(|f| f.log.as_ref()).map(|l| l.value),
            retention: further.and_then(|f| f.retention.as_ref()).map(|r| r.value),
            audit: further.and_then(|f| f.audit.clone()),
            agreed: further.iter().flat_map(|f| &f.approvals).map(|a| a.value.group.clone()).collect(),
            redaction,
            turn,
            said: Said::default(),
        }
    }

    /// What changes the answers to a request on their way out, or ends them for what they are `watched` for; `None` = nothing.
    pub(crate) fn answers(&self, request: &ChatRequest, watched: Vec<Watched>) -> Option<Answers> {
        Answers::of(&self.redaction, request.response_format != ResponseFormat::Text, watched)
    }

    /// Why a run that outlives this process cannot be held to the demands; `None` = it can.
    pub(crate) fn not_in_runs(&self) -> Option<&'static str> {
        [
            (self.redaction.is_busy(), "redact"),
            (self.log.is_some_and(|l| l < LogContent::Full) || self.retention.is_some(), "log"),
            (self.audit.is_some(), "audit"),
        ]
        .into_iter()
        .find_map(|(demanded, verb)| demanded.then_some(verb))
    }

    /// How many milliseconds the record of the request is kept, as far as that is known before its end.
    pub(crate) const fn retention(&self) -> Option<u64> {
        self.retention
    }

    /// Adds what the later phases said, and takes out what may not be recorded. Gives how many milliseconds the rest is
    /// kept; `None` = while there is room.
    pub(crate) fn apply(&self, decision: &mut Decision, run: &mut Run) -> Option<u64> {
        let mut words = self.said.take();
        decision.rules.append(&mut words.rules);
        decision.actions.append(&mut words.actions);
        decision.denials.append(&mut words.denials);
        decision.tags.append(&mut words.tags);
        for (entity, n) in self.redaction.counts() {
            decision.tags.insert(format!("redacted_{}", entity.as_str()), n.to_string());
        }
        let content = [self.log, words.log].into_iter().flatten().min();
        match content {
            Some(LogContent::None) => {
                decision.tags.clear();
                decision.inputs.clear();
                decision.options.clear();
                asked(decision).for_each(|argument| *argument = Value::Null);
                quotations(run, &mut |_| String::new());
            }
            Some(LogContent::Metadata) => {
                asked(decision).for_each(|argument| *argument = Value::Null);
                quotations(run, &mut |_| String::new());
                if let Some(redaction) = recorded(self.redaction.with(&words.redact), content) {
                    words_of(decision, &redaction);
                }
            }
            _ => {
                if let Some(redaction) = recorded(self.redaction.with(&words.redact), content) {
                    quotations(run, &mut |text| concealed(&redaction, text));
                    words_of(decision, &redaction);
                }
            }
        }
        [self.retention, words.retention].into_iter().flatten().min()
    }

    /// Takes out of the labels of a request what may not be recorded, for they are words of its client, too.
    pub(crate) fn conceal(&self, tags: &mut BTreeMap<String, String>) {
        if self.log == Some(LogContent::None) {
            tags.clear();
        } else if let Some(redaction) = recorded(self.redaction.clone(), self.log) {
            conceal(tags, &redaction);
        }
    }

    /// Remembers how the request ended.
    pub(crate) fn ended(&self, run: &Run, status: Status) {
        if let Some((turn, memory)) = &self.turn {
            memory.ends(*turn, run.verdict, status);
        }
    }

    /// The request is sent again in another form, by ourselves.
    pub(crate) fn comes_again(&self) {
        if let Some((turn, memory)) = &self.turn {
            memory.forgets(*turn);
        }
    }

    /// Groups that have agreed to the request, once it is answered.
    pub(crate) fn agreed(&self) -> &[String] {
        &self.agreed
    }

    /// Whether it fails without a record.
    pub(crate) const fn is_audited(&self) -> bool {
        self.audit.is_some()
    }

    /// Why the request fails when its record could not be stored; `None` = it does not.
    pub(crate) fn unrecorded(&self) -> Option<Error> {
        let rule = self.audit.as_ref()?;
        let reason =
            format!("the rule `{rule}` demands a record of this request, and it could not be stored");
        Some(Kind::Unrecorded(reason).into())
    }
}

/// What is redacted in records; `None` = nothing.
fn recorded(redaction: Redaction, content: Option<LogContent>) -> Option<Redaction> {
    match redaction.concerns(Place::Logs) {
        false if content == Some(LogContent::Redacted) => Some(redaction.masking_all(Place::Logs)),
        concerned => concerned.then_some(redaction),
    }
}

/// A text as it is recorded. What must not be let through is not recorded either.
fn concealed(redaction: &Redaction, text: &str) -> String {
    redaction.text(text, Place::Logs).map(String::from).unwrap_or_default()
}

/// The arguments of what the request asked for itself, such as the words that its checks look for.
fn asked(decision: &mut Decision) -> impl Iterator<Item = &mut Value> {
    decision.actions.iter_mut().filter(|a| options::is_source(&a.rule)).map(|a| &mut a.argument)
}

/// Takes out of a decision what its client said: labels, what rules read of the request, options, what it asked for itself.
fn words_of(decision: &mut Decision, redaction: &Redaction) {
    conceal(&mut decision.tags, redaction);
    asked(decision).for_each(|v| each(v, redaction));
    decision.inputs.values_mut().chain(decision.options.values_mut()).for_each(|v| each(v, redaction));
}

/// Every text of a value, names of members included.
fn each(value: &mut Value, redaction: &Redaction) {
    match value {
        Value::String(text) => *text = concealed(redaction, text),
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, redaction)),
        Value::Object(members) => {
            let own = std::mem::take(members).into_iter();
            members.extend(own.map(|(name, mut value)| {
                each(&mut value, redaction);
                (concealed(redaction, &name), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn conceal(tags: &mut BTreeMap<String, String>, redaction: &Redaction) {
    let own = std::mem::take(tags).into_iter();
    tags.extend(own.map(|(name, value)| (concealed(redaction, &name), concealed(redaction, &value))));
}

/// The reason that somebody gives for a word on a request, as far as the record of that request lets it be kept: where
/// something of it was masked in the record, every kind of value is masked in what is said of it later.
pub(crate) fn reason(
    record: &Decision,
    detector: Arc<dyn Detector>,
    key: &[u8; 32],
    text: &str,
) -> Option<String> {
    let applied = |verb: Verb| record.actions.iter().filter(move |a| a.applies(&verb)).map(|a| &a.argument);
    let content = |names: &[&str]| {
        let of = |argument: &Value| argument.get("content").unwrap_or(argument).as_str().map(str::to_owned);
        applied(Verb::Log).filter_map(of).any(|content| names.contains(&content.as_str()))
    };
    if content(&["none", "metadata"]) {
        return None;
    }
    let in_logs =
        |argument: &Value| argument.get("in").is_none_or(|places| places.to_string().contains("logs"));
    if !content(&["redacted"]) && !applied(Verb::Redact).any(in_logs) {
        return Some(text.to_owned());
    }
    let redaction = Redaction::of(&[], detector, key, &record.tenant, Bytes::new()).masking_all(Place::Logs);
    Some(concealed(&redaction, text))
}

/// Every text of a run that may quote the request or the answer.
fn quotations(run: &mut Run, change: &mut dyn FnMut(&str) -> String) {
    let mut one = |text: &mut String| *text = change(text);
    for step in &mut run.steps {
        step.note.iter_mut().for_each(&mut one);
        for finding in &mut step.findings {
            one(&mut finding.message);
            finding.hint.iter_mut().for_each(&mut one);
            for value in [&mut finding.expected, &mut finding.actual].into_iter().flatten() {
                let mut text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                one(&mut text);
                *value = text.into();
            }
        }
        for error in step.calls.iter_mut().filter_map(|c| c.error.as_mut()) {
            one(&mut error.detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::tests::redaction;
    use serde_json::json;
    use types::directives::{ActionRecord, Effect, RedactAction, Set};
    use types::privacy::Entity;
    use types::run::{Finding, Severity, Step};

    fn run() -> Run {
        let finding = Finding {
            validator: "v".into(),
            code: "c".into(),
            severity: Severity::Warn,
            path: None,
            span: None,
            message: "it says ada@analytical.co.uk".into(),
            expected: None,
            actual: Some("ada@analytical.co.uk".into()),
            hint: None,
        };
        let step = Step {
            findings: vec![finding],
            note: Some("see ada@analytical.co.uk".into()),
            ..Step::new("check", "validate", "failed")
        };
        Run { steps: vec![step], ..Run::default() }
    }

    #[track_caller]
    fn check(log: Option<LogContent>, redacted: bool, want: &str, tagged: Option<&str>) {
        let further = Further { log: log.map(|value| Set { value, rule: "r".into() }), ..Further::default() };
        let rules = [(Entity::Email, Place::Logs, RedactAction::Mask, false)];
        let demands = Demands::of(Some(&further), redaction(if redacted { &rules } else { &[] }), None);
        let mut run = run();
        let mut decision = crate::explain::tests::decision();
        decision.tags.insert("who".to_owned(), "ada@analytical.co.uk".to_owned());
        let read = json!({"who": ["ada@analytical.co.uk"], "n": 1});
        decision.inputs.insert("request.metadata".into(), read);
        decision.options.insert("variant".to_owned(), "ada@analytical.co.uk".into());
        let action = |rule: &str| ActionRecord {
            rule: rule.into(),
            verb: "validators".into(),
            argument: json!([{"use": "keywords", "with": {"all": "ada@analytical.co.uk"}}]),
            effect: Effect::Applied,
        };
        decision.actions = vec![action("routing.validators"), action("a_rule")];
        demands.apply(&mut decision, &mut run);
        let tag = decision.tags.get("who").map(String::as_str);
        let read = decision.inputs.get("request.metadata").map(|v| &v["who"][0]);
        assert_eq!(read.and_then(Value::as_str), tagged);
        assert_eq!(decision.options.get("variant").and_then(Value::as_str), tagged);
        assert_eq!(tag, tagged);
        let argument = |i: usize| decision.actions[i].argument.pointer("/0/with/all").and_then(Value::as_str);
        let quoted = log.is_none_or(|l| l > LogContent::Metadata);
        assert_eq!((argument(0), argument(1)), (tagged.filter(|_| quoted), Some("ada@analytical.co.uk")));
        assert_eq!(run.steps[0].findings[0].message, want);
        assert_eq!(serde_json::to_string(&run).unwrap().contains("ada@"), want.contains("ada@"));
    }

    #[test]
    fn t11_no_more_is_recorded_than_may_be() {
        let (whole, masked) = (Some("ada@analytical.co.uk"), Some("[EMAIL_1]"));
        check(None, false, "it says ada@analytical.co.uk", whole);
        check(Some(LogContent::Full), false, "it says ada@analytical.co.uk", whole);
        check(Some(LogContent::Redacted), true, "it says [EMAIL_1]", masked);
        check(Some(LogContent::Redacted), false, "it says [EMAIL_1]", masked);
        check(None, true, "it says [EMAIL_1]", masked);
        check(Some(LogContent::Metadata), true, "", masked);
        check(Some(LogContent::None), false, "", None);
    }

    #[test]
    fn the_shortest_time_that_any_phase_says_counts() {
        let within =
            |ms: u64| Further { retention: Some(Set { value: ms, rule: "r".into() }), ..Further::default() };
        for (first, later, want) in [(Some(5), Some(3), 3), (Some(5), Some(9), 5), (None, Some(9), 9)] {
            let demands = Demands::of(first.map(within).as_ref(), redaction(&[]), None);
            assert_eq!((demands.retention(), demands.not_in_runs()), (first, first.map(|_| "log")));
            let further = later.map(|ms| Box::new(within(ms)));
            demands.said.note(&mut types::directives::Directives { further, ..Default::default() });
            let kept = demands.apply(&mut crate::explain::tests::decision(), &mut run());
            assert_eq!(kept, Some(want));
        }
        let none = Demands::of(None, redaction(&[]), None);
        assert_eq!(none.apply(&mut crate::explain::tests::decision(), &mut run()), None);
    }

    #[test]
    fn what_is_said_of_a_request_later_is_recorded_like_the_request() {
        #[track_caller]
        fn check(verb: &str, argument: &Value, effect: &str, want: Option<&str>) {
            let mut decision = crate::explain::tests::decision();
            decision.actions = vec![ActionRecord {
                rule: "r".into(),
                verb: verb.into(),
                argument: argument.clone(),
                effect: effect.into(),
            }];
            let said = reason(&decision, workflows::detector(), &[7; 32], "ask ada@analytical.co.uk");
            assert_eq!(said.as_deref(), want, "{verb} {argument}");
        }
        let (whole, masked) = (Some("ask ada@analytical.co.uk"), Some("ask [EMAIL_1]"));
        check("redact", &json!({"entities": ["email"], "in": ["input", "logs"]}), "applied", masked);
        check("redact", &json!({"entities": ["email"]}), "applied", masked);
        check("redact", &json!({"entities": ["email"], "in": ["output"]}), "applied", whole);
        check("redact", &json!({"entities": ["email"]}), "shadow", whole);
        check("log", &json!({"content": "redacted"}), "applied", masked);
        check("log", &json!({"content": "metadata"}), "applied", None);
        check("log", &json!({"content": "none"}), "applied", None);
        check("log", &json!({"content": "full"}), "applied", whole);
        check("tag", &json!({"a": "b"}), "applied", whole);
    }

    #[test]
    fn t09_only_audited_requests_fail_without_a_record() {
        assert!(Demands::of(None, redaction(&[]), None).unrecorded().is_none());
        let further = Further { audit: Some("r".into()), ..Further::default() };
        let error = Demands::of(Some(&further), redaction(&[]), None).unrecorded().unwrap();
        assert_eq!(error.code(), "unrecorded");
    }
}

//! Functions of policies that look at answers: checks that workflows name.

use crate::runner::{self, Lost};
use crate::sandbox::Clock;
use crate::script::Script;
use crate::set::PolicySet;
use serde_json::Value;
use std::sync::Arc;
use types::diagnostic::kind;
use types::expr::{Error, Scope};
use types::run::Severity;
use types::{Finding, Report, Verdict};

/// Code of a finding that names none.
const CODE: &str = "failed";

impl PolicySet {
    /// Names of the functions that look at answers, in order.
    #[must_use]
    pub fn checks(&self) -> Vec<String> {
        self.checks.keys().cloned().collect()
    }

    /// What a function says of an answer. `scope`: the variables of the request, which it reads as `ctx`.
    ///
    /// It runs within the limits of policies. What fails, is cut off or returns something else than a check does is
    /// unverified.
    pub async fn look_at(&self, name: &str, answer: Value, scope: &Scope) -> Report {
        match self.checks.get(name) {
            Some(script) if script.checks.iter().any(|(own, wild)| own == name && *wild) => {
                told(name, self.look_elsewhere(script, name, answer, scope).await)
            }
            _ => self.look_at_now(name, &answer, scope),
        }
    }

    /// As [`PolicySet::look_at`], on the caller's thread: for tools, not for servers.
    #[must_use]
    pub fn look_at_now(&self, name: &str, answer: &Value, scope: &Scope) -> Report {
        match self.checks.get(name) {
            Some(script) => told(name, script.look(&self.sandbox, &self.clock, name, answer, scope)),
            None => unverified(format!("there is no function `{name}`")),
        }
    }

    async fn look_elsewhere(
        &self,
        script: &Arc<Script>,
        name: &str,
        answer: Value,
        scope: &Scope,
    ) -> Result<Value, Error> {
        let (set, own, name, scope) = (self.clone(), Arc::clone(script), name.to_owned(), scope.clone());
        let clock = Clock::clone(&self.clock);
        let run = move || own.look(&set.sandbox, &set.clock, &name, &answer, &scope);
        let lost = |message: &str| Error { message: message.to_owned(), limit: true };
        match runner::shared().run(run).await {
            Ok(said) => said,
            Err(Lost::Full) => Err(lost("too many policies wait to be run")),
            Err(Lost::Overdue) => {
                script.reached_a_limit(&clock);
                Err(lost("it did not come back in time"))
            }
        }
    }
}

fn told(name: &str, said: Result<Value, Error>) -> Report {
    match said {
        Ok(said) => report(&said).unwrap_or_else(|why| unverified(format!("`{name}` {why}"))),
        Err(e) => unverified(format!("`{name}` failed: {}", e.message)),
    }
}

fn unverified(reason: String) -> Report {
    Report { verdict: Verdict::Unverified, reason: Some(reason), findings: Vec::new() }
}

/// `true` and no findings pass; findings of severity `warn` alone do, too.
fn report(said: &Value) -> Result<Report, String> {
    let findings = match said {
        Value::Bool(true) => Vec::new(),
        Value::Bool(false) => vec![plain("the function says no")],
        Value::Array(list) => list.iter().map(finding).collect::<Result<_, _>>()?,
        _ => {
            return Err(format!(
                "returned {}; a check returns true, false or a list of findings",
                kind(said)
            ));
        }
    };
    let failed = findings.iter().any(|f| f.severity > Severity::Warn);
    let verdict = if failed { Verdict::Failed } else { Verdict::Passed };
    Ok(Report { verdict, reason: None, findings })
}

fn finding(said: &Value) -> Result<Finding, String> {
    const KNOWN: &[&str] = &["message", "severity", "path", "code", "hint"];
    let map = match said {
        Value::String(message) => return Ok(plain(message)),
        Value::Object(map) => map,
        _ => return Err(format!("returned {} in its list; a finding is a text or a map", kind(said))),
    };
    if let Some(unknown) = map.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(format!("returned a finding with `{unknown}`; it may have {}", KNOWN.join(", ")));
    }
    let text = |key: &str| match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(other) => Err(format!("returned a finding whose `{key}` is {}, and no text", kind(other))),
    };
    let message = text("message")?.ok_or("returned a finding without `message`")?;
    let severity = match text("severity")? {
        None => Severity::Repair,
        Some(word) => Severity::parse(&word).ok_or_else(|| {
            format!("returned a finding whose severity is none of {}", Severity::NAMES.join(", "))
        })?,
    };
    let code = text("code")?.unwrap_or_else(|| CODE.to_owned());
    Ok(Finding { severity, code, path: text("path")?, hint: text("hint")?, ..plain(&message) })
}

fn plain(message: &str) -> Finding {
    Finding {
        validator: String::new(),
        code: CODE.to_owned(),
        severity: Severity::Repair,
        path: None,
        span: None,
        message: message.to_owned(),
        expected: None,
        actual: None,
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{load_text, sound, usual};
    use serde_json::json;
    use types::Verdict;

    const HEAD: &str = "fn describe() { #{ id: \"p\" } }\n";

    /// What a function with this body says of an answer: verdict, and reason or findings.
    async fn check(body: &str, want: Verdict, told: &str) {
        let text = format!("{HEAD}fn tone(answer, ctx) {{\n{body}\n}}");
        let set = sound("{}", &[("policies/p.rhai", &text)]);
        let answer = json!({"text": "Sure! It costs $12.", "json": {"price": 12}, "finish_reason": "stop"});
        let report = set.look_at("tone", answer, &usual()).await;
        let findings = report.findings.iter().map(|f| {
            let severity = format!("{:?}", f.severity).to_lowercase();
            format!("{severity} {} {}{}", f.code, f.path.clone().unwrap_or_default(), f.message)
        });
        let got: Vec<String> = report.reason.into_iter().chain(findings).collect();
        assert_eq!(report.verdict, want, "{body}: {got:?}");
        assert!(got.join("; ").contains(told) && got.is_empty() == told.is_empty(), "{body}: {got:?}");
    }

    #[tokio::test]
    async fn a_function_says_what_is_wrong() {
        use Verdict::{Failed, Passed};
        check("true", Passed, "").await;
        check("[]", Passed, "").await;
        check("!answer.text.starts_with(\"Sure\")", Failed, "repair failed the function says no").await;
        check(
            "if answer.text.contains(\"!\") { return [\"too loud\"]; } []",
            Failed,
            "repair failed too loud",
        )
        .await;
        let map = "[#{ message: \"dear\", severity: \"block\", path: \"/price\", code: \"price\", hint: \"less\" }]";
        check(map, Failed, "block price /pricedear").await;
        check("[#{ message: \"hm\", severity: \"warn\" }]", Passed, "warn failed hm").await;
        check("answer.json.price > 10 && ctx.workload.task_family == \"coding\"", Passed, "").await;
        check(
            "let out = []; for w in answer.text.split(\" \") { if w == \"It\" { out.push(w); } } out",
            Failed,
            "It",
        )
        .await;
    }

    #[tokio::test]
    async fn what_fails_or_says_nothing_is_unverified() {
        let check = |body: &'static str, told: &'static str| check(body, Verdict::Unverified, told);
        check("answer.texts == \"\"", "`tone` failed: there is no member `texts`; test").await;
        check("throw \"no\";", "`tone` failed: the text threw a value").await;
        check("let n = 0; for i in 0..100000000 { n += i; } true", "`tone` failed: ").await;
        check("let n = 0;", "`tone` returned nothing; a check returns true, false or a list of findings")
            .await;
        check("12", "returned a number").await;
        check("[12]", "returned a number in its list; a finding is a text or a map").await;
        check("[#{ severity: \"warn\" }]", "without `message`").await;
        check("[#{ message: \"a\", severity: \"bad\" }]", "severity is none of").await;
        check("[#{ message: \"a\", sev: 1 }]", "with `sev`; it may have message").await;
        let set = sound("{}", &[]);
        assert_eq!(set.look_at("tone", json!({}), &usual()).await.verdict, Verdict::Unverified);
    }

    #[tokio::test]
    async fn a_function_that_runs_away_is_put_away() {
        let text = format!("{HEAD}fn tone(answer, ctx) {{ for i in 0..100000000 {{ let x = i; }} true }}");
        let set = sound("{}", &[("policies/p.rhai", &text)]);
        for _ in 0..3 {
            set.look_at("tone", json!({}), &usual()).await;
        }
        let reason = set.look_at("tone", json!({}), &usual()).await.reason.unwrap();
        assert!(reason.contains("is not run for a while"), "{reason}");
    }

    #[test]
    fn functions_are_checked_when_they_are_loaded() {
        let check = |files: &[(&str, &str)], names: &[&str], want: &[(&str, &str)]| {
            let (set, problems) = load_text("{}", files);
            let got: Vec<_> = problems.iter().map(|d| (d.code.as_str(), d.to_string())).collect();
            assert_eq!(got.len(), want.len(), "{got:?}");
            assert!(got.iter().zip(want).all(|(g, w)| g.0 == w.0 && g.1.contains(w.1)), "{got:?}");
            assert!(!want.is_empty() || set.checks() == names, "{:?}", set.checks());
        };
        let with = |body: &str| format!("{HEAD}{body}");
        let two = with(
            "fn b(answer, ctx) { true }\nfn a(answer, ctx) { help(answer) }\nfn help(x) { x.text != \"\" }",
        );
        check(&[("policies/p.rhai", &two)], &["a", "b"], &[]);
        let both = with("fn on_request(ctx, act) { act.cap_cost(1.0); }\nfn a(answer, ctx) { true }");
        check(&[("policies/p.rhai", &both)], &["a"], &[]);
        let wrong = with("fn a(answer, ctx) { ctx.worklod.task_family == \"chat\" }");
        check(&[("policies/p.rhai", &wrong)], &[], &[("PL301", "did you mean `workload`?")]);
        // What is known at another time is not known here.
        let later = with("fn on_response(ctx, act) { }\nfn a(answer, ctx) { ctx.response.text == \"\" }");
        check(&[("policies/p.rhai", &later)], &[], &[("PL301", "response")]);
        check(
            &[("policies/p.rhai", &with("fn a(answer) { true }"))],
            &[],
            &[("PL122", "fn name(answer, ctx)")],
        );
        let other = "fn describe() { #{ id: \"q\" } }\nfn b(answer, ctx) { true }";
        let twice = [("policies/p.rhai", two.as_str()), ("policies/q.rhai", other)];
        check(&twice, &[], &[("PL120", "`b` is there already, in policies/p.rhai")]);
    }
}

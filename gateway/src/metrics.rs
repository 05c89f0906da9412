//! What is counted, under `turnout_*` names and, beside them, the `gen_ai` names of OpenTelemetry.
//!
//! Label values come from closed sets: routes, statuses, task families, and the workflows and models of the
//! configuration. Nothing that a client writes becomes a label.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use types::directives::Verb;
use types::outcome::{Outcome, Status};
use types::provider::ErrorKind;
use types::run::CallRecord;
use types::store::RequestRecord;

mod gauges;
mod kept;

pub use gauges::Reading;

use gauges::Gauges;
use kept::Kept;

/// The rules that keep a request from its answer, or the answer from its client: what they said, else what they left out.
pub(crate) fn refusing(record: &RequestRecord) -> BTreeSet<&str> {
    let d = &record.decision;
    if record.outcome.status != Status::Denied {
        return BTreeSet::new();
    }
    let said = d.actions.iter().filter(|a| a.applies(&Verb::Deny) || a.applies(&Verb::RequireApproval));
    let said: BTreeSet<&str> = said.map(|a| &*a.rule).chain(d.denials.iter().map(|x| &*x.rule)).collect();
    match said.is_empty() {
        true => d.excluded.iter().filter_map(|e| e.rule.as_deref()).collect(),
        false => said,
    }
}

type Labels<const N: usize> = [(&'static str, String); N];
type Counts<const N: usize> = Family<Labels<N>, Counter>;
type Sums<const N: usize> = Family<Labels<N>, Counter<f64, AtomicU64>>;
type Times<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Why the edge closed a connection, or cut a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All seats are taken.
    MaxConnections,
    /// All seats of one address are taken.
    MaxConnectionsPerIp,
    /// Nothing came.
    FirstByteTimeout,
    /// A head came too slowly, or no request at all.
    HeaderTimeout,
    /// No other request came.
    IdleTimeout,
    /// A body came too slowly.
    BodyTimeout,
    /// The client takes nothing.
    WriteStall,
    /// Bytes that are no request, or could be read two ways.
    Framing,
    /// The grace of a shutdown ran out.
    Shutdown,
}

impl Cut {
    /// The reason in series, which is also the setting of that name where there is one.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Cut::MaxConnections => "max_connections",
            Cut::MaxConnectionsPerIp => "max_connections_per_ip",
            Cut::FirstByteTimeout => "first_byte_timeout",
            Cut::HeaderTimeout => "header_timeout",
            Cut::IdleTimeout => "idle_timeout",
            Cut::BodyTimeout => "body_timeout",
            Cut::WriteStall => "write_stall",
            Cut::Framing => "framing",
            Cut::Shutdown => "shutdown",
        }
    }
}

/// All counters of one server.
pub struct Metrics {
    registry: Registry,
    http: Counts<2>,
    requests: Counts<4>,
    errors: Counts<1>,
    refusals: Counts<1>,
    redactions: Counts<1>,
    verdicts: Counts<1>,
    calls: Counts<2>,
    explored: Counter,
    repairs: Counter,
    recalls: Counts<1>,
    unverified: Counts<1>,
    pairs: Counts<1>,
    tokens: Counts<2>,
    discarded: Counts<2>,
    cost: Sums<1>,
    beyond: Sums<1>,
    overhead: Histogram,
    ttft: Times<1>,
    duration: Times<1>,
    cuts: Counts<1>,
    feedback: Counts<1>,
    notices: Counts<2>,
    anchors: Counts<1>,
    limited: Counts<2>,
    reloads: Counts<1>,
    streams: Counts<1>,
    genai: GenAi,
    gauges: Gauges,
    found: Found,
}

/// Series that have been found once: finding one costs more than counting in it. As bounded as the labels.
#[derive(Default)]
struct Found {
    http: Kept<(&'static str, u16), Counter>,
    choices: Kept<Choice, Arc<ByChoice>>,
    served: Kept<Option<Arc<str>>, Arc<ByModel>>,
    calls: Kept<(Arc<str>, Option<ErrorKind>), Arc<ByCall>>,
}

/// What a request's choice was, and how it ended.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Choice {
    status: Status,
    family: Cow<'static, str>,
    workflow: Arc<str>,
    model: Arc<str>,
    verdict: &'static str,
}

struct ByChoice {
    requests: Counter,
    verdicts: Counter,
    /// Nothing runs without a choice.
    workflow: Option<Histogram>,
}

struct ByModel {
    ttft: OnceLock<Histogram>,
    duration: Histogram,
}

struct ByCall {
    calls: Counter,
    operation: Histogram,
    first_chunk: OnceLock<Histogram>,
    input: Histogram,
    output: Histogram,
    /// As in [`KINDS`]; a series begins when there is something in it.
    tokens: [OnceLock<Counter>; 5],
    cost: OnceLock<Counter<f64, AtomicU64>>,
}

/// Kinds of tokens.
const KINDS: [&str; 5] = ["input", "cached_input", "cache_write", "output", "reasoning"];

/// The names of OpenTelemetry's conventions, dots as underscores.
struct GenAi {
    operation: Times<1>,
    first_chunk: Times<1>,
    tokens: Times<2>,
    workflow: Times<1>,
}

/// From five milliseconds to about a minute and a half, each bound twice the last: those of OpenTelemetry for clients of
/// models, and one more.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 15))
}

/// The bounds of `gen_ai.client.token.usage`: 1, 4, 16 … 67 108 864.
fn token_counts() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 14))
}

fn times<const N: usize>() -> Times<N> {
    Family::new_with_constructor(seconds)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut r = Registry::default();
        let genai = GenAi::register(&mut r);
        let r = &mut r;
        let mut m = Metrics {
            http: counts(r, "turnout_http_requests", "HTTP answers by route and status"),
            requests: counts(
                r,
                "turnout_requests",
                "Requests by end, task family, workflow and model of the choice",
            ),
            errors: counts(r, "turnout_request_errors", "Requests without an answer by error code"),
            redactions: counts(
                r,
                "turnout_policy_redactions",
                "Values that policies masked, hashed, dropped or blocked, by their kind",
            ),
            refusals: counts(
                r,
                "turnout_policy_refusals",
                "Requests that a rule refused, put to people or left without a model",
            ),
            verdicts: counts(r, "turnout_verdicts", "Answers by what their checks said"),
            calls: counts(r, "turnout_model_calls", "Calls of models by how they ended"),
            explored: Counter::default(),
            repairs: Counter::default(),
            recalls: counts(r, "turnout_cache_hits", "Nodes that put out what was kept, by how it was found"),
            unverified: counts(
                r,
                "turnout_checks_unverified",
                "Times that a check could not say anything of an answer",
            ),
            pairs: counts(
                r,
                "turnout_judge_pairs",
                "Pairs of answers that judges compared in both orders, by whether both said the same",
            ),
            tokens: counts(r, "turnout_tokens", "Tokens used by model and kind"),
            discarded: counts(
                r,
                "turnout_usage_discarded",
                "Calls whose reported usage cannot be, or lacks a half, and was estimated, by model and reason",
            ),
            cost: Family::default(),
            beyond: Family::default(),
            overhead: Histogram::new(exponential_buckets(0.000_05, 2.0, 14)),
            ttft: times(),
            duration: times(),
            cuts: counts(r, "turnout_connections_cut", "Connections and bodies cut at the edge by reason"),
            feedback: counts(r, "turnout_feedback", "Words on answers by what became of them"),
            limited: counts(
                r,
                "turnout_limit_refusals",
                "Requests that a limit refused, by what it is on and what it counts",
            ),
            notices: counts(
                r,
                "turnout_notifications",
                "What rules wanted told by sink and what became of it",
            ),
            anchors: counts(
                r,
                "turnout_audit_anchors",
                "Anchors of the audit trail told to audit.anchor_url by what became of it",
            ),
            reloads: counts(r, "turnout_reloads", "Reloads of the configuration by how they ended"),
            streams: counts(r, "turnout_streams", "Streamed answers by how they ended"),
            genai,
            gauges: Gauges::register(r),
            found: Found::default(),
            registry: Registry::default(),
        };
        r.register("turnout_explored", "Requests whose arm was drawn and not the best", m.explored.clone());
        r.register("turnout_repairs", "Repair attempts that called a model", m.repairs.clone());
        r.register("turnout_cost_usd", "Dollars spent by model", m.cost.clone());
        r.register(
            "turnout_cost_beyond_reserved_usd",
            "Dollars that calls cost beyond what was set aside for them, by model",
            m.beyond.clone(),
        );
        let s = || Unit::Seconds;
        r.register_with_unit(
            "turnout_overhead",
            "Time of ours until the first byte",
            s(),
            m.overhead.clone(),
        );
        r.register_with_unit(
            "turnout_time_to_first_token",
            "From acceptance to content",
            s(),
            m.ttft.clone(),
        );
        r.register_with_unit(
            "turnout_request_duration",
            "From acceptance to the end",
            s(),
            m.duration.clone(),
        );
        m.registry = std::mem::take(r);
        m
    }
}

fn counts<const N: usize>(r: &mut Registry, name: &str, help: &str) -> Counts<N> {
    let family = Counts::<N>::default();
    r.register(name, help, family.clone());
    family
}

impl GenAi {
    fn register(r: &mut Registry) -> Self {
        let g = GenAi {
            operation: times(),
            first_chunk: times(),
            tokens: Family::new_with_constructor(token_counts),
            workflow: times(),
        };
        let s = || Unit::Seconds;
        let op = "gen_ai_client_operation_duration";
        r.register_with_unit(op, "Duration of calls of models", s(), g.operation.clone());
        let first = "gen_ai_client_operation_time_to_first_chunk";
        r.register_with_unit(first, "Time to the first chunk of calls of models", s(), g.first_chunk.clone());
        r.register("gen_ai_client_token_usage", "Tokens of calls of models", g.tokens.clone());
        r.register_with_unit("gen_ai_workflow_duration", "Duration of workflows", s(), g.workflow.clone());
        g
    }
}

impl Metrics {
    /// An HTTP answer; `route` is the pattern that matched, or `none`.
    pub fn http(&self, route: &'static str, status: u16) {
        let labels = || [("route", route.to_owned()), ("status", status.to_string())];
        self.found.http.get((route, status), || self.http.get_or_create_owned(&labels())).inc();
    }

    /// A connection or a body was cut.
    pub fn cut(&self, cut: Cut) {
        self.cuts.get_or_create(&[("reason", cut.as_str().to_owned())]).inc();
    }

    /// A limit on `what` that counts `metric` refused a request.
    pub fn limit_refused(&self, what: &'static str, metric: &'static str) {
        self.limited.get_or_create(&[("limit", what.to_owned()), ("metric", metric.to_owned())]).inc();
    }

    /// Something that a rule wants told was `sent`, `repeated`, `failed`, `dropped`, or has no address (`unset`).
    pub fn notice(&self, sink: &'static str, result: &'static str) {
        self.notices.get_or_create(&[("sink", sink.to_owned()), ("result", result.to_owned())]).inc();
    }

    /// An anchor of the audit trail was `sent`, or a try to `failed`.
    pub fn anchor(&self, result: &'static str) {
        self.anchors.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// A word on an answer came: `recorded`, `duplicate`, `refused`.
    pub fn feedback(&self, result: &'static str) {
        self.feedback.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// The configuration was read again: `applied`, `unchanged`, `refused`.
    pub fn reload(&self, result: &'static str) {
        self.reloads.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// A stream ended: `done`, `failed`, `dropped`.
    pub fn stream(&self, end: &'static str) {
        self.streams.get_or_create(&[("end", end.to_owned())]).inc();
    }

    /// A request ended.
    pub fn request(&self, record: &RequestRecord) {
        let o = &record.outcome;
        let family = record.decision.profile.iter().find(|a| a.axis == "task_family");
        let choice = Choice {
            status: o.status,
            family: family.map_or(Cow::Borrowed(""), |a| a.value.clone()),
            workflow: o.counts_for().clone(),
            // As reports do: a request belongs to the model that answered, else to the one chosen.
            model: o.served_by.clone().unwrap_or_else(|| o.model.clone()),
            verdict: o.verdict.as_str(),
        };
        let found = self.found.choices.get_with(choice, |c| Arc::new(self.by_choice(c)));
        found.requests.inc();
        found.verdicts.inc();
        if let Some(code) = &o.error {
            self.errors.get_or_create(&[("code", code.clone())]).inc();
        }
        for rule in refusing(record) {
            self.refusals.get_or_create(&[("rule", rule.to_owned())]).inc();
        }
        for (entity, n) in &o.redacted {
            self.redactions.get_or_create(&[("entity", entity.to_string())]).inc_by(u64::from(*n));
        }
        self.explored.inc_by(u64::from(record.decision.explored));
        self.repairs.inc_by(u64::from(o.repairs));
        for recall in record.run.steps.iter().filter_map(|s| s.cached.as_ref()) {
            let by = if recall.similarity.is_some() { "semantic" } else { "exact" };
            self.recalls.get_or_create(&[("match", by.to_owned())]).inc();
        }
        for (check, n) in &record.run.unverified {
            self.unverified.get_or_create(&[("validator", check.clone())]).inc_by(u64::from(*n));
        }
        let (pairs, turned) = (record.run.pairs, record.run.turned);
        for (result, n) in [("same", pairs.saturating_sub(turned)), ("turned", turned)] {
            if n > 0 {
                self.pairs.get_or_create(&[("result", result.to_owned())]).inc_by(u64::from(n));
            }
        }
        self.overhead.observe(o.overhead_ms / 1e3);
        let served =
            self.found.served.get_with(o.served_by.clone(), |m| Arc::new(self.by_model(m.as_deref())));
        if let Some(ms) = o.ttft_ms {
            served.ttft.get_or_init(|| self.ttft.get_or_create_owned(&served_by(o))).observe(ms / 1e3);
        }
        served.duration.observe(o.total_ms / 1e3);
        if let (false, Some(workflow)) = (record.run.workflow.is_empty(), &found.workflow) {
            workflow.observe(o.total_ms / 1e3);
        }
        for call in record.run.calls() {
            self.call(call);
        }
    }

    fn by_choice(&self, c: &Choice) -> ByChoice {
        let labels = [
            ("status", c.status.as_str().to_owned()),
            ("family", c.family.to_string()),
            ("workflow", c.workflow.to_string()),
            ("model", c.model.to_string()),
        ];
        let workflow = [("workflow", c.workflow.to_string())];
        ByChoice {
            requests: self.requests.get_or_create_owned(&labels),
            verdicts: self.verdicts.get_or_create_owned(&[("verdict", c.verdict.to_owned())]),
            workflow: (!c.workflow.is_empty()).then(|| self.genai.workflow.get_or_create_owned(&workflow)),
        }
    }

    fn by_model(&self, served_by: Option<&str>) -> ByModel {
        let labels = [("model", served_by.unwrap_or("").to_owned())];
        ByModel { ttft: OnceLock::new(), duration: self.duration.get_or_create_owned(&labels) }
    }

    fn call(&self, call: &CallRecord) {
        let key = (call.model.clone(), call.error.as_ref().map(|e| e.kind));
        let found = self.found.calls.get_with(key, |(model, error)| Arc::new(self.by_call(model, *error)));
        found.calls.inc();
        found.operation.observe(call.total_ms / 1e3);
        if let Some(ms) = call.ttft_ms {
            let labels = || [("gen_ai_request_model", call.model.to_string())];
            let of = || self.genai.first_chunk.get_or_create_owned(&labels());
            found.first_chunk.get_or_init(of).observe(ms / 1e3);
        }
        let u = &call.usage;
        found.input.observe(f64::from(u.input));
        found.output.observe(f64::from(u.output));
        let counts = [u.input, u.cached_input, u.cache_write, u.output, u.reasoning];
        for ((kind, n), counter) in KINDS.iter().zip(counts).zip(&found.tokens).filter(|((_, n), _)| *n > 0) {
            let labels = || [("model", call.model.to_string()), ("kind", (*kind).to_owned())];
            counter.get_or_init(|| self.tokens.get_or_create_owned(&labels())).inc_by(u64::from(n));
        }
        if let Some(why) = u.why {
            let labels = [("model", call.model.to_string()), ("reason", why.as_str().to_owned())];
            self.discarded.get_or_create_owned(&labels).inc();
        }
        if let Some(cost) = call.cost_usd {
            let of = || self.cost.get_or_create_owned(&[("model", call.model.to_string())]);
            found.cost.get_or_init(of).inc_by(cost.dollars());
        }
        if let Some(usd) = call.beyond_usd {
            let labels = [("model", call.model.to_string())];
            self.beyond.get_or_create_owned(&labels).inc_by(usd.dollars());
        }
    }

    fn by_call(&self, model: &str, error: Option<ErrorKind>) -> ByCall {
        let end = error.map_or("answered", ErrorKind::as_str);
        let named = || [("gen_ai_request_model", model.to_owned())];
        let tokens = |kind: &str| {
            let [model] = named();
            self.genai.tokens.get_or_create_owned(&[model, ("gen_ai_token_type", kind.to_owned())])
        };
        ByCall {
            calls: self.calls.get_or_create_owned(&[("model", model.to_owned()), ("end", end.to_owned())]),
            operation: self.genai.operation.get_or_create_owned(&named()),
            first_chunk: OnceLock::new(),
            input: tokens("input"),
            output: tokens("output"),
            tokens: Default::default(),
            cost: OnceLock::new(),
        }
    }

    /// Everything in the text form of OpenMetrics.
    #[must_use]
    pub fn text(&self, reading: &Reading) -> String {
        self.gauges.set(reading);
        let mut out = String::new();
        match encode(&mut out, &self.registry) {
            Ok(()) => out,
            // Writing to a string does not fail.
            Err(_) => String::new(),
        }
    }
}

fn served_by(o: &Outcome) -> Labels<1> {
    [("model", o.served_by.as_deref().unwrap_or("").to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_holds_what_was_counted() {
        let m = Metrics::default();
        m.http("/v1/models", 200);
        m.cut(Cut::Framing);
        m.stream("done");
        let reading = Reading {
            connections: 3,
            breakers: vec![("p/m".into(), 2.0)],
            changes: vec![("p/m".into(), "opinion", "down", 2)],
            bundles: vec![("0123".into(), "active")],
            provider_keys: vec![(("p".into(), "resting"), 2)],
            key_turns: vec![("p".into(), 3)],
            store: vec![("spool_bytes", 7.0)],
            records: vec![("appended", 9)],
            extra: engine::ExtraCounts { retries: 3, ..engine::ExtraCounts::default() },
            ..Reading::default()
        };
        let text = m.text(&reading);
        for line in [
            r#"turnout_http_requests_total{route="/v1/models",status="200"} 1"#,
            r#"turnout_connections_cut_total{reason="framing"} 1"#,
            "turnout_connections 3",
            r#"turnout_breaker_state{model="p/m"} 2.0"#,
            r#"turnout_model_changes_total{model="p/m",aspect="opinion",way="down"} 2"#,
            "turnout_explored_total 0",
            r#"turnout_provider_keys{provider="p",state="resting"} 2.0"#,
            r#"turnout_provider_key_turns_total{provider="p"} 3"#,
            r#"turnout_bundle{bundle="0123",state="active"} 1.0"#,
            "turnout_configuration_refused 0",
            r#"turnout_store{what="spool_bytes"} 7.0"#,
            r#"turnout_store_records_total{what="appended"} 9"#,
            r#"turnout_extra_calls_total{kind="retry",result="made"} 3"#,
            r#"turnout_after_response_total{result="done"} 0"#,
            "# TYPE turnout_extra_calls counter",
            "# TYPE turnout_overhead_seconds histogram",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let later = m.text(&Reading::default());
        assert!(!later.contains("p/m"), "a model that is gone keeps no gauge");
        assert!(!later.contains("0123"), "nor does a bundle");
    }
}

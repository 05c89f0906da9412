//! Providers and models as data: what `capability_matrix.yaml` says, validated.

mod describe;

pub use describe::model_type;

use crate::axis::TaskFamily;
use crate::profile::SubLabel;
use crate::units::{UnitInterval, Usd};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Position of a model in [`Matrix::models`]; valid for one snapshot of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ModelIx(pub u16);

/// Wire format of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI chat completions and everything compatible.
    OpenaiChat,
    /// Anthropic messages.
    AnthropicMessages,
    /// Google generateContent.
    Gemini,
    /// No network: answers made up in process, deterministic from a seed.
    Simulated,
    /// No network: answers from a table of recorded outcomes.
    Recorded,
}

impl Dialect {
    /// The strings of the file, in order.
    pub const NAMES: &'static [&'static str] =
        &["openai_chat", "anthropic_messages", "gemini", "simulated", "recorded"];

    /// The dialect of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "openai_chat" => Dialect::OpenaiChat,
            "anthropic_messages" => Dialect::AnthropicMessages,
            "gemini" => Dialect::Gemini,
            "simulated" => Dialect::Simulated,
            "recorded" => Dialect::Recorded,
            _ => return None,
        })
    }

    /// Whether calls leave the process.
    #[must_use]
    pub const fn is_remote(self) -> bool {
        !matches!(self, Dialect::Simulated | Dialect::Recorded)
    }
}

/// What a provider asks for its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Within stated limits, nothing.
    Free,
    /// Its list price.
    Paid,
}

/// What a provider does with data; `None` = not known, which no policy accepts as met.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DataPolicy {
    /// Days that requests are kept.
    pub retention_days: Option<u32>,
    /// Whether they are trained on.
    pub trains: Option<bool>,
    /// Zero data retention agreed.
    pub zdr: Option<bool>,
}

/// Deviations from the dialect, as data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quirks {
    /// `stream_options.include_usage` is understood. Default true.
    pub stream_usage: bool,
    /// Member that limits output tokens: `max_tokens` (default) or `max_completion_tokens`.
    pub max_tokens_field: String,
    /// The vendor says `stop` where tool calls end a stream. Default false.
    pub stop_for_tool_calls: bool,
    /// Members of the body that the vendor refuses and that are left out.
    pub drop: Vec<String>,
    /// `developer` messages are sent as `system`. Default false.
    pub developer_as_system: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Quirks {
            stream_usage: true,
            max_tokens_field: "max_tokens".to_owned(),
            stop_for_tool_calls: false,
            drop: Vec::new(),
            developer_as_system: false,
        }
    }
}

/// How long each phase of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// Until the connection stands. Default 2 s.
    pub connect: Duration,
    /// Until the first event or, unstreamed, the head of the answer. Default 60 s (`reliability.md` §2).
    pub first_token: Duration,
    /// Between two events. Default 30 s.
    pub inter_token: Duration,
    /// The whole call. Default 120 s.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(2),
            first_token: Duration::from_secs(60),
            inter_token: Duration::from_secs(30),
            total: Duration::from_secs(120),
        }
    }
}

/// A provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name, the part before the first `/` of its models.
    pub id: String,
    /// Its wire format.
    pub dialect: Dialect,
    /// Where it listens; empty for dialects without a network. `${ENV:NAME}` is already expanded.
    pub base_url: String,
    /// Environment variables that hold its keys; empty = no key needed.
    pub api_key_env: Vec<String>,
    /// Where it works, if known.
    pub region: Option<String>,
    /// Free or paid.
    pub tier: Tier,
    /// Static headers; values may be `${ENV:NAME}`, expanded by the providers room.
    pub headers: Vec<(String, String)>,
    /// What it does with data.
    pub data: DataPolicy,
    /// Deviations from the dialect.
    pub quirks: Quirks,
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// Switched off by the operator when false.
    pub enabled: bool,
    /// Date of the prices, `YYYY-MM-DD`.
    pub as_of: Option<String>,
    /// Where the prices stand.
    pub source: Option<String>,
    /// Outcome table of a `recorded` provider: a folder in the format of the routing packs.
    pub file: Option<String>,
    /// Seed of a `simulated` provider. Default 0.
    pub seed: u64,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// Answers as a stream.
    pub streaming: bool,
    /// Calls tools.
    pub tools: bool,
    /// JSON mode.
    pub json: bool,
    /// Structured output by schema.
    pub json_schema: bool,
    /// Seeds.
    pub seed: bool,
    /// Images.
    pub vision: bool,
    /// Sound.
    pub audio: bool,
    /// Log-probabilities.
    pub logprobs: bool,
    /// Embeddings.
    pub embeddings: bool,
    /// Reasoning before the answer.
    pub reasoning: bool,
    /// Several tool calls at once.
    pub parallel_tools: bool,
}

impl Abilities {
    /// The strings of the file.
    pub const NAMES: &'static [&'static str] = &[
        "streaming",
        "tools",
        "json",
        "json_schema",
        "seed",
        "vision",
        "audio",
        "logprobs",
        "embeddings",
        "reasoning",
        "parallel_tools",
    ];

    /// The flag of that name.
    pub fn flag(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "streaming" => &mut self.streaming,
            "tools" => &mut self.tools,
            "json" => &mut self.json,
            "json_schema" => &mut self.json_schema,
            "seed" => &mut self.seed,
            "vision" => &mut self.vision,
            "audio" => &mut self.audio,
            "logprobs" => &mut self.logprobs,
            "embeddings" => &mut self.embeddings,
            "reasoning" => &mut self.reasoning,
            "parallel_tools" => &mut self.parallel_tools,
            _ => return None,
        })
    }

    /// Whether the named ability is there; false for unknown names.
    #[must_use]
    pub fn has(mut self, name: &str) -> bool {
        self.flag(name).is_some_and(|f| *f)
    }
}

/// USD per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Price {
    /// Input.
    pub input: f64,
    /// Input read from the provider's cache.
    pub cached_input: f64,
    /// Input written to the provider's cache.
    pub cache_write: f64,
    /// Output, reasoning included.
    pub output: f64,
}

impl Price {
    /// Cost of a call. Cached tokens are part of `input` and are charged once, at their own price.
    #[must_use]
    pub fn cost(&self, u: &crate::Usage) -> Usd {
        let plain = u.input.saturating_sub(u.cached_input).saturating_sub(u.cache_write);
        let dollars = f64::from(plain) * self.input
            + f64::from(u.cached_input) * self.cached_input
            + f64::from(u.cache_write) * self.cache_write
            + f64::from(u.output) * self.output;
        Usd::from_dollars(dollars / 1e6)
    }
}

/// Limits of a free tier; `None` = not stated.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FreeTier {
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Tokens a minute.
    pub tpm: Option<u32>,
    /// Requests a day.
    pub rpd: Option<u32>,
    /// Tokens a day.
    pub tpd: Option<u32>,
    /// When the day starts, as the vendor states it.
    pub resets: Option<String>,
}

/// Belief in a model before evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prior {
    /// What the belief is worth, in observations. Default 8.
    pub strength: f64,
    /// Success where no family is named. Default 0.6.
    pub default: UnitInterval,
    /// Success per task family (and `math`, `creative`, … sub-labels), by name.
    pub by_family: Vec<(String, UnitInterval)>,
    /// Where each of them comes from, by name: an evaluation with its score, or `judgement`. May be empty.
    pub sources: Vec<(String, String)>,
    /// Time to the first token, milliseconds. Default 800.
    pub ttft_ms: f64,
    /// Output speed. Default 60.
    pub tokens_per_second: f64,
}

impl Default for Prior {
    fn default() -> Self {
        Prior {
            strength: 8.0,
            default: UnitInterval::clamped(0.6),
            by_family: Vec::new(),
            sources: Vec::new(),
            ttft_ms: 800.0,
            tokens_per_second: 60.0,
        }
    }
}

impl Prior {
    /// Belief in success for a family, refined by the sub-label where one is named.
    #[must_use]
    pub fn success(&self, family: TaskFamily, sub: Option<SubLabel>) -> f64 {
        use crate::axis::AxisValue as _;
        let named = |name: &str| self.by_family.iter().find(|(k, _)| k == name).map(|(_, v)| v.get());
        sub.and_then(|s| named(s.as_str())).or_else(|| named(family.as_str())).unwrap_or(self.default.get())
    }
}

/// How a simulated model behaves; probabilities per request, drawn from its seed and the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulate {
    /// Success per task family; `default` for others.
    pub success: Vec<(String, UnitInterval)>,
    /// Median time to the first token.
    pub ttft: Duration,
    /// Spread of the time (σ of its logarithm).
    pub sigma: f64,
    /// Output speed, tokens per second.
    pub tokens_per_second: f64,
    /// Failure modes with their probabilities: `broken_json`, `wrong_schema`, `refuse`, `truncate`,
    /// `cut_stream`, `stall`, `http_429`, `http_500`, `connect_error`.
    pub failures: Vec<(String, UnitInterval)>,
}

/// A model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// `provider/name`.
    pub id: Arc<str>,
    /// Position of its provider in [`Matrix::providers`].
    pub provider: usize,
    /// The name sent upstream.
    pub upstream_name: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// Its family, such as `llama`; for independence of judges.
    pub family: String,
    /// Tokens, input and output together.
    pub context_window: u32,
    /// Most output tokens.
    pub max_output_tokens: u32,
    /// What it can do.
    pub abilities: Abilities,
    /// What it costs; `None` = unknown, not zero.
    pub price: Option<Price>,
    /// Free-tier limits, if any.
    pub free_tier: Option<FreeTier>,
    /// 1 small, 2 strong, 3 frontier.
    pub quality_tier: u8,
    /// 1 fast, 2 medium, 3 slow.
    pub speed_tier: u8,
    /// Belief before evidence.
    pub prior: Prior,
    /// Free labels, usable in predicates.
    pub tags: Vec<String>,
    /// How it behaves, if simulated.
    pub simulate: Option<Simulate>,
    /// Switched off by the operator when false.
    pub enabled: bool,
}

/// Whether a model may be a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum Availability {
    /// It can be called.
    Ready,
    /// None of these environment variables is set.
    NoKey(Vec<String>),
    /// Switched off in the configuration.
    Disabled,
    /// It cannot be called for another stated reason (a missing outcome table, say).
    Unusable(String),
}

/// A set of models of one matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSet(Vec<u64>);

impl ModelSet {
    /// Adds a model.
    pub fn insert(&mut self, ix: ModelIx) {
        let word = usize::from(ix.0) / 64;
        if self.0.len() <= word {
            self.0.resize(word.saturating_add(1), 0);
        }
        if let Some(w) = self.0.get_mut(word) {
            *w |= 1_u64 << (ix.0 % 64);
        }
    }

    /// Whether the model is in.
    #[must_use]
    pub fn contains(&self, ix: ModelIx) -> bool {
        self.0.get(usize::from(ix.0) / 64).is_some_and(|w| w >> (ix.0 % 64) & 1 == 1)
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &ModelSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    /// No model at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// The models, in order.
    pub fn iter(&self) -> impl Iterator<Item = ModelIx> + '_ {
        let bits = self.0.len().saturating_mul(64).min(usize::from(u16::MAX));
        (0..bits).filter_map(|i| u16::try_from(i).ok().map(ModelIx)).filter(|ix| self.contains(*ix))
    }
}

impl FromIterator<ModelIx> for ModelSet {
    fn from_iter<I: IntoIterator<Item = ModelIx>>(iter: I) -> Self {
        let mut s = ModelSet::default();
        for ix in iter {
            s.insert(ix);
        }
        s
    }
}

/// All providers and models of one snapshot of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    providers: Vec<Arc<Provider>>,
    models: Vec<Arc<Model>>,
    by_name: HashMap<String, ModelIx>,
}

impl Matrix {
    /// From validated parts. `models[i].provider` must be a position in `providers`; names and aliases are
    /// unique (the loader has checked it; a later duplicate is ignored here). At most 65 535 models.
    #[must_use]
    pub fn new(providers: Vec<Provider>, models: Vec<Model>) -> Self {
        let mut by_name = HashMap::new();
        for (i, m) in models.iter().enumerate() {
            let Ok(ix) = u16::try_from(i).map(ModelIx) else { break };
            by_name.entry(m.id.to_string()).or_insert(ix);
            for a in &m.aliases {
                by_name.entry(a.clone()).or_insert(ix);
            }
        }
        // A bare upstream name finds its model when only one provider has it.
        let mut bare: HashMap<&str, Option<ModelIx>> = HashMap::new();
        for (i, m) in models.iter().enumerate() {
            let Ok(ix) = u16::try_from(i).map(ModelIx) else { break };
            if let Some((_, name)) = m.id.split_once('/') {
                bare.entry(name).and_modify(|x| *x = None).or_insert(Some(ix));
            }
        }
        for (name, ix) in bare {
            if let Some(ix) = ix {
                by_name.entry(name.to_owned()).or_insert(ix);
            }
        }
        Matrix {
            providers: providers.into_iter().map(Arc::new).collect(),
            models: models.into_iter().map(Arc::new).collect(),
            by_name,
        }
    }

    /// All providers.
    #[must_use]
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// All models.
    #[must_use]
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// All positions.
    pub fn indices(&self) -> impl Iterator<Item = ModelIx> + use<> {
        (0..self.models.len()).filter_map(|i| u16::try_from(i).ok().map(ModelIx))
    }

    /// The model at a position of this snapshot.
    #[must_use]
    pub fn model(&self, ix: ModelIx) -> Option<&Arc<Model>> {
        self.models.get(usize::from(ix.0))
    }

    /// The provider of a model.
    #[must_use]
    pub fn provider_of(&self, ix: ModelIx) -> Option<&Arc<Provider>> {
        self.model(ix).and_then(|m| self.providers.get(m.provider))
    }

    /// By id, alias, or bare name where only one provider has it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModelIx> {
        self.by_name.get(name).copied()
    }

    /// The models a selector names: `provider/model`, `provider/*`, `*/glob`, an alias. `*` stands for any
    /// text. Pools and predicates are resolved by the policies room.
    #[must_use]
    pub fn select(&self, selector: &str) -> ModelSet {
        if let Some(ix) = self.find(selector) {
            return ModelSet::from_iter([ix]);
        }
        self.indices().filter(|ix| self.model(*ix).is_some_and(|m| glob(selector, &m.id))).collect()
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any text. Linear in both.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(first) = pieces.next() else { return text.is_empty() };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for p in middle {
        match rest.find(p) {
            Some(at) => rest = rest.get(at.saturating_add(p.len())..).unwrap_or(""),
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (p, t, want) in [
            ("groq/*", "groq/llama", true),
            ("*/llama-*b", "groq/llama-70b", true),
            ("*", "", true),
            ("a", "ab", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("*aa", "a", false),
        ] {
            assert_eq!(glob(p, t), want, "{p} {t}");
        }
    }

    #[test]
    fn sets_of_models() {
        let s = ModelSet::from_iter([ModelIx(3), ModelIx(130)]);
        assert!(s.contains(ModelIx(130)) && !s.contains(ModelIx(4)));
        assert_eq!(s.iter().collect::<Vec<_>>(), [ModelIx(3), ModelIx(130)]);
        assert!(ModelSet::default().is_empty());
    }

    #[test]
    fn cached_tokens_are_charged_once() {
        let p = Price { input: 3.0, cached_input: 0.3, cache_write: 3.75, output: 15.0 };
        let u = crate::Usage {
            input: 1000,
            cached_input: 800,
            cache_write: 100,
            output: 10,
            ..Default::default()
        };
        // 100 plain, 800 cached, 100 written, 10 out.
        assert_eq!(
            p.cost(&u),
            Usd::from_dollars((100.0 * 3.0 + 800.0 * 0.3 + 100.0 * 3.75 + 10.0 * 15.0) / 1e6)
        );
    }
}

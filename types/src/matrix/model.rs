//! Models: what they can do, what they cost, and what is believed of them before evidence.

use super::Steps;
use crate::axis::TaskFamily;
use crate::profile::SubLabel;
use crate::units::{UnitInterval, Usd};
use crate::{ServiceTier, Usage};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

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
    /// Goes on from the beginning of an answer that it is given.
    pub prefill: bool,
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
        "prefill",
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
            "prefill" => &mut self.prefill,
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
    /// Input written to it for an hour.
    pub cache_write_1h: f64,
    /// Images of the input, where the vendor tells their tokens apart.
    pub image: f64,
    /// Output.
    pub output: f64,
    /// Of the output: reasoning, where the vendor tells its tokens apart.
    pub reasoning: f64,
    /// What holds in the place of all these for requests with much input.
    #[serde(skip_serializing_if = "Steps::is_empty")]
    pub above: Steps,
    /// What tiers of service cost.
    #[serde(skip_serializing_if = "Tiers::is_empty")]
    pub tiers: Tiers,
}

/// The prices of a request whose input is longer than so many tokens, all of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Above {
    /// Tokens of input, cached ones included.
    pub tokens: u32,
    /// What is billed for more than that.
    #[serde(flatten)]
    pub rates: Rates,
}

/// USD per million tokens of each kind; see [`Price`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the members of `Price`, which says what they are")]
pub struct Rates {
    pub input: f64,
    pub cached_input: f64,
    pub cache_write: f64,
    pub cache_write_1h: f64,
    pub image: f64,
    pub output: f64,
    pub reasoning: f64,
}

/// Factors on all prices for what is answered in another tier of service than the ordinary one; `None` = not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tiers {
    /// Slower, for less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flex: Option<f64>,
    /// Faster, for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<f64>,
}

impl Tiers {
    fn is_empty(&self) -> bool {
        *self == Tiers::default()
    }

    /// The factor of a tier; `None` = not known.
    #[must_use]
    pub const fn factor(&self, tier: ServiceTier) -> Option<f64> {
        match tier {
            ServiceTier::Standard => Some(1.0),
            ServiceTier::Flex => self.flex,
            ServiceTier::Priority => self.priority,
        }
    }
}

impl Rates {
    /// A price of input and one of output, whatever they are.
    #[must_use]
    pub const fn new(input: f64, output: f64) -> Self {
        Rates {
            input,
            cached_input: input,
            cache_write: input,
            cache_write_1h: input,
            image: input,
            output,
            reasoning: output,
        }
    }

    /// The dearer of each.
    fn max(self, o: Rates) -> Rates {
        Rates {
            input: self.input.max(o.input),
            cached_input: self.cached_input.max(o.cached_input),
            cache_write: self.cache_write.max(o.cache_write),
            cache_write_1h: self.cache_write_1h.max(o.cache_write_1h),
            image: self.image.max(o.image),
            output: self.output.max(o.output),
            reasoning: self.reasoning.max(o.reasoning),
        }
    }

    fn cost(&self, u: &Usage, factor: f64) -> Usd {
        let plain = u.input.saturating_sub(u.cached_input).saturating_sub(u.cache_write);
        let image = u.image.min(plain);
        let reasoning = u.reasoning.min(u.output);
        let hour = u.cache_write_1h.min(u.cache_write);
        let dollars = f64::from(plain.saturating_sub(image)) * self.input
            + f64::from(image) * self.image
            + f64::from(u.cached_input) * self.cached_input
            + f64::from(u.cache_write.saturating_sub(hour)) * self.cache_write
            + f64::from(hour) * self.cache_write_1h
            + f64::from(u.output.saturating_sub(reasoning)) * self.output
            + f64::from(reasoning) * self.reasoning;
        Usd::from_dollars(dollars * factor / 1e6)
    }
}

impl Price {
    /// A price per million tokens of input and of output; cached input costs no less, and writing it no more, and
    /// neither images nor reasoning have a price of their own, nor long requests, nor any tier of service.
    #[must_use]
    pub const fn new(input: f64, output: f64) -> Self {
        Price::of(Rates::new(input, output))
    }

    /// The prices of requests of any length.
    #[must_use]
    pub const fn of(rates: Rates) -> Self {
        let Rates { input, cached_input, cache_write, cache_write_1h, image, output, reasoning } = rates;
        let tiers = Tiers { flex: None, priority: None };
        Price {
            input,
            cached_input,
            cache_write,
            cache_write_1h,
            image,
            output,
            reasoning,
            above: Steps::NONE,
            tiers,
        }
    }

    const fn ordinary(&self) -> Rates {
        let &Price { input, cached_input, cache_write, cache_write_1h, image, output, reasoning, .. } = self;
        Rates { input, cached_input, cache_write, cache_write_1h, image, output, reasoning }
    }

    /// What holds for a request of so much input in that tier: the prices, and a factor on them.
    #[must_use]
    pub fn of_request(&self, u: &Usage) -> (Rates, f64) {
        let factor = u.tier.and_then(|tier| self.tiers.factor(tier)).unwrap_or(1.0);
        (self.above.passed(u.input).last().unwrap_or_else(|| self.ordinary()), factor)
    }

    /// Cost of a call. Cached tokens and images are part of `input`, reasoning is part of `output`; each token is
    /// charged once, at its own price, and one of which nothing more is known at that of text. A tier of service whose
    /// price is not known costs what the ordinary one does.
    #[must_use]
    pub fn cost(&self, u: &Usage) -> Usd {
        let (rates, factor) = self.of_request(u);
        rates.cost(u, factor)
    }

    /// The most that so many tokens cost, whatever the vendor turns out to tell of them: what is reserved. Input that may
    /// be cached for an hour is told by a `cache_write_1h` above 0. A cheaper tier that was asked for may not be given.
    #[must_use]
    pub fn most(&self, u: &Usage) -> Usd {
        let (rates, factor) = self.dearest(u);
        rates.cost(u, factor)
    }

    fn dearest(&self, u: &Usage) -> (Rates, f64) {
        // The vendor's count of the input decides, which may be lower than what is set aside for.
        let rates = self.above.passed(u.input).fold(self.ordinary(), Rates::max);
        // Whether the vendor writes the input to its cache, and bills that, is known afterwards.
        let written = if u.cache_write_1h > 0 { rates.cache_write_1h } else { rates.cache_write };
        let input = rates.input.max(rates.cache_write).max(written);
        let (image, output) = (rates.image.max(input), rates.output.max(rates.reasoning));
        let factor = u.tier.and_then(|tier| self.tiers.factor(tier)).unwrap_or(1.0).max(1.0);
        (Rates { input, image, output, reasoning: output, ..rates }, factor)
    }

    /// Price of a token of output that costs most, of a request with that input.
    #[must_use]
    pub fn dearest_output(&self, u: &Usage) -> f64 {
        let (rates, factor) = self.dearest(u);
        rates.output * factor
    }
}

/// What one key of a provider may use; `None` = not stated.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KeyLimits {
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

impl KeyLimits {
    /// What holds where both do: the tighter of each. The day begins where the first says, or else the second.
    #[must_use]
    pub fn both(&self, other: &KeyLimits) -> KeyLimits {
        let tighter = |a: Option<u32>, b: Option<u32>| [a, b].into_iter().flatten().min();
        KeyLimits {
            rpm: tighter(self.rpm, other.rpm),
            tpm: tighter(self.tpm, other.tpm),
            rpd: tighter(self.rpd, other.rpd),
            tpd: tighter(self.tpd, other.tpd),
            resets: self.resets.clone().or_else(|| other.resets.clone()),
        }
    }
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
    /// The two times are stated; where they are not, their defaults are no reason to leave a model out.
    pub timed: bool,
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
            timed: false,
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
    /// Position of its provider in [`super::Matrix::providers`].
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
    /// What a key may use of it for nothing, if anything; only for providers of [`super::Tier::Free`].
    pub free_tier: Option<KeyLimits>,
    /// What a key may use of it in any case.
    pub limits: Option<KeyLimits>,
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

impl Model {
    /// A middling model of the provider at that place, of `(context window, most output)` tokens: no abilities, no
    /// known price, no evidence; the rest is for the caller to say. Its name upstream, and its family, are what
    /// follows the first `/` of `id`.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, provider: usize, tokens: (u32, u32)) -> Self {
        let id = id.into();
        let name = id.split_once('/').map_or(&*id, |(_, name)| name).to_owned();
        Model {
            provider,
            family: name.clone(),
            upstream_name: name,
            aliases: Vec::new(),
            context_window: tokens.0,
            max_output_tokens: tokens.1,
            abilities: Abilities::default(),
            price: None,
            free_tier: None,
            limits: None,
            quality_tier: 2,
            speed_tier: 2,
            prior: Prior::default(),
            tags: Vec::new(),
            simulate: None,
            enabled: true,
            id,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_charged_once_at_its_own_price() {
        let p = Price {
            cached_input: 0.3,
            cache_write: 3.75,
            image: 5.0,
            reasoning: 20.0,
            ..Price::new(3.0, 15.0)
        };
        let usage = |[input, cached_input, cache_write, image, output, reasoning]: [u32; 6]| crate::Usage {
            input,
            cached_input,
            cache_write,
            image,
            output,
            reasoning,
            ..Default::default()
        };
        for (tokens, want) in [
            // Nothing is known but how many.
            ([1000, 0, 0, 0, 10, 0], 1000.0 * 3.0 + 10.0 * 15.0),
            // 100 plain, 800 cached, 100 written.
            ([1000, 800, 100, 0, 10, 0], 100.0 * 3.0 + 800.0 * 0.3 + 100.0 * 3.75 + 10.0 * 15.0),
            // 300 of text, 700 of images; 4 of text, 6 of reasoning.
            ([1000, 0, 0, 700, 10, 6], 300.0 * 3.0 + 700.0 * 5.0 + 4.0 * 15.0 + 6.0 * 20.0),
            // All at once: 50 of text, 50 of images, the rest cached or written.
            (
                [1000, 800, 100, 50, 10, 10],
                50.0 * 3.0 + 50.0 * 5.0 + 800.0 * 0.3 + 100.0 * 3.75 + 10.0 * 20.0,
            ),
            // Parts that are more than the whole are never charged for more than the whole.
            ([1000, 800, 100, 700, 10, 99], 100.0 * 5.0 + 800.0 * 0.3 + 100.0 * 3.75 + 10.0 * 20.0),
        ] {
            let u = usage(tokens);
            assert_eq!(p.cost(&u), Usd::from_dollars(want / 1e6), "{tokens:?}");
            assert!(p.most(&u) >= p.cost(&u), "{tokens:?}");
        }
        // What is reserved for text covers all of it turning out to be what is dearest.
        assert_eq!(p.most(&usage([0, 0, 0, 0, 10, 0])), p.cost(&usage([0, 0, 0, 0, 10, 10])));
        let cheap = Price { image: 1.0, reasoning: 1.0, ..p };
        // All that goes in may be written to the vendor's cache.
        assert_eq!(cheap.most(&usage([10, 0, 0, 10, 10, 10])), cheap.cost(&usage([10, 0, 10, 0, 10, 0])));
        let plain = Price::new(3.0, 15.0);
        assert_eq!(plain.cost(&usage([10, 0, 0, 5, 10, 5])), plain.cost(&usage([10, 0, 0, 0, 10, 0])));
    }
    #[test]
    fn long_requests_hours_in_the_cache_and_tiers_of_service_have_prices_of_their_own() {
        let p = Price {
            cached_input: 0.3,
            cache_write: 3.75,
            cache_write_1h: 6.0,
            above: Steps::new(&[Above {
                tokens: 200_000,
                rates: Rates { cached_input: 0.6, cache_write_1h: 12.0, ..Rates::new(6.0, 22.5) },
            }])
            .unwrap(),
            tiers: Tiers { flex: Some(0.5), priority: Some(2.0) },
            ..Price::new(3.0, 15.0)
        };
        let usage = |input, output| Usage { input, output, ..Usage::default() };
        let hour = |u: Usage, cache_write| Usage { cache_write, cache_write_1h: cache_write / 2, ..u };
        let tier = |u: Usage, tier| Usage { tier: Some(tier), ..u };
        let short = usage(200_000, 1_000);
        let long = Usage { cached_input: 50_000, ..usage(200_001, 1_000) };
        for (u, want) in [
            (short, 200_000.0 * 3.0 + 1_000.0 * 15.0),
            // All of it, cached input and output as well.
            (long, 150_001.0 * 6.0 + 50_000.0 * 0.6 + 1_000.0 * 22.5),
            (hour(usage(1_000, 10), 400), 600.0 * 3.0 + 200.0 * 3.75 + 200.0 * 6.0 + 10.0 * 15.0),
            (tier(short, ServiceTier::Flex), (200_000.0 * 3.0 + 1_000.0 * 15.0) / 2.0),
            (tier(short, ServiceTier::Priority), (200_000.0 * 3.0 + 1_000.0 * 15.0) * 2.0),
            (tier(short, ServiceTier::Standard), 200_000.0 * 3.0 + 1_000.0 * 15.0),
        ] {
            assert_eq!(p.cost(&u), Usd::from_dollars(want / 1e6), "{u:?}");
            assert!(p.most(&u) >= p.cost(&u), "{u:?}");
        }
        let at = |u: Usage, input: f64| {
            assert_eq!(
                p.most(&Usage { output: 0, ..u }),
                Usd::from_dollars(f64::from(u.input) * input / 1e6)
            );
        };
        at(short, 3.75);
        at(Usage { cache_write_1h: 1, ..short }, 6.0);
        at(usage(300_000, 9), 6.0);
        at(Usage { cache_write_1h: 1, ..usage(300_000, 9) }, 12.0);
        at(tier(short, ServiceTier::Priority), 7.5);
        // The vendor may answer in the ordinary one.
        at(tier(short, ServiceTier::Flex), 3.75);
        assert_eq!(p.dearest_output(&tier(usage(300_000, 0), ServiceTier::Priority)), 45.0);
        let unknown = Price::new(3.0, 15.0);
        assert_eq!(unknown.cost(&tier(short, ServiceTier::Priority)), unknown.cost(&short));
    }
}

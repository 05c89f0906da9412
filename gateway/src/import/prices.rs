//! Prices of a LiteLLM entry: of tokens, of the vendor's cache, of long requests and of tiers of service.

use super::{Fate, Import, Price, Rates, number};
use serde_json::Value;
use std::collections::BTreeSet;
use types::matrix::Steps;

/// Prices by their names there: input, output, and those beside them.
const INPUT: &str = "input_cost_per_token";
const OUTPUT: &str = "output_cost_per_token";
const CACHED_INPUT: &str = "cache_read_input_token_cost";
const CACHE_WRITE: &str = "cache_creation_input_token_cost";
const CACHE_WRITE_1H: &str = "cache_creation_input_token_cost_above_1hr";
const REASONING: &str = "output_cost_per_reasoning_token";
const IMAGE: &str = "input_cost_per_image_token";
const ALL: [&str; 7] = [CACHE_WRITE_1H, INPUT, OUTPUT, CACHED_INPUT, CACHE_WRITE, REASONING, IMAGE];
/// Prices by ranges of the length of a request.
const RANGES: &str = "tiered_pricing";
/// Tiers of service that have a factor in the matrix.
const TIERS: [&str; 2] = ["flex", "priority"];

/// What a name of the file is a price of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named<'a> {
    what: &'static str,
    /// Tokens of input beyond which it holds.
    above: Option<u64>,
    /// A tier of service.
    tier: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn of(name: &'a str) -> Option<Named<'a>> {
        let (what, mut rest) = ALL.iter().find_map(|what| Some((*what, name.strip_prefix(what)?)))?;
        let tier = TIERS.into_iter().find_map(|tier| {
            let left = rest.strip_suffix(tier)?.strip_suffix('_')?;
            rest = left;
            Some(tier)
        });
        let above = match rest {
            "" => None,
            _ => {
                let thousands = rest.strip_prefix("_above_")?.strip_suffix("k_tokens")?;
                Some(thousands.parse::<u64>().ok()?.checked_mul(1_000)?)
            }
        };
        Some(Named { what, above, tier })
    }
}

/// Whether a member tells a price that is read here.
pub(super) fn is_one(name: &str) -> bool {
    name == RANGES || Named::of(name).is_some()
}

/// Why one that is not is left out; `None` = it is no price.
pub(super) fn why_not(name: &str) -> Option<&'static str> {
    (name.contains("cost_per_") || name.ends_with("_cost") || name.contains("_token_cost")).then_some(
        "no price of this kind is kept: calls are billed by the token (input, output, the vendor's cache, images, reasoning), and \
         requests of a tier of service by a factor",
    )
}

/// The price that an entry tells; what is told twice counts as `given` finds it. What cannot be kept is noted.
pub(super) fn read<'v>(
    names: &BTreeSet<&'v str>,
    given: impl Fn(&str) -> Option<&'v Value>,
    place: &str,
    import: &mut Import,
) -> Option<Price> {
    let cost = |name: &str| given(name).and_then(number).filter(|n| *n >= 0.0).map(per_million);
    for name in names.iter().filter(|n| Named::of(n).is_some() && cost(n).is_none()) {
        let text = "expected a number of 0 or more: dollars per token";
        import.note(format!("{place}.{name}"), Fate::Left, text);
    }
    let plain = Told { cost: &cost, suffix: String::new() };
    let ranges = ranges(given(RANGES), place, import);
    let first = ranges.first().filter(|(from, _)| *from == 0).map(|(_, rates)| *rates);
    let (input, output) = (plain.of(INPUT), plain.of(OUTPUT));
    let base = match (input, output, first) {
        (Some(input), Some(output), _) => plain.rates(input, output, Rates::default()),
        (None, None, Some(first)) => first,
        (None, None, None) => {
            let told = names.iter().filter(|n| Named::of(n).is_some() && cost(n).is_some());
            for name in told {
                let text = "it counts beside a price of input and one of output: give all";
                import.note(format!("{place}.{name}"), Fate::Left, text);
            }
            return None;
        }
        _ => {
            let text = "a price is one of input and one of output: give both";
            import.note(format!("{place}.{INPUT}"), Fate::Left, text);
            return None;
        }
    };
    let mut above = steps(names, &cost, base);
    if above.is_empty() {
        above = ranges.into_iter().filter(|(from, _)| *from > 0).collect();
    } else if given(RANGES).is_some() {
        let text = "prices above thresholds are told one by one as well, and count";
        import.note(format!("{place}.{RANGES}"), Fate::Left, text);
    }
    if above.len() > Steps::MOST {
        let text = format!(
            "there are {} thresholds; the lowest {} are kept, the last with the dearest prices of those above it",
            above.len(),
            Steps::MOST
        );
        import.note(place.to_owned(), Fate::Changed, text);
        let rest = above.split_off(Steps::MOST);
        if let Some((_, last)) = above.last_mut() {
            *last = rest.into_iter().fold(*last, |dearest, (_, rates)| dearest.dearer(rates));
        }
    }
    let tiers = TIERS.map(|tier| factor(tier, names, &cost, (base, &above), place, import));
    Some(Price { rates: base, above, tiers })
}

/// A millionth of a cent is as exact as price lists are.
fn per_million(per_token: f64) -> f64 {
    (per_token * 1e12).round() / 1e6
}

/// Prices whose names end alike.
struct Told<'a> {
    cost: &'a dyn Fn(&str) -> Option<f64>,
    suffix: String,
}

impl Told<'_> {
    fn of(&self, what: &str) -> Option<f64> {
        (self.cost)(&format!("{what}{}", self.suffix))
    }

    /// With these of input and output, and `or` for what is not told.
    fn rates(&self, input: f64, output: f64, or: Rates) -> Rates {
        Rates {
            input,
            output,
            cached_input: self.of(CACHED_INPUT).or(or.cached_input),
            cache_write: self.of(CACHE_WRITE).or(or.cache_write),
            cache_write_1h: self.of(CACHE_WRITE_1H).or(or.cache_write_1h),
            image: self.of(IMAGE).or(or.image),
            reasoning: self.of(REASONING).or(or.reasoning),
        }
    }
}

/// Prices above thresholds, the lowest first; what is not told of one costs what it does in short requests.
fn steps(names: &BTreeSet<&str>, cost: &dyn Fn(&str) -> Option<f64>, base: Rates) -> Vec<(u64, Rates)> {
    let ordinary = names.iter().filter_map(|n| Named::of(n)).filter(|n| n.tier.is_none());
    let thresholds: BTreeSet<u64> = ordinary.filter_map(|n| n.above).collect();
    let step = |tokens: u64| {
        let told = Told { cost, suffix: format!("_above_{}k_tokens", tokens / 1_000) };
        let (input, output) = (told.of(INPUT), told.of(OUTPUT));
        (tokens, told.rates(input.unwrap_or(base.input), output.unwrap_or(base.output), base))
    };
    thresholds.into_iter().map(step).collect()
}

/// Prices by ranges, the shortest requests first.
fn ranges(value: Option<&Value>, place: &str, import: &mut Import) -> Vec<(u64, Rates)> {
    let Some(value) = value else { return Vec::new() };
    let read = |entry: &Value| {
        let cost = |name: &str| entry.get(name).and_then(number).filter(|n| *n >= 0.0).map(per_million);
        let told = Told { cost: &cost, suffix: String::new() };
        let from = entry.get("range")?.get(0).and_then(number).filter(|n| (0.0..=1e9).contains(n))?;
        // Within the bounds above.
        Some((from as u64, told.rates(told.of(INPUT)?, told.of(OUTPUT)?, Rates::default())))
    };
    let all: Option<Vec<_>> = value.as_array().and_then(|list| list.iter().map(read).collect());
    let rise = |all: &Vec<(u64, Rates)>| {
        all.windows(2).all(|two| matches!(two, [a, b] if a.0 < b.0)) && !all.is_empty()
    };
    let place = format!("{place}.{RANGES}");
    match all.filter(rise) {
        Some(all) => {
            let text = "thresholds of the price (`above`): a request is billed by the range that its whole input lies in";
            import.note(place, Fate::Changed, text);
            all
        }
        None => {
            let text = "expected a list of ranges that rise, each with a price of input and one of output";
            import.note(place, Fate::Left, text);
            Vec::new()
        }
    }
}

/// The factor of a tier of service on all prices, where there is one.
fn factor(
    tier: &'static str,
    names: &BTreeSet<&str>,
    cost: &dyn Fn(&str) -> Option<f64>,
    (base, above): (Rates, &[(u64, Rates)]),
    place: &str,
    import: &mut Import,
) -> Option<f64> {
    let told: Vec<(&str, Named<'_>)> =
        names.iter().filter_map(|n| Some((*n, Named::of(n).filter(|of| of.tier == Some(tier))?))).collect();
    if told.is_empty() {
        return None;
    }
    let of = |named: &Named<'_>| {
        let rates = match named.above {
            None => base,
            Some(tokens) => above.iter().find(|(n, _)| *n == tokens)?.1,
        };
        rates.of(named.what).filter(|usd| *usd > 0.0)
    };
    let factors: Vec<f64> = told.iter().filter_map(|(name, named)| Some(cost(name)? / of(named)?)).collect();
    let both = [INPUT, OUTPUT].iter().all(|what| {
        told.iter().any(|(name, n)| n.what == *what && n.above.is_none() && cost(name).is_some())
    });
    let first = factors.first().copied().filter(|f| f.is_finite());
    let same = |f: &f64| first.is_some_and(|first| (f - first).abs() <= 1e-3 * first.abs());
    if both && factors.len() == told.len() && factors.iter().all(same) {
        // Price lists have no finer ones.
        return first.map(|f| (f * 1e4).round() / 1e4);
    }
    let text = format!(
        "a tier of service is one factor on all prices here (`tiers: {{ {tier}: … }}`), and these do not come to one: calls in it have no \
         price of their own"
    );
    import.note(format!("{place}.{INPUT}_{tier}"), Fate::Left, text);
    None
}

impl Rates {
    /// The price of that name, where it is told.
    fn of(&self, what: &str) -> Option<f64> {
        match what {
            INPUT => Some(self.input),
            OUTPUT => Some(self.output),
            CACHED_INPUT => self.cached_input,
            CACHE_WRITE => self.cache_write,
            CACHE_WRITE_1H => self.cache_write_1h,
            IMAGE => self.image,
            REASONING => self.reasoning,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_prices() {
        let check = |name: &str, want: Option<(&'static str, Option<u64>, Option<&str>)>| {
            let got = Named::of(name).map(|n| (n.what, n.above, n.tier));
            assert_eq!(got, want, "{name}");
        };
        check("input_cost_per_token", Some((INPUT, None, None)));
        check("output_cost_per_token_above_128k_tokens", Some((OUTPUT, Some(128_000), None)));
        check("input_cost_per_token_priority", Some((INPUT, None, Some("priority"))));
        check(
            "cache_read_input_token_cost_above_272k_tokens_flex",
            Some((CACHED_INPUT, Some(272_000), Some("flex"))),
        );
        check("cache_creation_input_token_cost_above_1hr", Some((CACHE_WRITE_1H, None, None)));
        check(
            "cache_creation_input_token_cost_above_1hr_above_200k_tokens",
            Some((CACHE_WRITE_1H, Some(200_000), None)),
        );
        check("cache_creation_input_token_cost_above_200k_tokens", Some((CACHE_WRITE, Some(200_000), None)));
        for other in [
            "input_cost_per_token_batches",
            "input_cost_per_second",
            "input_cost_per_token_above_xk_tokens",
            "mode",
        ] {
            check(other, None);
        }
        assert!(
            why_not("input_cost_per_second").is_some() && why_not("search_context_cost_per_query").is_some()
        );
        assert!(why_not("mode").is_none());
    }
}

//! What a choice may use, set aside on all limits before its first call.

use crate::error::Error;
use crate::limits::{self, Asker, Count, Each, Held, Partial, USUAL, Waits, Wanted, Worst};
use crate::route;
use crate::who::Who;
use crate::worst_case;
use crate::{Inner, View};
use std::time::Duration;
use tokio::time::Instant;
use types::Usd;
use types::chat::ChatRequest;
use types::directives::{LimitRule, Set};
use types::matrix::Tier;

/// The request that limits and budgets set something aside for.
#[derive(Clone, Copy)]
pub(crate) struct Purpose<'a> {
    pub(crate) request: &'a ChatRequest,
    pub(crate) profile: &'a types::WorkloadProfile,
    pub(crate) asker: &'a Asker,
    /// Limits of policies.
    pub(crate) rules: &'a [Set<LimitRule>],
    /// Longest answer that policies allow, in tokens.
    pub(crate) cap: Option<u32>,
    /// It may use what limits hold back.
    pub(crate) premium: bool,
    pub(crate) count: Count,
}

/// Limits that count only calls of some models.
pub(crate) fn of_models(
    view: &View,
    who: &Who,
    request: &ChatRequest,
    rules: &[Set<LimitRule>],
    premium: bool,
) -> Vec<Partial> {
    let models = (&**view.bundle.matrix(), &*view.bundle.pools);
    limits::partial(who, models, &request.options.tags, rules, premium)
}

/// Limits on what the request may use by itself.
pub(crate) fn of_request(
    view: &View,
    who: &Who,
    request: &ChatRequest,
    rules: &[Set<LimitRule>],
) -> Vec<Each> {
    let models = (&**view.bundle.matrix(), &*view.bundle.pools);
    limits::each(who, models, &request.options.tags, rules)
}

/// Reserves what a choice may use, on the limits of the key and its tenant, and on those of policies.
///
/// # Errors
/// The limit that is reached; limits cannot be counted here.
pub(crate) async fn reserve(
    inner: &Inner,
    view: &View,
    held: &mut Option<Held>,
    purpose: Purpose<'_>,
    chosen: &route::Chosen,
) -> Result<(), Error> {
    let Purpose { request, asker, rules, premium, count, .. } = purpose;
    let shared: Vec<_> = rules.iter().filter(|rule| limits::is_shared(rule)).cloned().collect();
    if held.is_none() && shared.is_empty() {
        return Ok(());
    }
    let who = &asker.who;
    let (tags, worst) = (&request.options.tags, worst(view, purpose, chosen));
    let wanted = Wanted { asker, rules: &shared, tags, worst, premium };
    Held::reserve(held, inner.limits.as_ref(), wanted, count).await?;
    if let Some(held) = held {
        let waits =
            Waits { patience: inner.patience.clone(), gate: inner.gate.clone(), most: inner.config.patience };
        held.open(who, (of_models(view, who, request, rules, premium), count), Some(waits));
    }
    Ok(())
}

/// As [`reserve`]; where only what requests in work have set aside stands against it, that is waited for, up to a moment.
/// Gives also how long it took.
pub(crate) async fn patiently(
    inner: &Inner,
    view: &View,
    held: &mut Option<Held>,
    purpose: Purpose<'_>,
    chosen: &route::Chosen,
    latest: impl FnOnce(Instant) -> Instant,
) -> (Result<(), Error>, Duration) {
    let begun = Instant::now();
    let mut waiting = inner.patience.until(latest(begun), &inner.gate);
    let reserved = loop {
        match reserve(inner, view, held, purpose, chosen).await {
            Err(refused) if waiting.helps(&refused, Some(|| step_out(held))).await => {}
            ended => break ended,
        }
    };
    (reserved, begun.elapsed())
}

/// Whoever waits holds no place meanwhile and counts as no request; all of it is taken together once there is room.
fn step_out(held: &mut Option<Held>) {
    held.iter_mut().for_each(Held::step_out);
}

/// What is set aside for a tree at first: the calls that its workflow makes in any case, each as long as it may be at the
/// first choice of its node, and no more than its ceiling says. What it turns out to need beyond that its calls take one
/// by one: whoever held all that it might ever use would keep others out for nothing.
fn worst(view: &View, purpose: Purpose<'_>, chosen: &route::Chosen) -> Worst {
    let Purpose { request, profile, cap: allowed, .. } = purpose;
    let route::Chosen { workflow, candidates, cap } = chosen;
    let (matrix, facts) = (view.bundle.matrix(), &profile.facts);
    let said = [request.params.max_tokens, allowed].into_iter().flatten().min();
    let asked = worst_case::sure(matrix, workflow, candidates);
    let (mut all, mut least, mut longest) = (Usd::ZERO, None, 0);
    for (ix, calls) in asked {
        let Some((model, provider)) = matrix.model(ix).zip(matrix.provider_of(ix)) else { continue };
        let wished = said.map_or(model.max_output_tokens, |n| n.min(model.max_output_tokens));
        let output = wished.saturating_mul(request.params.n.max(1));
        let usage =
            request.most_usage((facts.most_input_tokens, facts.most_image_tokens), output).of(provider);
        let price = model.price.filter(|_| provider.tier != Tier::Free);
        let one = price.map_or(Usd::ZERO, |p| p.most(&usage));
        all = all.plus(Usd::from_nanos(one.nanos().saturating_mul(i64::from(calls))));
        least = [least, Some(limits::least((model, provider), request, facts, allowed))]
            .into_iter()
            .flatten()
            .min();
        longest = output.max(longest);
    }
    let longest = longest.min(said.unwrap_or(USUAL));
    let with_input = |output: u32| u64::from(facts.most_input_tokens).saturating_add(u64::from(output));
    Worst {
        usd: cap.map_or(all, |c| c.min(all)),
        least: least.unwrap_or_default(),
        tokens: with_input(longest),
        least_tokens: with_input(if request.params.max_tokens.is_some() {
            longest
        } else {
            longest.min(limits::SHORTEST)
        }),
    }
}

//! Money of one call: what policies allow it, what it may cost at most, what it cost when nobody says.

use super::Calls;
use super::prepare::is_fixed;
use crate::ledger::{Ledger, Short};
use crate::limits::{Left, SHORTEST, Share, USUAL, Worst};
use std::sync::Arc;
use types::chat::{ChatRequest, Message};
use types::directives::{CacheRule, LimitRule, RetryRule, Set};
use types::matrix::{Model, ModelIx, ModelSet, Price, Provider, Tier};
use types::provider::{Edits, Error, ErrorKind};
use types::{Usage, Usd};
use workflows::{Ask, Budget};

/// What policies allow at most in every call, whatever the request or a node of the workflow asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ceilings {
    pub(crate) max_tokens: Option<u32>,
    pub(crate) temperature: Option<f64>,
    /// Attempts of one ask, other candidates included.
    pub(crate) attempts: Option<u32>,
    /// Attempts and pauses, in the place of those that are configured.
    pub(crate) retry: Option<RetryRule>,
    /// Models that what is escalated goes to.
    pub(crate) escalate: Option<Arc<ModelSet>>,
    /// What policies say of whether budgets give what they hold back.
    pub(crate) premium: Option<bool>,
    /// What models cost whose price is not known.
    pub(crate) assumed: Option<Price>,
    /// What nodes may have of earlier results, and keep.
    pub(crate) cache: Option<CacheRule>,
    /// Rates and budgets, taken anew for what is done after the response.
    pub(crate) limits: Arc<[Set<LimitRule>]>,
}

impl Ceilings {
    /// The same, with what the request says of itself: the lower one counts.
    pub(super) fn within(self, request: &ChatRequest) -> Self {
        let attempts = [self.attempts, request.options.foreign.attempts].into_iter().flatten().min();
        Ceilings { attempts, ..self }
    }

    /// The price that counts.
    fn price(&self, model: &Model) -> Option<Price> {
        model.price.or(self.assumed)
    }

    /// The model with the price that counts.
    pub(super) fn priced(&self, model: &Arc<Model>) -> Arc<Model> {
        match (model.price, self.assumed) {
            (None, Some(price)) => Arc::new(Model { price: Some(price), ..Model::clone(model) }),
            _ => model.clone(),
        }
    }

    pub(super) fn lower(&self, edits: &mut Edits, request: &ChatRequest) {
        if let Some(cap) = self.max_tokens
            && edits.max_tokens.or(request.params.max_tokens).is_none_or(|m| m > cap)
        {
            edits.max_tokens = Some(cap);
        }
        if let Some(cap) = self.temperature
            // The vendors' default is 1.
            && edits.temperature.or(request.params.temperature).unwrap_or(1.0) > cap
        {
            edits.temperature = Some(cap);
        }
    }
}

/// Whether a vendor bills a call that ended so: it had begun to answer, or we left it, or a gateway
/// before it did, or the connection was lost when it had the request.
pub(super) const fn charges(error: &Error) -> bool {
    let begun = matches!(
        error.kind,
        ErrorKind::StreamLost
            | ErrorKind::FirstTokenTimeout
            | ErrorKind::InterTokenTimeout
            | ErrorKind::TotalTimeout
            | ErrorKind::TooLarge
            | ErrorKind::Malformed
            | ErrorKind::Cancelled
    );
    begun || error.is_given_up()
}

/// Usage nobody reported: what went in, and four bytes a token of what came out.
pub(super) fn estimate(reached: bool, input: Usage, output_bytes: usize) -> Usage {
    if !reached {
        return Usage::default();
    }
    let output = u32::try_from(output_bytes.div_ceil(4)).unwrap_or(u32::MAX);
    Usage { output, estimated: true, ..input }
}

impl Calls {
    /// What the first candidate's answer costs at most; what an ask is settled at when its answer is lost.
    pub(crate) fn worst(&self, ask: &Ask) -> Usd {
        let first = self.order(ask).first().copied();
        let found =
            first.and_then(|ix| Some((self.reach.matrix.model(ix)?, self.reach.matrix.provider_of(ix)?)));
        let Some((model, provider)) = found.filter(|(_, p)| p.tier != Tier::Free) else { return Usd::ZERO };
        let asked =
            ask.edits.max_tokens.or(self.request.params.max_tokens).unwrap_or(model.max_output_tokens);
        let output = asked.saturating_mul(self.request.params.n.max(1));
        let usage = Usage { output, ..self.most_input(&ask.edits, provider) };
        self.ceilings.price(model).map_or(Usd::ZERO, |p| p.most(&usage))
    }

    /// What an answer of a model was charged with: nothing of a free tier; `None` = its price is not known.
    pub(crate) fn charged(&self, model: &Model, usage: &Usage) -> Option<Usd> {
        let matrix = &self.reach.matrix;
        let provider = matrix.find(&model.id).and_then(|ix| matrix.provider_of(ix));
        if provider.is_some_and(|p| p.tier == Tier::Free) {
            return Some(Usd::ZERO);
        }
        self.ceilings.price(model).map(|price| price.cost(usage))
    }

    /// What is set aside for what is done after the response: one call of the dearest model that may be called, as long
    /// as it may be. What it turns out to need beyond that its calls take one by one.
    pub(crate) fn worst_after(&self) -> Worst {
        let (all, least) = (self.dearest(1, None), self.dearest(1, Some(SHORTEST)));
        self.at_most(all, least)
    }

    /// What is set aside for a run beside: a few calls of the dearest model that may be called, each as long as the request
    /// lets answers be. It begins with less, too, as long as that pays for one answer of the usual length.
    pub(crate) fn worst_beside(&self) -> Worst {
        let asked = self.request.params.max_tokens;
        let (all, least) = (self.dearest(4, asked), self.dearest(1, Some(asked.unwrap_or(USUAL))));
        self.at_most(all, least)
    }

    /// Tokens of a call at most, image tokens among them: whoever grades an answer reads it after the request.
    fn most_read(&self) -> (u32, u32) {
        let facts = &self.profile.facts;
        let input = facts.most_input_tokens.saturating_mul(2).saturating_add(SHORTEST);
        (input, facts.most_image_tokens.saturating_mul(2))
    }

    fn at_most(&self, all: Usd, least: Usd) -> Worst {
        let input = u64::from(self.most_read().0);
        Worst {
            usd: self.after.left(None).map_or(all, |c| c.min(all)),
            least,
            tokens: input.saturating_add(u64::from(USUAL)),
            least_tokens: input.saturating_add(u64::from(SHORTEST)),
        }
    }

    /// What so many calls of the dearest model that may be called cost at most, each answer of `most` tokens, or as long as
    /// the model can make it.
    fn dearest(&self, calls: i64, most: Option<u32>) -> Usd {
        let (input, image) = self.most_read();
        let matrix = &self.reach.matrix;
        let paid =
            self.candidates.all().filter(|ix| matrix.provider_of(*ix).is_some_and(|p| p.tier != Tier::Free));
        let cost = |ix| {
            let model = matrix.model(ix)?;
            let output = most.unwrap_or(u32::MAX).min(model.max_output_tokens);
            let usage = self.request.most_usage((input, image), output).of(matrix.provider_of(ix)?);
            self.ceilings.price(model).map(|p| p.most(&usage))
        };
        let one = paid.filter_map(cost).max().unwrap_or_default();
        Usd::from_nanos(one.nanos().saturating_mul(calls))
    }

    /// About how many input tokens a call has, rather more than less: with what a repair or a judge adds to the
    /// conversation, and what its vendor puts around each message.
    pub(super) fn est_input(&self, edits: &Edits, provider: &Provider) -> Usage {
        let facts = &self.profile.facts;
        let added = self.added(edits, |text| u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX));
        let messages = edits.messages.as_ref().unwrap_or(&self.request.messages).len();
        let around = profiler::most_around(u32::try_from(messages).unwrap_or(u32::MAX));
        let input = facts.est_input_tokens.saturating_add(added).saturating_add(around);
        let tier = self.request.dear_tier();
        Usage { input, image: facts.est_image_tokens, tier, ..Usage::default() }.of(provider)
    }

    /// More input tokens than a call has, for any vendor: what is set aside for it.
    pub(super) fn most_input(&self, edits: &Edits, provider: &Provider) -> Usage {
        let facts = &self.profile.facts;
        let frames = edits.messages.as_ref().map_or(0, Vec::len).saturating_sub(self.request.messages.len());
        let frames = u32::try_from(frames).unwrap_or(u32::MAX).saturating_mul(profiler::MOST_PER_FRAME);
        let added = self.added(edits, profiler::most_tokens).saturating_add(frames);
        let input = facts.most_input_tokens.saturating_add(added);
        self.request.most_usage((input, facts.most_image_tokens), 0).of(provider)
    }

    /// Tokens that the edits of a call add to those of the request.
    fn added(&self, edits: &Edits, tokens: impl Fn(&str) -> u32) -> u32 {
        let all = |texts: &mut dyn Iterator<Item = &str>| texts.map(&tokens).fold(0_u32, u32::saturating_add);
        let said = |list: &[Message]| all(&mut list.iter().flat_map(|m| m.content.texts()));
        let offered = all(&mut edits.tools.iter().flat_map(|all| all.iter()).map(|t| t.raw.get()));
        let begun = all(&mut edits.prefill.iter().map(|p| &**p));
        let more =
            edits.messages.as_ref().map_or(0, |m| said(m).saturating_sub(said(&self.request.messages)));
        offered.saturating_add(begun).saturating_add(more)
    }

    /// Reserves the worst case of one call, every choice as long as it may be: on the limits of its model, with the
    /// node that asks, and with the request, for which limits give more while there is more. Where only a shorter
    /// answer fits, the answer is shortened, down to 64 tokens, unless it has a form that a cut would break and the
    /// client said how long it may be.
    pub(super) async fn reserve(
        &self,
        (ix, model): (ModelIx, &Model),
        provider: &Provider,
        edits: &mut Edits,
        input: Usage,
        ask: &Ask,
    ) -> Option<(Usd, Option<Share>)> {
        /// How often less is tried.
        const ROUNDS: usize = 5;
        let free = provider.tier == Tier::Free;
        let price = model.price.filter(|_| !free);
        if price.is_none() && !free && self.left(ask).is_some() {
            // Routing has excluded unknown prices wherever there is a ceiling.
            return None;
        }
        let by_client = ask.edits.max_tokens.or(self.request.params.max_tokens);
        let said = edits.max_tokens.or(self.request.params.max_tokens);
        let asked = said.unwrap_or(model.max_output_tokens);
        let n = self.request.params.n.max(1);
        let cost = |output: u32| {
            let usage = Usage { output: output.saturating_mul(n), ..input };
            price.map_or(Usd::ZERO, |p| p.most(&usage))
        };
        let fixed = is_fixed(&ask.edits, &self.request);
        let mut output = asked;
        for _ in 0..ROUNDS {
            let amount = cost(output);
            let expected = u64::from(input.input)
                .saturating_add(u64::from(output.min(said.unwrap_or(USUAL)).saturating_mul(n)));
            let left = match self.take((ix, model), amount, expected, ask).await {
                Ok(share) => {
                    if output < asked {
                        edits.max_tokens = Some(output);
                    }
                    self.ledger_of(ask).went_through(ask.node());
                    return Some((amount, share));
                }
                Err(left) => left,
            };
            let affordable = match left {
                Left::Usd(left) => {
                    let dearest = price?.dearest_output(&input);
                    let left = left.dollars() - cost(0).dollars();
                    if dearest > 0.0 { (left / dearest * 1e6 / f64::from(n)).floor() } else { 0.0 }
                }
                // How long an answer is to be limits on tokens decide where nobody else does.
                Left::Tokens(_) if by_client.is_some() => return None,
                Left::Tokens(left) => (left.saturating_sub(u64::from(input.input)) / u64::from(n)) as f64,
                Left::Nothing => return None,
            };
            if fixed || (affordable < f64::from(SHORTEST) && output <= SHORTEST) {
                return None;
            }
            if affordable < f64::from(SHORTEST) {
                // What there is to wait for is said of the shortest answer.
                output = SHORTEST;
                continue;
            }
            // What nobody said the length of leaves as much to the calls beside it and after it.
            let share = if said.is_none() && affordable >= 2.0 * f64::from(USUAL) { 0.5 } else { 1.0 };
            // Bounded by what did not fit.
            output = (affordable * share).min(f64::from(output)) as u32;
        }
        None
    }

    /// Money that nobody has set aside for a call; `None` = there is no limit.
    fn left(&self, ask: &Ask) -> Option<Usd> {
        [self.ledger_of(ask).left(self.cap_of(ask)), ask.budget.left()].into_iter().flatten().min()
    }

    /// Of work after the response its own ledger knows the ceiling.
    fn cap_of(&self, ask: &Ask) -> Option<Usd> {
        self.cap.filter(|_| !ask.late)
    }

    /// Takes the money for one call from everybody, or from nobody.
    ///
    /// # Errors
    /// What is left.
    async fn take(
        &self,
        (ix, model): (ModelIx, &Model),
        amount: Usd,
        tokens: u64,
        ask: &Ask,
    ) -> Result<Option<Share>, Left> {
        let share = match self.ledger_of(ask).grant() {
            Some(grant) => grant.call(ask.node(), (ix, &model.id), (amount, tokens)).await?,
            None => None,
        };
        self.set_aside(&model.id, amount, ask).await.map(|()| share).map_err(Left::Usd)
    }

    /// Sets money aside with the node and with the request; where only what limits gave is short, they are asked for
    /// more.
    ///
    /// # Errors
    /// The money that is left.
    async fn set_aside(&self, model: &str, amount: Usd, ask: &Ask) -> Result<(), Usd> {
        /// Calls beside this one may take what limits gave for it.
        const TRIES: usize = 4;
        let (budget, ledger, cap) = (&*ask.budget, self.ledger_of(ask), self.cap_of(ask));
        if amount == Usd::ZERO {
            return Ok(());
        }
        for _ in 0..TRIES {
            let by = match set_aside(budget, ledger, (model, cap), amount) {
                Ok(()) => return Ok(()),
                Err(Short::Ceiling) => {
                    let ceilings = [ledger.allowed(cap), ledger.left_of(model), budget.left()];
                    return Err(ceilings.into_iter().flatten().min().unwrap_or_default());
                }
                Err(Short::Given(by)) => by,
            };
            let more = match ledger.grant() {
                Some(grant) => grant.more(ask.node(), by).await,
                None => Usd::ZERO,
            };
            ledger.give(more);
            if more < by {
                break;
            }
        }
        Err(self.left(ask).unwrap_or_default())
    }
}

/// Sets money aside with the node and with the request, or with neither.
fn set_aside(
    budget: &Budget,
    ledger: &Ledger,
    (model, cap): (&str, Option<Usd>),
    amount: Usd,
) -> Result<(), Short> {
    if !budget.reserve(amount) {
        return Err(Short::Ceiling);
    }
    let all = ledger.reserve(model, amount, cap);
    if all.is_err() {
        budget.give_back(amount);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_under_way_behind_a_gateway_that_gave_up_is_billed() {
        let model = Model::new("p/m", 0, (1_000, 100));
        let check = |kind: ErrorKind, status: Option<u16>, want: bool| {
            let error = Error { status, ..Error::new(kind, &model, "") };
            assert_eq!(charges(&error), want, "{kind:?} {status:?}");
        };
        for status in [408, 499, 504] {
            check(ErrorKind::Unavailable, Some(status), true);
        }
        for status in [500, 502, 503] {
            check(ErrorKind::Unavailable, Some(status), false);
        }
        check(ErrorKind::RateLimited, Some(429), false);
        check(ErrorKind::Connect, None, false);
        check(ErrorKind::TotalTimeout, None, true);
        let lost = Error { unanswered: true, ..Error::new(ErrorKind::Unavailable, &model, "") };
        assert!(charges(&lost), "the request had gone out");
        check(ErrorKind::Unavailable, None, false);
    }
}

//! Money of one call: what policies allow it, what it may cost at most, what it cost when nobody says.

use super::Calls;
use crate::ledger::Ledger;
use crate::limits::{SHORTEST, USUAL, Worst};
use std::sync::Arc;
use types::chat::{ChatRequest, Message, ResponseFormat};
use types::directives::{LimitRule, RetryRule, Set};
use types::matrix::{Model, ModelSet, Price, Provider, Tier};
use types::provider::{Edits, ErrorKind};
use types::{Usage, Usd};
use workflows::{Ask, Purse};

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
    /// Rates and budgets, taken anew for what is done after the response.
    pub(crate) limits: Arc<[Set<LimitRule>]>,
}

impl Ceilings {
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

/// Whether a vendor bills a call that ended so: it had begun to answer, or we left it.
pub(super) const fn charges(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StreamLost
            | ErrorKind::FirstTokenTimeout
            | ErrorKind::InterTokenTimeout
            | ErrorKind::TotalTimeout
            | ErrorKind::TooLarge
            | ErrorKind::Malformed
            | ErrorKind::Cancelled
    )
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
        let Some((model, _)) = found.filter(|(_, p)| p.tier != Tier::Free) else { return Usd::ZERO };
        let asked =
            ask.edits.max_tokens.or(self.request.params.max_tokens).unwrap_or(model.max_output_tokens);
        let output = asked.saturating_mul(self.request.params.n.max(1));
        let usage = Usage { output, ..self.most_input(&ask.edits) };
        self.ceilings.priced(model).price.map_or(Usd::ZERO, |p| p.most(&usage))
    }

    /// What is done after the response may use at most: a few calls of the dearest model that may be called, each as
    /// long as it may be. What it turns out to need beyond that, it does not get.
    pub(crate) fn worst_after(&self) -> Worst {
        const CALLS: i64 = 4;
        // Whoever grades an answer reads it after the request.
        let facts = &self.profile.facts;
        let input = facts.most_input_tokens.saturating_mul(2).saturating_add(SHORTEST);
        let image = facts.most_image_tokens.saturating_mul(2);
        let matrix = &self.reach.matrix;
        let paid =
            self.candidates.all().filter(|ix| matrix.provider_of(*ix).is_some_and(|p| p.tier != Tier::Free));
        let cost = |ix, most: Option<u32>| {
            let model = matrix.model(ix)?;
            let output = most.unwrap_or(u32::MAX).min(model.max_output_tokens);
            let usage = Usage { input, image, output, ..Usage::default() };
            self.ceilings.priced(model).price.map(|p| p.most(&usage))
        };
        let dearest = |most| paid.clone().filter_map(|ix| cost(ix, most)).max().unwrap_or_default();
        let all = Usd::from_nanos(dearest(None).nanos().saturating_mul(CALLS));
        Worst {
            usd: self.after.left(None).map_or(all, |c| c.min(all)),
            least: dearest(Some(SHORTEST)),
            tokens: u64::from(input).saturating_add(u64::from(USUAL)),
        }
    }

    /// About how many input tokens a call has: with what a repair or a judge adds to the conversation.
    pub(super) fn est_input(&self, edits: &Edits) -> Usage {
        let facts = &self.profile.facts;
        let added = self.added(edits, |text| u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX));
        let input = facts.est_input_tokens.saturating_add(added);
        Usage { input, image: facts.est_image_tokens, ..Usage::default() }
    }

    /// More input tokens than a call has, for any vendor: what is set aside for it.
    pub(super) fn most_input(&self, edits: &Edits) -> Usage {
        let facts = &self.profile.facts;
        let frames = edits.messages.as_ref().map_or(0, Vec::len).saturating_sub(self.request.messages.len());
        let frames = u32::try_from(frames).unwrap_or(u32::MAX).saturating_mul(profiler::MOST_PER_FRAME);
        let added = self.added(edits, profiler::most_tokens).saturating_add(frames);
        let input = facts.most_input_tokens.saturating_add(added);
        Usage { input, image: facts.most_image_tokens, ..Usage::default() }
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

    /// Reserves the worst case of one call, every choice as long as it may be, with the request and with the
    /// node that asks. Where only a shorter answer fits, the answer is shortened, down to 64 tokens, unless
    /// it has a form that a cut would break.
    pub(super) fn reserve(
        &self,
        model: &Model,
        provider: &Provider,
        edits: &mut Edits,
        input: Usage,
        ask: &Ask,
    ) -> Option<Usd> {
        let (purse, ledger) = (&*ask.purse, self.ledger_of(ask));
        // Of work after the response its own ledger knows the ceiling.
        let cap = self.cap.filter(|_| !ask.late);
        if provider.tier == Tier::Free {
            return Some(Usd::ZERO);
        }
        let Some(price) = model.price else {
            // Routing has excluded unknown prices wherever there is a ceiling.
            return (ledger.left(cap).is_none() && purse.left().is_none()).then_some(Usd::ZERO);
        };
        let asked = edits.max_tokens.or(self.request.params.max_tokens).unwrap_or(model.max_output_tokens);
        let n = self.request.params.n.max(1);
        let cost = |output: u32| price.most(&Usage { output: output.saturating_mul(n), ..input });
        let set_aside = |amount: Usd| set_aside(purse, ledger, cap, amount);
        if set_aside(cost(asked)) {
            return Some(cost(asked));
        }
        let left = [ledger.left(cap), purse.left()].into_iter().flatten().min()?;
        let left = left.dollars() - cost(0).dollars();
        let dearest = price.dearest_output();
        let affordable = if dearest > 0.0 { (left / dearest * 1e6 / f64::from(n)).floor() } else { 0.0 };
        let structured = !matches!(self.request.response_format, ResponseFormat::Text)
            || !self.request.tools.is_empty()
            || edits.tools.is_some();
        if structured || affordable < 64.0 {
            return None;
        }
        // Bounded by `asked`, which did not fit.
        let output = affordable.min(f64::from(asked)) as u32;
        edits.max_tokens = Some(output);
        set_aside(cost(output)).then(|| cost(output))
    }
}

/// Sets money aside with the node and with the request, or with neither.
fn set_aside(purse: &Purse, ledger: &Ledger, cap: Option<Usd>, amount: Usd) -> bool {
    if !purse.reserve(amount) {
        return false;
    }
    let all = ledger.reserve(amount, cap);
    if !all {
        purse.settle(amount, Usd::ZERO);
    }
    all
}

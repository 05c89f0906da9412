//! Rates and budgets of one request: taken before the first call on every limit that applies, given back after the
//! last, so that nothing is ever spent that nobody reserved.

mod asker;
mod claims;
mod counters;
mod each;
mod grant;
mod partial;
mod patience;
mod told;

pub(crate) use asker::Asker;
pub(crate) use counters::Counters;
pub(crate) use each::{Each, each, is_shared, named, of_one_model, tighten, too_large};
pub(crate) use grant::{Grant, Left, Share};
pub(crate) use partial::{Counted, NOTHING_USED_UP, Partial, UsedUp, partial, used_up};
pub(crate) use patience::{Patience, Waits};

pub(crate) use claims::of_money;

use claims::{Spend, at_door, by, claims, counts, foresee, general, labelled, limit_of};
use told::{SOON, refusal};

use crate::error::{Error, Kind};
use crate::ledger::Ledger;
use crate::who::Who;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::ChatRequest;
use types::Usd;
use types::chat::ResponseFormat;
use types::directives::{LimitRule, Set};
use types::limits::{Amount, Limit, Metric, Refused, Reservation};
use types::matrix::{Model, Provider, Tier};
use types::profile::Facts;
use types::run::{CallRecord, Run};

/// Reservations of one request on its limits. Dropped before a ledger spends from them, they are given back whole;
/// dropped after that, they are settled at what the ledger says was used.
pub(crate) struct Held {
    store: Counters,
    parts: Vec<Reservation>,
    /// Money that was set aside for the tree; `None` = no limit counts it.
    allowed: Option<Usd>,
    /// Tokens that were set aside for the tree, where that is less than it might use; `None` = it got them all.
    tokens: Option<u64>,
    grant: Option<Arc<Grant>>,
    /// What was taken at the door has been given back while it waits: it is taken again together with the rest.
    outside: Option<Count>,
    /// What was taken at the door.
    entered: Count,
    /// Where the calls stand that are paid with it; `None` = there can be none yet.
    spent_by: Option<Ledger>,
}

/// What is taken of limits that count requests and those in work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// A request, and a place for it while it is in work.
    Request,
    /// A request that somebody will work on later.
    Asked,
    /// A place for what was counted when it was asked for.
    Place,
    /// Neither.
    Nothing,
}

impl Count {
    const fn amount(self) -> Amount {
        let (requests, concurrency) = match self {
            Count::Request => (1, 1),
            Count::Asked => (1, 0),
            Count::Place => (0, 1),
            Count::Nothing => (0, 0),
        };
        Amount { requests, tokens: 0, usd: 0, concurrency, tokens_at_most: 0, usd_at_most: 0 }
    }
}

/// Counts a call of a tool on every limit that rules of the phase `tool` set, or on none of them. It stays counted,
/// whatever comes of the call.
///
/// # Errors
/// The limit that is reached; limits cannot be counted here.
pub(crate) async fn count_tool_call(
    store: Option<&Counters>,
    asker: &Asker,
    rules: &[Set<LimitRule>],
) -> Result<(), Error> {
    if rules.is_empty() {
        return Ok(());
    }
    let Some(store) = store else { return Err(Kind::LimitsAway.into()) };
    // A policy may count requests as well, and a call is none.
    let counted = |rule: &Set<LimitRule>| limit_of(rule, &format!("{}/tools", rule.rule), asker);
    let limits = rules.iter().filter_map(|rule| counted(rule).transpose()).collect::<Result<Vec<_>, _>>()?;
    let (who, amount) = (&asker.who, Count::Asked.amount());
    match store.reserve_all(claims(&who.tenant_id, limits, amount)).await {
        Ok(counted) => {
            counted.into_iter().for_each(|counted| store.settle(counted, amount));
            Ok(())
        }
        Err(refused) => Err(refusal(store, who, (refused, amount)).await),
    }
}

/// Below so many tokens an answer is none.
pub(crate) const SHORTEST: u32 = 64;
/// Output of an answer whose length nobody limits, for limits on tokens.
pub(crate) const USUAL: u32 = 1_024;

/// Whether an answer has a form that a cut would break.
fn is_structured(request: &ChatRequest) -> bool {
    !matches!(request.response_format, ResponseFormat::Text) || !request.tools.is_empty()
}

/// Tokens of the shortest useful answer of a model, all choices together, where policies allow none longer than `most`.
pub(crate) fn shortest(model: &Model, request: &ChatRequest, most: Option<u32>) -> u32 {
    // What the client says of the length of an answer with a form is not shortened.
    let shortest = match request.params.max_tokens {
        Some(asked) if is_structured(request) => asked,
        asked => asked.unwrap_or(SHORTEST).min(SHORTEST),
    };
    let shortest = most.map_or(shortest, |most| most.min(shortest));
    shortest.min(model.max_output_tokens).saturating_mul(request.params.n.max(1))
}

/// What the shortest useful answer of a model costs at most, where policies allow none longer than `most`; nothing where
/// it is free, or its price is not known.
pub(crate) fn least(
    (model, provider): (&Model, &Provider),
    request: &ChatRequest,
    facts: &Facts,
    most: Option<u32>,
) -> Usd {
    let Some(price) = model.price.filter(|_| provider.tier != Tier::Free) else { return Usd::ZERO };
    let output = shortest(model, request, most);
    let usage = request.most_usage((facts.most_input_tokens, facts.most_image_tokens), output);
    price.most(&usage.of(provider))
}

/// What one tree may use at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worst {
    pub(crate) usd: Usd,
    /// Below this nothing useful can be done: the first call alone.
    pub(crate) least: Usd,
    pub(crate) tokens: u64,
    /// Likewise of tokens; as many as `tokens` where the client says how long the answer is to be.
    pub(crate) least_tokens: u64,
}

/// What calls are to take from limits on money and tokens, and which of these count them.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) asker: &'a Asker,
    /// Limits of policies.
    pub(crate) rules: &'a [Set<LimitRule>],
    /// Tags of the request, by which labels count it.
    pub(crate) tags: &'a BTreeMap<String, String>,
    pub(crate) worst: Worst,
    /// They may use what limits hold back.
    pub(crate) premium: bool,
}

impl Held {
    /// Takes a request, a place, or both on every limit that counts all of them. `None` where nothing is limited.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) async fn enter(
        store: Option<&Counters>,
        who: &Who,
        count: Count,
    ) -> Result<Option<Held>, Error> {
        let Some(store) = store.filter(|_| who.limited) else { return Ok(None) };
        let mut held = Held::nothing(store);
        held.entered = count;
        match store.reserve_all(at_door(who, count)).await {
            Ok(parts) => {
                held.parts = parts;
                Ok(Some(held))
            }
            Err(refused) => Err(refusal(store, who, (refused, count.amount())).await),
        }
    }

    /// What its record says of the counters that its calls took from ([`types::limits::mark`]).
    pub(crate) fn marks(&self) -> Vec<u64> {
        let of_models = self.grant.as_ref().map(|grant| grant.called()).unwrap_or_default();
        types::limits::marks(self.parts.iter().flat_map(|part| part.limits.iter()).chain(&of_models))
    }

    /// Gives all of it back: nothing came of it.
    pub(crate) fn release(mut self) {
        if let Some(ledger) = self.spent_by.take() {
            // Nobody waits for what is left of nothing.
            ledger.settles();
        }
    }

    /// What was taken elsewhere, for calls that may cost so much together.
    pub(crate) fn of(store: &Counters, taken: Reservation, usd: Usd) -> Held {
        let mut held = Held::nothing(store);
        held.parts.push(taken);
        held.allowed = Some(usd);
        held
    }

    fn nothing(store: &Counters) -> Held {
        Held {
            store: store.clone(),
            parts: Vec::new(),
            allowed: None,
            tokens: None,
            grant: None,
            outside: None,
            entered: Count::Nothing,
            spent_by: None,
        }
    }

    /// Gives back what was taken at the door, before anything else is taken: whoever waits holds nothing that others may use.
    pub(crate) fn step_out(&mut self) {
        if !self.parts.is_empty() {
            self.give_back();
            self.outside = Some(self.entered);
        }
    }

    /// Takes what the calls after a response may use, on every limit that counts money or tokens, those of policies
    /// included; of what the tree has `left` to them, where that is enough to begin with. `None` where nothing is limited.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) async fn afterwards(
        store: Option<&Counters>,
        Wanted { asker, rules, tags, worst, premium }: Wanted<'_>,
        partial: Vec<Partial>,
        left: Option<Held>,
    ) -> Result<Option<Held>, Error> {
        let who = &asker.who;
        let enough = |held: &Held| {
            held.allowed.is_none_or(|usd| usd >= worst.least)
                && held.tokens.is_none_or(|tokens| tokens >= worst.least_tokens)
        };
        if let Some(mut held) = left.filter(|held| enough(held) && !held.parts.is_empty()) {
            held.open(who, (partial, Count::Request), None);
            return Ok(Some(held));
        }
        let counts =
            |r: &&Set<LimitRule>| is_shared(r) && matches!(r.value.metric, Metric::Usd | Metric::Tokens);
        let rules: Vec<Set<LimitRule>> = rules.iter().filter(counts).cloned().collect();
        if !who.limited && rules.is_empty() {
            return Ok(None);
        }
        let store = match store {
            Some(store) => store,
            None if rules.is_empty() => return Ok(None),
            None => return Err(Kind::LimitsAway.into()),
        };
        let mut wanted = general(who, tags, premium);
        wanted.extend(by(&rules, asker)?);
        let mut held = Held::nothing(store);
        held.take_all(who, (wanted, Count::Nothing), worst).await?;
        held.open(who, (partial, Count::Request), None);
        Ok(Some(held))
    }

    /// Takes the money and tokens that the tree may use, on every limit of the key, its tenant and policies that it falls
    /// under, and what was given back at the door, in one step; where not all of the money is left, as much as is. Only who
    /// is `premium` may use what limits hold back.
    ///
    /// # Errors
    /// The limit that is reached: nothing more is held then. Limits cannot be counted here.
    pub(crate) async fn reserve(
        held: &mut Option<Held>,
        store: Option<&Counters>,
        Wanted { asker, rules, tags, worst, premium }: Wanted<'_>,
        count: Count,
    ) -> Result<(), Error> {
        let own = match held {
            Some(own) => own,
            None => held.insert(Held::nothing(store.ok_or(Kind::LimitsAway)?)),
        };
        let mut wanted = general(&asker.who, tags, premium);
        wanted.extend(by(rules, asker)?);
        own.take_all(&asker.who, (wanted, count), worst).await
    }

    /// Lets the calls of the tree take more, once what was to be set aside at first has been; they wait for what requests in
    /// work have set aside, where it is said how.
    pub(crate) fn open(
        &mut self,
        who: &Arc<Who>,
        (partial, count): (Vec<Partial>, Count),
        waits: Option<Waits>,
    ) {
        let counted = self.parts.iter().flat_map(|part| part.limits.iter());
        let money = counted.filter(|l| l.metric == Metric::Usd).cloned().collect();
        self.grant = Grant::new(&self.store, who, money, (partial, count.amount()), waits);
    }

    /// The calls in this ledger are paid with it from now on.
    pub(crate) fn is_spent_by(&mut self, ledger: &Ledger) {
        self.spent_by = Some(ledger.clone());
    }

    /// Money that was set aside for the tree at first; `None` = no limit counts it.
    pub(crate) const fn allowed(&self) -> Option<Usd> {
        self.allowed
    }

    /// Tokens that the tree may use; `None` = no limit sets that.
    pub(crate) const fn tokens(&self) -> Option<u64> {
        self.tokens
    }

    /// These models were left out of a decision: should the tree end for want of a model, that is why.
    pub(crate) fn without(&self, used_up: Option<Error>) {
        if let (Some(grant), Some(error)) = (&self.grant, used_up) {
            grant.leaves_out(error);
        }
    }

    /// Where its calls take more.
    pub(crate) fn grant(&self) -> Option<Arc<Grant>> {
        self.grant.clone()
    }

    /// Takes all that is wanted, or nothing of it, in one step; where not all of the money or of the tokens is left, as much
    /// as is, of every limit alike.
    async fn take_all(
        &mut self,
        who: &Who,
        (wanted, count): (Vec<Limit>, Count),
        worst: Worst,
    ) -> Result<(), Error> {
        let had = self.tokens.map_or(worst.tokens, |tokens| tokens.min(worst.tokens));
        let mut most = Spend { usd: nanos(worst.usd), tokens: had };
        // Where the first call costs nothing, those after it need something.
        let least = Spend { usd: nanos(worst.least).max(1), tokens: worst.least_tokens };
        let mut tries = 0_usize;
        loop {
            let amount = Amount { tokens: most.tokens, usd: most.usd, ..count.amount() };
            let door = self.outside.map(|count| at_door(who, count)).unwrap_or_default();
            let all = claims(&who.tenant_id, wanted.iter().cloned(), amount);
            let refused = match self.store.reserve_all(door.into_iter().chain(all).collect()).await {
                Ok(parts) => {
                    self.outside = None;
                    self.parts.extend(parts);
                    break;
                }
                Err(refused) => refused,
            };
            let lower = match &refused {
                // Less is left than the tree might use: it gets what is left, on every limit alike. Nobody says how long the
                // answer is to be: the limit does.
                Refused::Reached(all) if tries < 8 => most.left_by(all, least).or_else(|| {
                    tries = usize::MAX;
                    // How long to wait is told of the least that would do.
                    most.lowered(all, least)
                }),
                Refused::Reached(all) => most.lowered(all, least),
                Refused::Away(_) => None,
            };
            tries = tries.saturating_add(1);
            match lower {
                Some(lower) => most = lower,
                None => {
                    let least =
                        Amount { tokens: worst.least_tokens, usd: nanos(worst.least), ..count.amount() };
                    return Err(refusal(&self.store, who, (refused, least)).await);
                }
            }
        }
        if most.tokens < had {
            self.tokens = Some(most.tokens);
        }
        self.allowed = wanted.iter().any(|l| l.metric == Metric::Usd).then_some(usd(most.usd));
        Ok(())
    }

    /// Gives back everything that was taken.
    fn give_back(&mut self) {
        for part in std::mem::take(&mut self.parts) {
            self.store.settle(part, Amount::default());
        }
    }

    /// Puts what was used in the place of what was taken.
    pub(crate) fn settle(mut self, run: &Run) {
        self.used(counted(run.calls()));
    }

    /// What was taken at first counts all that was used; what was taken later comes back after that, so that nobody
    /// else may spend it meanwhile.
    fn used(&mut self, used: Amount) {
        let heir = self.spent_by.as_ref().and_then(Ledger::settles);
        let mut left = Held::nothing(&self.store);
        left.allowed = self.allowed;
        for part in std::mem::take(&mut self.parts) {
            let used = Amount { requests: part.amount.requests, ..used };
            let (part, rest) = match &heir {
                Some(heir) => split(part, used, heir.wants),
                None => (part, None),
            };
            if let Some(rest) = rest {
                let counts = |metric| rest.limits.iter().any(|l| l.metric == metric);
                let usd = usd(rest.amount.usd);
                left.allowed =
                    left.allowed.map(|most| if counts(Metric::Usd) { most.min(usd) } else { most });
                if counts(Metric::Tokens) {
                    left.tokens = Some(left.tokens.map_or(rest.amount.tokens, |n| n.min(rest.amount.tokens)));
                }
                left.parts.push(rest);
            }
            self.store.settle(part, used);
        }
        if let Some(heir) = heir {
            // Nobody there to take it: it goes back.
            let _ = heir.to.send(left);
        }
        if let Some(grant) = self.grant.take() {
            grant.close();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.spent_by.take() {
            Some(ledger) => self.used(ledger.used()),
            None => {
                self.give_back();
                if let Some(grant) = self.grant.take() {
                    grant.release();
                }
            }
        }
    }
}

/// A reservation of which so much was used, and what somebody `wants` of the rest of it; both together are what it was.
/// `None` = it counts neither money nor tokens.
fn split(part: Reservation, used: Amount, wants: Amount) -> (Reservation, Option<Reservation>) {
    if !part.limits.iter().any(|l| matches!(l.metric, Metric::Usd | Metric::Tokens)) {
        return (part, None);
    }
    let tokens = part.amount.tokens.saturating_sub(used.tokens).min(wants.tokens);
    let usd = part.amount.usd.saturating_sub(used.usd).min(wants.usd);
    let (tenant, limits) = (part.tenant.clone(), part.limits.clone());
    let rest = Reservation { tenant, limits, amount: Amount { tokens, usd, ..Amount::default() }, ..part };
    let (tokens, usd) = (part.amount.tokens.saturating_sub(tokens), part.amount.usd.saturating_sub(usd));
    (Reservation { amount: Amount { tokens, usd, ..part.amount }, ..part }, Some(rest))
}

/// What calls used, as limits count it.
pub(crate) fn counted<'c>(calls: impl Iterator<Item = &'c CallRecord>) -> Amount {
    let mut used = Amount::default();
    for call in calls {
        let counted = call.counted();
        used.tokens = used.tokens.saturating_add(counted.tokens);
        used.usd = used.usd.saturating_add(nanos(counted.usd));
        let beyond = (
            counted.tokens.saturating_sub(call.usage.total()),
            nanos(counted.usd.minus(call.cost_usd.unwrap_or_default())),
        );
        used.tokens_at_most = used.tokens_at_most.saturating_add(beyond.0);
        used.usd_at_most = used.usd_at_most.saturating_add(beyond.1);
    }
    used
}

/// The label of that name that a request counts under: who gave out the key has the first word, then who runs its
/// tenant; only where neither says anything does the tag that the client sent count.
fn label<'a>(name: &str, who: &'a Who, tags: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let given = who.labels().get(name).or_else(|| who.tenant.labels.get(name));
    given.or_else(|| tags.get(name)).map(String::as_str)
}

pub(crate) fn nanos(usd: Usd) -> u64 {
    u64::try_from(usd.nanos()).unwrap_or(0)
}

/// An amount of nano-dollars as money.
pub(crate) fn usd(nanos: u64) -> Usd {
    Usd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

//! Rates and budgets of one request: taken before the first call on every limit that applies, given back after the
//! last, so that nothing is ever spent that nobody reserved.

use crate::error::{Error, Kind};
use crate::who::Who;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::ChatRequest;
use types::Usd;
use types::control::Quota;
use types::directives::{LimitRule, Per, Set};
use types::limits::{Amount, Limit, LimitStore, Metric, Refused, Reservation};
use types::matrix::glob;
use types::run::Run;

/// What a request holds. Give it back with [`Held::settle`]; dropped, it is given back as if all of it was used.
pub(crate) struct Held {
    store: Arc<dyn LimitStore>,
    parts: Vec<Part>,
}

/// A reservation, and of which calls it counts the use.
struct Part {
    reservation: Reservation,
    /// A model, alias or glob; `None` = all calls.
    model: Option<String>,
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
        Amount { requests, concurrency, tokens: 0, usd: 0 }
    }
}

/// Limits on which something is to be taken together.
struct Wanted {
    limits: Arc<[Limit]>,
    /// See [`Part::model`].
    model: Option<String>,
    count: Count,
}

impl Wanted {
    /// The limits of a key and its tenant on money and tokens. Requests are counted where only some of them fall
    /// under a limit: before the candidates were known nobody could.
    /// Who is not `premium` is counted against what is not held back.
    fn of(
        who: &Who,
        candidates: &[Arc<str>],
        labels: &BTreeMap<String, String>,
        count: Count,
        premium: bool,
    ) -> Vec<Wanted> {
        let spent = |l: &&Limit| matches!(l.metric, Metric::Usd | Metric::Tokens);
        let counts = |l: &Limit| if premium { l.clone() } else { l.ordinary() };
        let general = who.principal.limits.iter().filter(spent).map(counts).collect();
        let mut wanted = vec![Wanted { limits: general, model: None, count: Count::Nothing }];
        let partial =
            who.principal.partial.iter().filter(|(q, _)| applies(q, candidates, labels, who.labels()));
        wanted.extend(partial.map(|(quota, limit)| Wanted {
            limits: Arc::from([counts(limit)]),
            model: quota.model.clone(),
            count,
        }));
        wanted
    }

    /// The limit of a policy, for a request whose first candidate is `model`.
    fn by(
        rule: &Set<LimitRule>,
        who: &Who,
        request: &ChatRequest,
        model: &str,
        count: Count,
    ) -> Result<Wanted, Error> {
        let LimitRule { per, metric, amount, window } = &rule.value;
        let name = format!("rule:{}:{}", rule.rule, holder(per, who, request, model));
        let limit = Limit::rate(&name, *metric, *amount, *window).ok_or_else(|| {
            let why = format!("the limit of the rule `{}` can never admit anything", rule.rule);
            Error::from(Kind::PolicyEvaluation(why))
        })?;
        let only = matches!(per, Per::Model).then(|| model.to_owned());
        Ok(Wanted { limits: Arc::from([limit]), model: only, count })
    }
}

/// Below so many tokens an answer is none.
pub(crate) const SHORTEST: u32 = 64;
/// Output of an answer whose length nobody limits, for limits on tokens.
pub(crate) const USUAL: u32 = 1_024;

/// What one tree may use at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worst {
    pub(crate) usd: Usd,
    /// Below this nothing useful can be done: the first call alone.
    pub(crate) least: Usd,
    pub(crate) tokens: u64,
}

impl Held {
    /// Takes a request, a place, or both on every limit that counts all of them. `None` where nothing is limited.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) async fn enter(
        store: Option<&Arc<dyn LimitStore>>,
        who: &Who,
        count: Count,
        unix_ms: i64,
    ) -> Result<Option<Held>, Error> {
        let Some(store) = store.filter(|_| who.limited) else { return Ok(None) };
        let mut held = Held { store: store.clone(), parts: Vec::new() };
        let counted = |l: &&Limit| count.amount().of(l.metric) > 0;
        let limits: Arc<[Limit]> = who.principal.limits.iter().filter(counted).cloned().collect();
        match held.take(who, limits, None, count.amount(), unix_ms).await {
            Ok(()) => Ok(Some(held)),
            Err(refused) => Err(held.refusal(who, refused, unix_ms).await),
        }
    }

    /// Gives all of it back: nothing came of it.
    pub(crate) fn release(mut self) {
        self.give_back(0);
    }

    /// Takes what the calls after a response may use, on every limit that counts money or tokens, those of policies
    /// included. Gives what is held (`None` where nothing is limited), and what may be spent.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) async fn afterwards(
        store: Option<&Arc<dyn LimitStore>>,
        who: &Who,
        (worst, premium): (Worst, bool),
        candidates: &[Arc<str>],
        (request, rules): (&ChatRequest, &[Set<LimitRule>]),
        unix_ms: i64,
    ) -> Result<(Option<Held>, Option<Usd>), Error> {
        let counts = |r: &&Set<LimitRule>| matches!(r.value.metric, Metric::Usd | Metric::Tokens);
        let rules: Vec<&Set<LimitRule>> = rules.iter().filter(counts).collect();
        if !who.limited && rules.is_empty() {
            return Ok((None, None));
        }
        let store = match store {
            Some(store) => store.clone(),
            None if rules.is_empty() => return Ok((None, None)),
            None => return Err(Kind::LimitsAway.into()),
        };
        let mut wanted = Wanted::of(who, candidates, &request.options.tags, Count::Nothing, premium);
        let mut money = who.budgeted;
        for rule in rules {
            money |= rule.value.metric == Metric::Usd;
            // Which of its models a judge will be is not known yet.
            let models = if matches!(rule.value.per, Per::Model) { candidates } else { &[Arc::from("")] };
            for model in models {
                wanted.push(Wanted::by(rule, who, request, model, Count::Nothing)?);
            }
        }
        let mut held = Held { store, parts: Vec::new() };
        let usd = held.take_all(who, &wanted, worst, unix_ms).await?;
        Ok((Some(held), money.then_some(usd)))
    }

    /// Takes the money and tokens that the tree may use, on every limit that one of its candidates falls under;
    /// where not all of the money is left, as much as is. Gives what the tree may spend; `None` = no limit. Only who is
    /// `premium` may use what limits hold back.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) async fn reserve(
        &mut self,
        who: &Who,
        (worst, premium): (Worst, bool),
        candidates: &[Arc<str>],
        (labels, count): (&BTreeMap<String, String>, Count),
        unix_ms: i64,
    ) -> Result<Option<Usd>, Error> {
        let wanted = Wanted::of(who, candidates, labels, count, premium);
        let usd = self.take_all(who, &wanted, worst, unix_ms).await?;
        Ok(who.budgeted.then_some(usd))
    }

    /// Takes what the limits of policies demand, beside what is held already. Gives what the tree may spend under
    /// them; `None` = none of them counts money.
    ///
    /// # Errors
    /// The limit that is reached; limits cannot be counted here.
    pub(crate) async fn demand(
        held: &mut Option<Held>,
        store: Option<&Arc<dyn LimitStore>>,
        who: &Who,
        (rules, count): (&[Set<LimitRule>], Count),
        (request, model): (&ChatRequest, &str),
        worst: Worst,
        unix_ms: i64,
    ) -> Result<Option<Usd>, Error> {
        let Some(store) = store else { return Err(Kind::LimitsAway.into()) };
        let own = held.get_or_insert_with(|| Held { store: store.clone(), parts: Vec::new() });
        let wanted = rules.iter().map(|rule| Wanted::by(rule, who, request, model, count));
        let usd = own.take_all(who, &wanted.collect::<Result<Vec<_>, _>>()?, worst, unix_ms).await?;
        Ok(rules.iter().any(|r| r.value.metric == Metric::Usd).then_some(usd))
    }

    /// Takes all that is wanted, or nothing of it; where not all of the money is left, as much as is. Gives the money
    /// that was taken.
    async fn take_all(
        &mut self,
        who: &Who,
        wanted: &[Wanted],
        worst: Worst,
        unix_ms: i64,
    ) -> Result<Usd, Error> {
        let mut usd = worst.usd;
        let before = self.parts.len();
        let mut tries = 0;
        let mut i = 0;
        while let Some(Wanted { limits, model, count }) = wanted.get(i) {
            let amount = Amount { tokens: worst.tokens, usd: nanos(usd), ..count.amount() };
            match self.take(who, limits.clone(), model.clone(), amount, unix_ms).await {
                Ok(()) => i = i.saturating_add(1),
                Err(Refused::Reached { limit, left, .. })
                    if limit.metric == Metric::Usd && left >= nanos(worst.least) && left > 0 && tries < 8 =>
                {
                    // Less is left than the tree might use: it gets what is left, on every limit alike.
                    usd = Usd::from_nanos(i64::try_from(left).unwrap_or(i64::MAX));
                    self.give_back(before);
                    i = 0;
                    tries += 1;
                }
                Err(refused) => {
                    self.give_back(before);
                    return Err(self.refusal(who, refused, unix_ms).await);
                }
            }
        }
        Ok(usd)
    }

    async fn take(
        &mut self,
        who: &Who,
        limits: Arc<[Limit]>,
        model: Option<String>,
        amount: Amount,
        unix_ms: i64,
    ) -> Result<(), Refused> {
        if limits.is_empty() {
            return Ok(());
        }
        let reservation = self.store.reserve(&who.tenant_id, &limits, amount, unix_ms).await?;
        self.parts.push(Part { reservation, model });
        Ok(())
    }

    /// What a client is told of a limit that is reached.
    async fn refusal(&self, who: &Who, refused: Refused, unix_ms: i64) -> Error {
        let reached = match &refused {
            Refused::Reached { limit, .. } => Some(limit.clone()),
            Refused::Away(_) => None,
        };
        let error = refusal(who, refused);
        let Some(limit) = reached else { return error };
        let standing = self.store.standing(&who.tenant_id, &[limit], unix_ms).await.pop();
        Error { limit: standing.map(Box::new), ..error }
    }

    /// Gives back everything taken after the first so many parts.
    fn give_back(&mut self, keep: usize) {
        for part in self.parts.split_off(keep) {
            self.store.settle(part.reservation, Amount::default());
        }
    }

    /// Puts what was used in the place of what was taken.
    pub(crate) fn settle(mut self, run: &Run) {
        for part in std::mem::take(&mut self.parts) {
            let counted = run.calls().filter(|c| part.model.as_ref().is_none_or(|m| glob(m, &c.model)));
            let mut used = Amount { requests: part.reservation.amount.requests, ..Amount::default() };
            for c in counted {
                let counted = c.counted();
                used.tokens = used.tokens.saturating_add(counted.tokens);
                used.usd = used.usd.saturating_add(nanos(counted.usd));
            }
            self.store.settle(part.reservation, used);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for part in std::mem::take(&mut self.parts) {
            let used = Amount { concurrency: 0, ..part.reservation.amount };
            self.store.settle(part.reservation, used);
        }
    }
}

/// Whose counter a policy's limit uses.
fn holder(per: &Per, who: &Who, request: &ChatRequest, model: &str) -> String {
    match per {
        Per::Tenant => format!("tenant={}", who.principal.tenant.id),
        Per::Key => format!("key={}", who.principal.key_id()),
        Per::User => format!("user={}", request.user.as_deref().unwrap_or_default()),
        Per::Model => format!("model={model}"),
        Per::Label(name) => {
            let value = request.options.tags.get(name).or_else(|| who.labels().get(name));
            format!("{name}={}", value.map_or("", String::as_str))
        }
    }
}

fn nanos(usd: Usd) -> u64 {
    u64::try_from(usd.nanos()).unwrap_or(0)
}

/// Whether a limit counts a request with these candidates and labels.
fn applies(
    quota: &Quota,
    candidates: &[Arc<str>],
    labels: &BTreeMap<String, String>,
    of_key: &BTreeMap<String, String>,
) -> bool {
    let model = quota.model.as_ref().is_none_or(|m| candidates.iter().any(|c| glob(m, c)));
    let label = quota.label.as_ref().and_then(|l| l.split_once('=')).is_none_or(|(name, value)| {
        labels.get(name).or_else(|| of_key.get(name)).is_some_and(|v| v == value)
    });
    model && label
}

fn refusal(who: &Who, refused: Refused) -> Error {
    match refused {
        Refused::Reached { limit, retry_after, .. } => {
            let budget = limit.metric == Metric::Usd;
            let mut all = who.principal.limits.iter().chain(who.principal.partial.iter().map(|(_, l)| l));
            let held = all.find(|l| l.counts_with(&limit) && l.ceiling > limit.ceiling);
            let said = match held {
                None => limit.to_string(),
                Some(whole) => {
                    let usd = |nanos: u64| Usd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX));
                    let (all, held) = (usd(whole.ceiling), usd(whole.reserved));
                    format!("{limit} ({all} less {held} USD that are held back for premium requests)")
                }
            };
            let mut error: Error = Kind::Limit { limit: said, budget }.into();
            error.retry_after = Some(retry_after);
            error
        }
        Refused::Away(why) => {
            tracing::error!("limits cannot be checked: {why}");
            Error { retry_after: Some(std::time::Duration::from_secs(1)), ..Error::from(Kind::LimitsAway) }
        }
    }
}

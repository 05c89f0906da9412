//! What one request claims of limits: which of them, whose counters those are, and how much less will do.

use super::{Asker, Count, Counters, is_shared, label};
use crate::error::{Error, Kind};
use crate::who::Who;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::control::Quota;
use types::directives::{LimitRule, Set};
use types::limits::{ALL, Amount, Claim, Foreseen, Inquiry, Limit, Metric, Reached};

/// The limits of a key and its tenant on money and tokens, and those of labels that the request has. Who is not `premium` is
/// counted against what is not held back.
pub(super) fn general(who: &Who, tags: &BTreeMap<String, String>, premium: bool) -> Vec<Limit> {
    let spent = |l: &&Limit| matches!(l.metric, Metric::Usd | Metric::Tokens);
    let general = who.principal.limits.iter().filter(spent);
    let labelled = who.principal.partial.iter().filter(|(q, _)| q.model.is_none() && labelled(q, who, tags));
    general.chain(labelled.map(|(_, limit)| limit)).map(|limit| counts(limit, premium)).collect()
}

/// Limits on money that count every call of a request: of its key, its tenant, its labels and of policies.
pub(crate) fn of_money(asker: &Asker, rules: &[Set<LimitRule>], premium: bool) -> Vec<Limit> {
    let is_of_money = |rule: &&Set<LimitRule>| rule.value.metric == Metric::Usd && is_shared(rule);
    let own = general(&asker.who, &asker.request.options.tags, premium);
    // A rule's limit that cannot be counted is told of where it is taken from.
    let of_rules =
        rules.iter().filter(is_of_money).filter_map(|rule| limit_of(rule, &rule.rule, asker).ok()?);
    own.into_iter().filter(|limit| limit.metric == Metric::Usd).chain(of_rules).collect()
}

/// What is claimed of limits of one request, those of its tenant first, then those that all tenants share; of requests and
/// places only where a limit counts them.
pub(super) fn claims(
    tenant: &Arc<str>,
    limits: impl IntoIterator<Item = Limit>,
    amount: Amount,
) -> Vec<Claim> {
    let (shared, own): (Vec<Limit>, Vec<Limit>) = limits.into_iter().partition(Limit::is_over_all);
    let claim = |limits: Vec<Limit>| {
        let whose = limits.first()?.whose(tenant);
        let counts = |metric| limits.iter().any(|l| l.metric == metric);
        let of = |metric| if counts(metric) { amount.of(metric) } else { 0 };
        let (requests, concurrency) = (of(Metric::Requests), of(Metric::Concurrency));
        Some(Claim {
            tenant: whose,
            limits: limits.into(),
            amount: Amount { requests, concurrency, ..amount },
        })
    };
    [own, shared].into_iter().filter_map(claim).collect()
}

/// What limits would say to amounts that a request of a tenant asks about, in their order; nothing where they cannot be
/// read. One question for the limits of the tenant, and one for those that all tenants share.
pub(super) async fn foresee(store: &Counters, tenant: &Arc<str>, asked: Vec<Inquiry>) -> Vec<Foreseen> {
    let is_shared: Vec<bool> = asked.iter().map(|asked| asked.limit.is_over_all()).collect();
    let (shared, own): (Vec<Inquiry>, Vec<Inquiry>) =
        asked.into_iter().partition(|asked| asked.limit.is_over_all());
    let ask = async |whose: &Arc<str>, asked: Vec<Inquiry>| match asked.as_slice() {
        [] => Vec::new().into_iter(),
        asked => store.foresee(whose, asked).await.into_iter(),
    };
    let mut own = ask(tenant, own).await;
    let mut shared = ask(&Arc::from(ALL), shared).await;
    let each = is_shared.iter().map(|is_shared| if *is_shared { shared.next() } else { own.next() });
    each.collect::<Option<_>>().unwrap_or_default()
}

/// The limit of a policy, counted under a name; `None` = it counts the calls of each model by itself.
pub(super) fn limit_of(rule: &Set<LimitRule>, name: &str, asker: &Asker) -> Result<Option<Limit>, Error> {
    let LimitRule { per, over, metric, amount, window, .. } = &rule.value;
    let Some(holder) = asker.holder(per, *over) else { return Ok(None) };
    let limit = Limit::rate(&format!("{}rule:{name}:{holder}", over.prefix()), *metric, *amount, *window);
    let never = || {
        let why = format!("the limit of the rule `{}` can never admit anything", rule.rule);
        Error::from(Kind::PolicyEvaluation(why))
    };
    limit.ok_or_else(never).map(Some)
}

/// The limits that policies set, but for those that count the calls of each model by itself.
pub(super) fn by(rules: &[Set<LimitRule>], asker: &Asker) -> Result<Vec<Limit>, Error> {
    rules.iter().filter_map(|rule| limit_of(rule, &rule.rule, asker).transpose()).collect()
}

/// A request, a place, or both, of every limit that counts all of them.
pub(super) fn at_door(who: &Who, count: Count) -> Vec<Claim> {
    let counted = |l: &&Limit| count.amount().of(l.metric) > 0;
    let limits = who.principal.limits.iter().filter(counted).cloned();
    claims(&who.tenant_id, limits, count.amount())
}

/// Money, in nano-dollars, and tokens that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spend {
    pub(super) usd: u64,
    pub(super) tokens: u64,
}

impl Spend {
    /// As much as the limits leave that have no room for this; `None` = that is less than is needed of one of them, or what
    /// one counts is neither.
    pub(super) fn left_by(self, all: &[Reached], least: Spend) -> Option<Spend> {
        let mut lower = self;
        for Reached { limit, left, .. } in all {
            let (of, least) = match limit.metric {
                Metric::Usd => (&mut lower.usd, least.usd),
                Metric::Tokens => (&mut lower.tokens, least.tokens),
                Metric::Requests | Metric::Concurrency => return None,
            };
            if *left < least {
                return None;
            }
            *of = (*of).min(*left);
        }
        (lower != self).then_some(lower)
    }

    /// The least of what they have no room for; `None` = it is that.
    pub(super) fn lowered(self, all: &[Reached], least: Spend) -> Option<Spend> {
        let has = |metric| all.iter().any(|reached| reached.limit.metric == metric);
        let lower = Spend {
            usd: if has(Metric::Usd) { self.usd.min(least.usd) } else { self.usd },
            tokens: if has(Metric::Tokens) { self.tokens.min(least.tokens) } else { self.tokens },
        };
        (lower != self).then_some(lower)
    }
}

/// A limit as it counts for who is `premium`, or is not.
pub(super) fn counts(limit: &Limit, premium: bool) -> Limit {
    if premium { limit.clone() } else { limit.ordinary() }
}

/// Whether a limit counts a request with these tags.
pub(super) fn labelled(quota: &Quota, who: &Who, tags: &BTreeMap<String, String>) -> bool {
    let said = quota.label.as_ref().and_then(|l| l.split_once('='));
    said.is_none_or(|(name, value)| label(name, who, tags) == Some(value))
}

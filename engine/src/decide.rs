//! All that is settled of a request before its first call, step by step: what it is, what policies say, which arm takes
//! it, and what that may use. A request takes every step, a dry run all but the last.

use crate::affinity::Stays;
use crate::answer::Admission;
use crate::approvals::HeldAnswer;
use crate::decision_slots;
use crate::demands::Demands;
use crate::error::Error;
use crate::govern::{Ask, Governed};
use crate::history::Conversation;
use crate::limits::{self, Asker, Count, Counted, Held, NOTHING_USED_UP, UsedUp};
use crate::policy_inputs;
use crate::premium;
use crate::profiled::Profiled;
use crate::reserve::{self, Purpose};
use crate::rewrite::form_check;
use crate::route::{self, Routed};
use crate::shadow::Note;
use crate::sticky::Holder;
use crate::weigh::{self, Conditions, Evaluated, Moment, Question};
use crate::{Inner, View};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::Usd;
use types::chat::ChatRequest;
use types::directives::{Directives, LimitRule, Set};

/// Where a request is decided: the engine, the configuration that it entered with, and who asks since when.
#[derive(Clone, Copy)]
pub(crate) struct Decider<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) view: &'a Arc<View>,
    pub(crate) admission: &'a Admission,
    /// When it came, Unix milliseconds.
    pub(crate) ts_ms: i64,
}

/// A request as policies want it, with what they say of it.
pub(crate) struct Directed {
    governed: Governed,
    directives: Directives,
    /// Policies could not say it, and the request fails.
    unevaluated: Option<Error>,
    moment: Moment,
    conversation: Conversation,
    /// What came before it in its conversation, as far as policies ask.
    history: policies::History,
    shadow: Option<Box<Note>>,
    asker: Asker,
    /// It takes what it may use; a dry run takes nothing.
    in_earnest: bool,
}

/// A request and its choice.
pub(crate) struct Decided {
    pub(crate) profiled: Profiled,
    pub(crate) scope: types::expr::Scope,
    /// What came before in its conversation, as far as policies ask.
    pub(crate) history: policies::History,
    pub(crate) directives: Directives,
    pub(crate) seed: u64,
    pub(crate) decision: types::Decision,
    /// What is to run, or why nothing is.
    pub(crate) chosen: Result<route::Chosen, Error>,
    /// Most that the request may cost by what it, policies and the workflow say, whatever budgets leave of it.
    pub(crate) ceiling: Option<Usd>,
    /// To be decided once more when the request has ended, under a configuration that is tried.
    pub(crate) shadow: Option<Box<Note>>,
    /// What policies demand of the answer and the record; `None` = nothing.
    pub(crate) demands: Option<Box<Demands>>,
    /// An answer that people have agreed to: it goes out instead of another.
    pub(crate) agreed: Option<Box<HeldAnswer>>,
    /// The approval that it names and has; used up when its work begins.
    pub(crate) approval: Option<String>,
    /// Models that were no candidates because their own limits had no room.
    used_up: UsedUp,
    /// Who asks, for the limits of rules.
    pub(crate) asker: Asker,
    pub(crate) stays: Box<Stays>,
}

/// A request whose choice may use what it needs; where it may not, nothing is to run any more.
pub(crate) struct Reserved {
    pub(crate) decided: Decided,
    /// Rates and budgets that were taken.
    pub(crate) held: Option<Held>,
    /// Time in which it waited for what others had set aside.
    pub(crate) waited: Duration,
}

/// What a record says of a request that may not use what budgets hold back.
const NOT_PREMIUM: &str = "no";

impl Decider<'_> {
    /// Asks the policies, and makes of the request what they want.
    pub(crate) async fn policy(self, profiled: Profiled, ask: Ask<'_>) -> Directed {
        let Decider { inner, view, admission, .. } = self;
        let who = &admission.who;
        let asks = &view.bundle.asks;
        let trial = inner.shadow.load_full();
        let remembers = asks.history || trial.as_ref().is_some_and(|s| s.asks_for_history());
        let conversation = Conversation::of(who, &profiled.request, remembers);
        let turn = remembers.then_some(conversation);
        let moment = self.moment(conversation);
        let question = Question {
            profiled: &profiled,
            who,
            request_id: &admission.request_id,
            moment: &moment,
            used_up: &NOTHING_USED_UP,
        };
        let in_earnest = !matches!(ask, Ask::Nobody);
        let tried = trial.filter(|s| s.takes(moment.seed) && s.has_time(&inner.gate));
        let asks = tried.as_ref().map_or(Cow::Borrowed(asks), |s| Cow::Owned(s.asks_with(asks)));
        let around = policy_inputs::around(inner, view, &asks, admission, turn, in_earnest).await;
        let history = around.history;
        let Evaluated { scope, mut directives, unevaluated } =
            weigh::evaluate(&view.bundle, policies::Purpose::Serving, question, &around).await;
        let shadow = tried.map(|s| Box::new(Note::new(s, view, question, around)));
        let asker = Asker::of(inner, view, who, &profiled.request);
        let mut governed = Governed::unchanged(profiled, scope).under(self, &mut directives, turn, ask);
        directives.denials.extend(governed.denial.take());
        directives.validators.extend(form_check(directives.further.as_deref()));
        Directed {
            governed,
            directives,
            unevaluated,
            moment,
            conversation,
            history,
            shadow,
            asker,
            in_earnest,
        }
    }

    /// Chooses the arm that takes the request. Nothing is noted or reserved.
    pub(crate) async fn route(self, directed: Directed) -> Decided {
        let Decider { inner, view, admission, .. } = self;
        let Directed { governed, mut directives, unevaluated, moment, .. } = directed;
        let Directed { conversation, history, shadow, asker, in_earnest, .. } = directed;
        let Governed { profiled, scope, demands, agreed, approval, refusal, .. } = governed;
        let Profiled { request, profile, .. } = &profiled;
        let who = &admission.who;
        let sticky = directives.further.as_ref().and_then(|f| f.sticky.as_ref());
        let holder = sticky.and_then(|s| Holder::of(s.value, who, &asker.request, &conversation));
        let kept = holder.as_ref().and_then(|h| inner.arms.last(h));
        let premium = premium::why(who, profile, premium::said(&directives)).is_some();
        let partial = reserve::of_models(view, who, request, limits_of(&directives), premium);
        let cap = directives.cap_max_tokens.as_ref().map(|cap| cap.value);
        // What only asks how it would go takes nothing, and neither does an answer that is there already.
        let money = match in_earnest && agreed.is_none() {
            true => limits::of_money(&asker, limits_of(&directives), premium),
            false => Vec::new(),
        };
        let counted = Counted { request, facts: &profile.facts, cap, partial: &partial, money: &money };
        let used_up = limits::used_up(inner, view, who, counted).await;
        let question = Question {
            profiled: &profiled,
            who,
            request_id: &admission.request_id,
            moment: &moment,
            used_up: &used_up,
        };
        let latest = Instant::now() + decision_slots::PATIENCE;
        let until = admission.deadline.map_or(latest, |deadline| latest.min(admission.received + deadline));
        let (circuit, quota) = (|ix| view.circuit(ix), |ix| view.reach.provider.quota(ix));
        let refusal = unevaluated.or(refusal);
        let conditions =
            Conditions { scope: &scope, directives: &mut directives, refusal, kept: kept.as_ref(), until };
        let ground = weigh::ground(view, &circuit, &quota);
        let Routed { decision, chosen } = weigh::choose(&ground, question, conditions).await;
        let ceiling = chosen.as_ref().ok().and_then(|chosen| chosen.cap);
        Decided {
            profiled,
            scope,
            history,
            directives,
            seed: moment.seed,
            decision,
            chosen,
            ceiling,
            shadow,
            demands,
            agreed,
            approval,
            used_up,
            asker,
            stays: Stays::of(inner, conversation, holder),
        }
    }

    /// Sets aside what the choice may cost; for so long it waits where only what requests in work have set aside stands
    /// against that.
    pub(crate) async fn reserve(
        self,
        mut decided: Decided,
        mut held: Option<Held>,
        patience: Duration,
    ) -> Reserved {
        let Decider { inner, view, admission, .. } = self;
        let who = &admission.who;
        let premium = premium::why(who, &decided.profiled.profile, premium::said(&decided.directives));
        if who.reserving {
            decided.decision.premium = Some(premium.unwrap_or(NOT_PREMIUM).into());
        }
        let (None, Ok(chosen)) = (&decided.agreed, &decided.chosen) else {
            return Reserved { decided, held, waited: Duration::ZERO };
        };
        let purpose = Purpose {
            request: &decided.profiled.request,
            profile: &decided.profiled.profile,
            asker: &decided.asker,
            rules: limits_of(&decided.directives),
            cap: decided.directives.cap_max_tokens.as_ref().map(|cap| cap.value),
            premium: premium.is_some(),
            count: Count::Request,
        };
        let latest = |begun| {
            let deadline = admission.deadline.map(|d| admission.received + d);
            deadline.map_or(begun + patience, |deadline| deadline.min(begun + patience))
        };
        let (reserved, waited) = reserve::patiently(inner, view, &mut held, purpose, chosen, latest).await;
        match reserved {
            Ok(()) => {
                let matrix = view.bundle.matrix();
                let left_out = || route::limit_of(&decided.used_up, matrix, &decided.decision.excluded);
                held.iter().for_each(|held| held.without(left_out()));
            }
            Err(e) => decided.chosen = Err(e),
        }
        Reserved { decided, held, waited }
    }

    /// Profiles a request, asks the policies and chooses, as if it came. Nothing is noted or reserved, and nobody is asked.
    pub(crate) async fn consider(self, request: Arc<ChatRequest>) -> Decided {
        let directed = self.policy(Profiled::of(request), Ask::Nobody).await;
        self.route(directed).await
    }

    /// What the choice depends on besides the request: what was learned, what its session was given, chance.
    fn moment(self, conversation: Conversation) -> Moment {
        let Decider { inner, view, admission, ts_ms } = self;
        let tenant = &admission.who.tenant;
        Moment {
            statistics: inner.statistics.load(),
            warm: inner.sessions.warm(conversation, ts_ms),
            explore: tenant.allow_explore
                && !inner.gate.in_brownout()
                && inner.explorers.allows(&tenant.id, view.bundle.routing.budget),
            mode: inner.config.mode,
            seed: inner.next_seed(),
            ts_ms,
        }
    }
}

/// Notes what a request is given, once nothing keeps it from being served: those that come after it are chosen for
/// with a view to it.
pub(crate) fn note(inner: &Inner, stays: &Stays, decision: &types::Decision) {
    inner.explorers.note(decision);
    stays.chosen(decision);
}

fn limits_of(directives: &Directives) -> &[Set<LimitRule>] {
    directives.further.as_ref().map_or(&[], |f| f.limits.as_slice())
}

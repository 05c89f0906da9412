//! The checks of a node, with the values of the run that they refer to.

use super::outside::{self, Prepared, Told};
use crate::load::Checks;
use crate::run::At;
use crate::world::{CheckAsk, EffectId, EffectKind};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use types::{ChatRequest, Completion};
use validators::{Check, Checked, Input, Values};

/// Share of a node's time that a check outside may take: the node itself has to say what came of it.
const SHARE: f64 = 0.9;

/// Checks that are ready to run.
pub(crate) struct Suite<'a> {
    request: &'a ChatRequest,
    pub(crate) list: Vec<Arc<dyn Check>>,
    values: Values,
    outside: Vec<Prepared>,
    at: At<'a>,
    /// Answers that were checked outside so far.
    asked: AtomicU32,
}

impl<'a> Suite<'a> {
    /// A node's own checks on values as they stand, those that policies demand included where it comes last
    /// before delivery. `at` is the node itself or one of the same graph.
    pub(crate) fn of(at: &At<'a>, own: &Checks, last: bool) -> Self {
        let extras = if last { at.host.extras.as_slice() } else { &[] };
        let value = |(path, r): &(String, crate::reference::Ref)| {
            let value = at.value(r);
            (path.clone(), value.json(&at.host.table()))
        };
        Suite {
            request: &at.host.input.request,
            list: own.list.iter().chain(extras).cloned().collect(),
            values: own.refs.iter().map(value).collect(),
            outside: own.outside.iter().map(|o| outside::prepare(o, at)).collect(),
            at: at.clone(),
            asked: AtomicU32::new(0),
        }
    }

    /// Whether everything can be said at once.
    pub(crate) fn is_pure(&self) -> bool {
        self.outside.is_empty()
    }

    /// What those say that need nothing from outside.
    pub(crate) fn at_once(&self, completion: &Completion) -> Checked {
        self.with(completion, &[])
    }

    /// What all of them say of an answer.
    pub(crate) async fn check(&self, completion: &Completion) -> Checked {
        if self.is_pure() {
            return self.at_once(completion);
        }
        let count = u32::try_from(self.outside.len()).unwrap_or(u32::MAX);
        let first = self.asked.fetch_add(1, Ordering::Relaxed).saturating_mul(count);
        let shared = Arc::new(completion.clone());
        let asks = (0_u32..).zip(&self.outside).map(|(i, o)| self.ask(o, first.saturating_add(i), &shared));
        let told = join_all(asks).await;
        self.with(completion, &told)
    }

    async fn ask(&self, o: &Prepared, index: u32, completion: &Arc<Completion>) -> Arc<dyn Check> {
        let most = self.at.node.timeout.mul_f64(SHARE);
        let ask = CheckAsk {
            id: EffectId::new(&self.at.path, EffectKind::Check, index, 1),
            check: o.name.into(),
            with: o.with.clone(),
            completion: completion.clone(),
            timeout: o.timeout.map_or(most, |own| own.min(most)),
        };
        Arc::new(Told::new(o, self.at.check(ask).await))
    }

    fn with(&self, completion: &Completion, told: &[Arc<dyn Check>]) -> Checked {
        let input = Input::new(completion, self.request).with_values(&self.values);
        if told.is_empty() {
            return validators::run(&self.list, &input);
        }
        let all: Vec<Arc<dyn Check>> = self.list.iter().chain(told).cloned().collect();
        validators::run(&all, &input)
    }
}

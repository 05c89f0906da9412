//! Money, tokens and calls that a run, a node or a call may use: one inside the other.

use crate::load::Cx;
use serde_json::{Value as Json, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use types::Usd;
use types::doc::Node;

/// What may be used at most; `None`: whatever is allowed around it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amounts {
    /// Money: every call has to fit under it, at the most that it may cost.
    pub usd: Option<Usd>,
    /// Money at which enough is spent: no call that costs anything begins after that. What is under way by then, and
    /// what a call may cost at most, is not held against it, and a call of unknown price may be made.
    pub enough: Option<Usd>,
    /// Input and output tokens together: every call has to fit under it, with the longest answer it may give.
    pub tokens: Option<u32>,
    /// Tokens at which enough is used: no call begins after that, and what is under way by then is not held against it.
    pub enough_tokens: Option<u32>,
    /// Model calls.
    pub calls: Option<u32>,
    /// Time.
    pub wall: Option<Duration>,
}

impl Amounts {
    /// Reads the `budget` of a node.
    pub(crate) fn lower(cx: &mut Cx<'_>, node: &Node, path: &str) -> Option<Amounts> {
        let mut f = cx.r.fields(node, path)?;
        let whole = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
        let amounts = Amounts {
            enough: None,
            enough_tokens: None,
            usd: f.take("usd").and_then(|n| cx.usd(n, &f.at("usd"))),
            tokens: whole(f.take("tokens").and_then(|n| cx.r.integer(n, &f.at("tokens"), 1, 5_000_000))),
            calls: whole(f.take("calls").and_then(|n| cx.r.integer(n, &f.at("calls"), 1, 500))),
            wall: f.take("wall").and_then(|n| cx.r.duration(n, &f.at("wall"))),
        };
        f.finish(&mut cx.r);
        Some(amounts)
    }

    /// For the hash of the plan.
    pub(crate) fn canonical(&self) -> Json {
        json!([self.usd.map(Usd::dollars), self.tokens, self.calls, self.wall.map(|w| w.as_secs_f64())])
    }
}

/// Which limit of a run is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    /// Money.
    Usd,
    /// Input and output tokens.
    Tokens,
    /// Model calls.
    Calls,
    /// Runs of nodes.
    NodeRuns,
}

impl Exhausted {
    /// All of them.
    pub const ALL: [Exhausted; 4] =
        [Exhausted::Usd, Exhausted::Tokens, Exhausted::Calls, Exhausted::NodeRuns];

    /// Its name in the `limits` of a workflow, in error codes and in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Exhausted::Usd => "usd",
            Exhausted::Tokens => "tokens",
            Exhausted::Calls => "calls",
            Exhausted::NodeRuns => "node_runs",
        }
    }
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Money.
    pub usd: Usd,
    /// Input and output tokens together.
    pub tokens: u64,
    /// Model calls.
    pub calls: u32,
}

#[derive(Debug, Default)]
struct State {
    used: Used,
    reserved: Usd,
    /// Tokens that calls under way may use.
    held: u64,
    /// Somebody has said what was paid and used, be it nothing.
    told: bool,
    stopped: bool,
}

impl State {
    /// Tokens of so many that are neither used nor set aside.
    fn left_of(&self, most: u32) -> u64 {
        u64::from(most).saturating_sub(self.used.tokens).saturating_sub(self.held)
    }
}

/// One of the calls that may be made: given back when it is dropped, unless the call was made.
#[derive(Debug)]
#[must_use = "a call that is dropped is given back"]
pub struct Taken<'a>(Option<&'a Budget>);

impl Taken<'_> {
    /// The call is made: it stays taken.
    pub fn made(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.0.take() {
            budget.unmade();
        }
    }
}

/// What a run, a node or a call may use and has used. Whatever is taken from it is taken from those around
/// it in the same step, or from none of them.
#[derive(Debug, Default)]
pub struct Budget {
    limit: Amounts,
    state: Mutex<State>,
    above: Option<Arc<Budget>>,
}

impl Budget {
    /// A budget with limits of its own within another.
    #[must_use]
    pub fn new(limit: Amounts, above: Option<Arc<Budget>>) -> Arc<Self> {
        Arc::new(Budget { limit, state: Mutex::default(), above })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every write leaves the state consistent, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets money aside for a call, if it is within every limit; check and act are one step.
    #[must_use]
    pub fn reserve(&self, amount: Usd) -> bool {
        // Always from the inside out, so two of these never wait for each other.
        let mut state = self.lock();
        let after = state.used.usd.plus(state.reserved).plus(amount);
        if self.limit.enough.is_some_and(|enough| state.used.usd >= enough) {
            return false;
        }
        if self.limit.usd.is_some_and(|most| after > most) {
            return false;
        }
        if self.above.as_ref().is_some_and(|above| !above.reserve(amount)) {
            return false;
        }
        state.reserved = state.reserved.plus(amount);
        true
    }

    /// Sets tokens aside for an attempt of the call whose budget this is, in the place of those of the one before it:
    /// what goes in, and of `output` as many as every limit leaves, no fewer than `least`; gives that many. They are free
    /// again when the answer is counted, or when nobody has this budget any more.
    ///
    /// # Errors
    /// [`Exhausted::Tokens`]: too few are left for an answer.
    pub fn hold(&self, input: u32, output: u32, least: u32) -> Result<u32, Exhausted> {
        self.free();
        self.grant(input, output, least)
    }

    fn grant(&self, input: u32, output: u32, least: u32) -> Result<u32, Exhausted> {
        let mut state = self.lock();
        let left = self.limit.tokens.map(|most| state.left_of(most).saturating_sub(u64::from(input)));
        let mut granted = left.map_or(output, |left| u32::try_from(left).unwrap_or(u32::MAX).min(output));
        if granted < least.max(1) {
            return Err(Exhausted::Tokens);
        }
        if let Some(above) = &self.above {
            granted = above.grant(input, granted, least)?;
        }
        state.held = state.held.saturating_add(u64::from(input)).saturating_add(u64::from(granted));
        Ok(granted)
    }

    /// Tokens left that nobody has set aside; `None`: there is no limit.
    #[must_use]
    pub fn tokens_left(&self) -> Option<u64> {
        let own = {
            let state = self.lock();
            self.limit.tokens.map(|most| state.left_of(most))
        };
        let above = self.above.as_ref().and_then(|above| above.tokens_left());
        [own, above].into_iter().flatten().min()
    }

    /// Gives back the tokens that were set aside for the call whose budget this is.
    fn free(&self) {
        let held = self.lock().held;
        self.replace(held, 0);
    }

    /// Puts tokens that were used in the place of what was set aside for them.
    fn replace(&self, held: u64, used: u64) {
        let mut state = self.lock();
        state.held = state.held.saturating_sub(held);
        state.used.tokens = state.used.tokens.saturating_add(used);
        if let Some(above) = &self.above {
            above.replace(held, used);
        }
    }

    /// Puts what an attempt of the call whose budget this is has cost, and the tokens that it has used, in the place of what
    /// was set aside for it.
    pub fn settle(&self, reserved: Usd, cost: Usd, tokens: u64) {
        let held = self.lock().held;
        self.replace(held, tokens);
        self.pay(reserved, cost);
    }

    fn pay(&self, reserved: Usd, cost: Usd) {
        let mut state = self.lock();
        state.reserved = state.reserved.minus(reserved);
        state.used.usd = state.used.usd.plus(cost);
        state.told = true;
        if let Some(above) = &self.above {
            above.pay(reserved, cost);
        }
    }

    /// Gives back money that was set aside for a call which is not made.
    pub fn give_back(&self, amount: Usd) {
        let mut state = self.lock();
        state.reserved = state.reserved.minus(amount);
        if let Some(above) = &self.above {
            above.give_back(amount);
        }
    }

    /// Money left that nobody has set aside; `None`: there is no limit.
    #[must_use]
    pub fn left(&self) -> Option<Usd> {
        let own = {
            let state = self.lock();
            self.limit.usd.map(|most| most.minus(state.used.usd.plus(state.reserved)))
        };
        let above = self.above.as_ref().and_then(|above| above.left());
        [own, above].into_iter().flatten().min()
    }

    /// What has been used.
    #[must_use]
    pub fn used(&self) -> Used {
        self.lock().used
    }

    /// Whether anybody has said what was paid and used.
    pub(crate) fn is_told(&self) -> bool {
        self.lock().told
    }

    /// Whoever asked has seen enough of the answer: dropping its stream from here on is no loss of a call.
    pub fn stop(&self) {
        self.lock().stopped = true;
    }

    /// Whether that is so.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Its limits.
    #[must_use]
    pub fn limit(&self) -> &Amounts {
        &self.limit
    }

    /// Takes one call.
    ///
    /// # Errors
    /// The limit that stands against it.
    pub fn call(&self) -> Result<(), Exhausted> {
        let mut state = self.lock();
        if self.limit.calls.is_some_and(|most| state.used.calls >= most) {
            return Err(Exhausted::Calls);
        }
        let mut tokens = [self.limit.tokens, self.limit.enough_tokens].into_iter().flatten();
        if tokens.any(|most| state.used.tokens >= u64::from(most)) {
            return Err(Exhausted::Tokens);
        }
        // Where nothing may be spent, what costs nothing may be called.
        if self.limit.usd.is_some_and(|most| most > Usd::ZERO && state.used.usd >= most) {
            return Err(Exhausted::Usd);
        }
        if let Some(above) = &self.above {
            above.call()?;
        }
        state.used.calls = state.used.calls.saturating_add(1);
        Ok(())
    }

    /// Takes one call, for as long as it may still be made.
    ///
    /// # Errors
    /// As [`Budget::call`].
    pub fn take(&self) -> Result<Taken<'_>, Exhausted> {
        self.call().map(|()| Taken(Some(self)))
    }

    /// Takes back a call that was never made, for nobody was left to make it, or no money.
    pub(crate) fn unmade(&self) {
        let mut state = self.lock();
        state.used.calls = state.used.calls.saturating_sub(1);
        if let Some(above) = &self.above {
            above.unmade();
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(x: f64) -> Usd {
        Usd::from_dollars(x)
    }

    #[test]
    fn what_is_taken_is_taken_from_all_or_from_none() {
        let run = Budget::new(Amounts { usd: Some(usd(1.0)), ..Amounts::default() }, None);
        let node = Budget::new(Amounts { usd: Some(usd(0.4)), ..Amounts::default() }, Some(run.clone()));
        assert!(node.reserve(usd(0.3)) && !node.reserve(usd(0.2)), "the node's own limit");
        assert_eq!((node.left(), run.left()), (Some(usd(0.1)), Some(usd(0.7))));
        assert!(run.reserve(usd(0.65)) && !node.reserve(usd(0.1)), "the run's limit");
        node.settle(usd(0.3), usd(0.1), 0);
        run.settle(usd(0.65), usd(0.0), 0);
        assert_eq!((node.used().usd, run.used().usd, run.left()), (usd(0.1), usd(0.1), Some(usd(0.9))));
    }

    #[test]
    fn once_enough_is_spent_nothing_more_begins() {
        let run = Budget::new(Amounts { enough: Some(usd(1.0)), ..Amounts::default() }, None);
        let node = Budget::new(Amounts::default(), Some(run.clone()));
        assert!(node.reserve(usd(7.0)) && run.reserve(usd(7.0)), "what may be spent is not held against it");
        node.settle(usd(7.0), usd(0.999), 0);
        assert!(node.reserve(usd(0.5)));
        run.settle(usd(7.0), usd(0.001), 0);
        assert!(!node.reserve(usd(0.001)) && !run.reserve(usd(0.001)));
        assert_eq!((run.left(), run.call()), (None, Ok(())), "what costs nothing may go on");
    }

    #[test]
    fn where_nothing_may_be_spent_what_is_free_may_be_called() {
        let run = Budget::new(Amounts { usd: Some(Usd::ZERO), ..Amounts::default() }, None);
        assert_eq!((run.call(), run.reserve(Usd::ZERO), run.reserve(usd(0.001))), (Ok(()), true, false));
    }

    #[test]
    fn calls_and_tokens_end_too() {
        let run = Budget::new(Amounts { calls: Some(2), tokens: Some(10), ..Amounts::default() }, None);
        let node = Budget::new(Amounts { calls: Some(1), ..Amounts::default() }, Some(run.clone()));
        assert_eq!(
            (node.call(), node.call(), run.call(), run.call()),
            (Ok(()), Err(Exhausted::Calls), Ok(()), Err(Exhausted::Calls))
        );
        let stated = Amounts { tokens: Some(10), ..Amounts::default() };
        let usual = Amounts { enough_tokens: Some(10), ..Amounts::default() };
        for limit in [stated, usual] {
            let other = Budget::new(limit, None);
            assert_eq!(other.call(), Ok(()));
            other.settle(Usd::ZERO, Usd::ZERO, 10);
            assert_eq!(other.call(), Err(Exhausted::Tokens));
        }
    }

    #[test]
    fn a_call_that_is_not_made_is_given_back_everywhere() {
        let run = Budget::new(Amounts { calls: Some(2), ..Amounts::default() }, None);
        let node = Budget::new(Amounts::default(), Some(run.clone()));
        let first = node.take().unwrap();
        let second = node.take().unwrap();
        assert_eq!(node.take().err(), Some(Exhausted::Calls));
        first.made();
        drop(second);
        assert_eq!((node.used().calls, run.used().calls), (1, 1));
    }

    #[test]
    fn calls_beside_each_other_share_the_tokens_that_there_are() {
        let run = Budget::new(Amounts { tokens: Some(100), ..Amounts::default() }, None);
        let node = Budget::new(Amounts { tokens: Some(80), ..Amounts::default() }, Some(run.clone()));
        let call = || Budget::new(Amounts::default(), Some(node.clone()));
        let (first, second, third) = (call(), call(), call());
        assert_eq!(first.hold(10, 40, 1), Ok(40));
        assert_eq!(second.hold(10, 40, 21), Err(Exhausted::Tokens), "too few");
        assert_eq!(second.hold(10, 40, 20), Ok(20), "what is left of the node's");
        assert_eq!((third.hold(10, 40, 1), third.tokens_left()), (Err(Exhausted::Tokens), Some(0)));
        assert_eq!(second.hold(10, 5, 1), Ok(5), "another attempt, in the place of the first");
        first.settle(Usd::ZERO, Usd::ZERO, 30);
        assert_eq!((node.used().tokens, node.tokens_left(), run.tokens_left()), (30, Some(35), Some(55)));
        drop(second);
        assert_eq!(node.tokens_left(), Some(50), "a call that nobody waits for any more");
        let free = Budget::new(Amounts { enough_tokens: Some(10), ..Amounts::default() }, None);
        assert_eq!(
            (free.hold(10, 4_000, 1), free.tokens_left()),
            (Ok(4_000), None),
            "what is usual shortens nothing"
        );
    }
}

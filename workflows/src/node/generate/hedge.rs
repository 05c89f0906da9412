//! A second call beside a slow one: whichever begins to answer first is taken, the others are dropped.

use crate::load::Cx;
use crate::route::Route;
use crate::run::{At, Opened, Together};
use crate::world::{Ask, EffectId, EffectKind, Failure, Moment};
use futures_util::future::{BoxFuture, pending};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::directives::{HedgeAfter, HedgeRule};
use types::doc::Node;
use types::run::Purpose;

/// How long a call is left alone where nobody knows how long such calls take.
const USUAL: Duration = Duration::from_secs(2);
/// Waits of hedges among those of the node instance: the first two numbers are its time limit and its pauses.
const FIRST_WAIT: u32 = 16;

/// Which models a further call goes to.
#[derive(Clone, Debug)]
enum To {
    /// The next ones of the same route.
    Next,
    /// The same ones.
    Same,
    /// Those of another route.
    Route(Arc<Route>),
}

/// When a call is hedged.
#[derive(Clone, Debug)]
pub(crate) struct Hedge {
    after: HedgeAfter,
    /// Most further calls, 1..=3.
    pub(super) max: u32,
    to: To,
    /// What counts is the first content, not the whole answer.
    first_content: bool,
}

impl Hedge {
    pub(super) fn lower(cx: &mut Cx<'_>, n: &Node, path: &str, route: &Route) -> Option<Hedge> {
        let mut f = cx.r.fields(n, path)?;
        let after =
            f.require(&mut cx.r, "after").and_then(|n| HedgeAfter::read(&mut cx.r, n, &f.at("after")));
        let max = super::count(cx, &mut f, "max", (1, 3), 1);
        let to = f.take("to").and_then(|n| to(cx, n, &f.at("to"), route)).unwrap_or(To::Next);
        let trigger =
            f.take("trigger").and_then(|n| cx.r.one_of(n, &f.at("trigger"), &["first_content", "complete"]));
        f.finish(&mut cx.r);
        Some(Hedge { after: after?, max, to, first_content: trigger != Some("complete") })
    }

    /// As a policy says: what counts is the first content, and further calls go to the next models.
    pub(crate) fn of(rule: HedgeRule) -> Option<Hedge> {
        match rule {
            HedgeRule::None => None,
            HedgeRule::Begin { after, max } => Some(Hedge { after, max, to: To::Next, first_content: true }),
        }
    }

    /// The route of further calls, where it is another one.
    pub(super) fn route(&self) -> Option<&Route> {
        match &self.to {
            To::Route(route) => Some(route),
            To::Next | To::Same => None,
        }
    }

    /// For the hash of the plan.
    pub(super) fn canonical(&self) -> Json {
        let to = match &self.to {
            To::Next => json!("next"),
            To::Same => json!("same"),
            To::Route(r) => r.canonical(),
        };
        json!([self.after, self.max, to, self.first_content])
    }

    fn patience(&self, at: &At<'_>, ask: &Ask) -> Duration {
        match self.after {
            HedgeAfter::Ms(ms) => Duration::from_millis(ms),
            HedgeAfter::Percentile(p) => at.host.world.patience(ask, f64::from(p) / 100.0).unwrap_or(USUAL),
        }
    }
}

fn to(cx: &mut Cx<'_>, n: &Node, path: &str, route: &Route) -> Option<To> {
    match n.as_str() {
        Some("next") => return Some(To::Next),
        Some("same") => return Some(To::Same),
        _ => {}
    }
    let base = Route { model: None, pool: None, within: None, only: None, ..route.clone() };
    let other = match n.as_str().and_then(|name| cx.own_pool(name)) {
        Some(own) => Route { strategy: own.strategy, within: Some(own), ..base },
        None => Route { pool: Some(cx.pool(n, path)?), ..base },
    };
    Some(To::Route(Arc::new(other)))
}

/// Calls for one answer.
pub(crate) struct Race<'a> {
    hedge: Option<&'a Hedge>,
    at: &'a At<'a>,
    first: Ask,
    made: u32,
    hedged: bool,
}

type Call<'a> = BoxFuture<'a, (u32, Result<Opened<'a>, Failure>)>;

impl<'a> Race<'a> {
    /// `first`: what the first of them asks.
    pub(crate) fn new(hedge: Option<&'a Hedge>, at: &'a At<'a>, first: Ask) -> Self {
        Race { hedge, at, first, made: 0, hedged: false }
    }

    /// Whether a second call was begun beside a slow one.
    pub(super) const fn hedged(&self) -> bool {
        self.hedged
    }

    /// Calls that were made.
    pub(super) const fn made(&self) -> u32 {
        self.made
    }

    /// Whether another call may be made.
    pub(super) fn more(&self) -> bool {
        self.made <= self.hedge.map_or(0, |h| h.max) && !self.at.host.is_exhausted()
    }

    /// The answer that begins first, and which call it came of, from 1. The others are dropped: what they have
    /// cost stays on the bill. Asked for again, another call takes the place of one that was lost.
    ///
    /// A failure ends the race only where no other call is under way: it never begins one.
    pub(crate) async fn winner(&mut self) -> Result<(u32, Opened<'a>), Failure> {
        let mut racing = Together::new();
        racing.push(self.call(Purpose::Retry));
        let mut pause = self.pause();
        let mut failure: Option<Failure> = None;
        loop {
            let hedge = async {
                match &mut pause {
                    Some(p) => p.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((attempt, result)) = racing.next() => match result {
                    Ok(opened) => return Ok((attempt, opened)),
                    Err(e) => {
                        // What stood against the first call tells more than why it was not hedged.
                        if attempt == 1 || failure.is_none() {
                            failure = Some(e);
                        }
                        if racing.is_empty() {
                            return Err(failure.unwrap_or(Failure::Deadline));
                        }
                    }
                },
                () = hedge => {
                    pause = None;
                    if self.more() {
                        self.hedged = true;
                        racing.push(self.call(Purpose::Hedge));
                        pause = self.pause();
                    }
                }
            }
        }
    }

    /// The next call.
    fn call(&mut self, purpose: Purpose) -> Call<'a> {
        let first = self.made == 0;
        self.made = self.made.saturating_add(1);
        let mut ask = self.first.clone();
        ask.stream |= self.hedge.is_some_and(|h| h.first_content);
        if !first {
            // Each is paid for by itself, from the same budget.
            ask.budget = self.at.budget_of_call();
            ask.id.attempt = self.made;
            ask.purpose = purpose;
            match self.hedge.map(|h| &h.to) {
                Some(To::Same) => {}
                Some(To::Route(r)) => (ask.route, ask.primary) = (r.clone(), false),
                Some(To::Next) | None => ask.skip = self.made.saturating_sub(1),
            }
        }
        let (at, attempt) = (self.at, self.made);
        Box::pin(async move { (attempt, at.open(ask).await) })
    }

    /// Until the next call gets its turn; `None` where there is none.
    fn pause(&self) -> Option<BoxFuture<'a, ()>> {
        let hedge = self.hedge.filter(|_| self.more())?;
        let (at, sample) = (self.at, self.first.id.index);
        let moment = Moment { frame: &at.path, what: "hedge", index: sample, attempt: self.made };
        let mut ask = self.first.clone();
        ask.stream |= hedge.first_content;
        let until = at.host.world.now(&moment) + hedge.patience(at, &ask);
        let id = EffectId::new(&at.path, EffectKind::Wait, FIRST_WAIT.saturating_add(sample), self.made);
        Some(at.host.world.wait(id, until))
    }
}

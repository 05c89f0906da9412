//! The limits of a test: what its run is given beside what the workflow allows itself.

use std::time::Duration;
use types::Usd;
use types::doc::{Fields, Node, Reader};
use workflows::{Limits, OnExhausted};

/// Limits of a test; `None`: the workflow's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ceilings {
    /// What is left to the request.
    pub(super) usd: Option<Usd>,
    wall: Option<Duration>,
    tokens: Option<u32>,
    calls: Option<u32>,
    node_runs: Option<u32>,
    parallel: Option<u32>,
    finish_reserve: Option<Duration>,
    on_exhausted: Option<OnExhausted>,
}

impl Ceilings {
    /// Reads the `limits` of a test, which has the keys of a workflow's.
    pub(super) fn lower(r: &mut Reader<'_>, n: &Node) -> Self {
        let Some(mut f) = r.fields(n, "limits") else { return Ceilings::default() };
        let all = Ceilings {
            usd: f.take("usd").and_then(|n| r.usd(n, "limits.usd")),
            wall: f.take("wall").and_then(|n| r.duration(n, "limits.wall")),
            tokens: count(r, &mut f, "tokens", 5_000_000),
            calls: count(r, &mut f, "calls", 500),
            node_runs: count(r, &mut f, "node_runs", 2_000),
            parallel: count(r, &mut f, "parallel", 64),
            finish_reserve: f.take("finish_reserve").and_then(|n| r.duration(n, "limits.finish_reserve")),
            on_exhausted: f.take("on_exhausted").and_then(|n| on_exhausted(r, n)),
        };
        f.finish(r);
        all
    }

    /// These and a workflow's own: of two ceilings the lower one holds, as where a request brings its own.
    pub(super) fn with(&self, own: &Limits) -> Limits {
        let least = |given: Option<u32>, own: u32| given.map_or(own, |n| n.min(own));
        Limits {
            usd: own.usd,
            wall: [self.wall, own.wall].into_iter().flatten().min(),
            tokens: own.at_most(self.tokens),
            calls: least(self.calls, own.calls),
            node_runs: least(self.node_runs, own.node_runs),
            parallel: least(self.parallel, own.parallel),
            finish_reserve: self.finish_reserve.or(own.finish_reserve),
            on_exhausted: self.on_exhausted.unwrap_or(own.on_exhausted),
        }
    }
}

fn count(r: &mut Reader<'_>, f: &mut Fields<'_>, key: &'static str, most: i64) -> Option<u32> {
    let n = f.take(key)?;
    r.integer(n, &f.at(key), 1, most).and_then(|i| u32::try_from(i).ok())
}

fn on_exhausted(r: &mut Reader<'_>, n: &Node) -> Option<OnExhausted> {
    Some(match r.one_of(n, "limits.on_exhausted", &["best_so_far", "fail"])? {
        "fail" => OnExhausted::Fail,
        _ => OnExhausted::BestSoFar,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_two_ceilings_holds() {
        let own = Limits { wall: Some(Duration::from_secs(20)), calls: 4, ..Limits::default() };
        let check = |given: Ceilings, want: Limits| assert_eq!(given.with(&own), want, "{given:?}");
        check(Ceilings::default(), own.clone());
        let less = Ceilings { calls: Some(2), wall: Some(Duration::from_secs(5)), ..Ceilings::default() };
        check(less, Limits { calls: 2, wall: Some(Duration::from_secs(5)), ..own.clone() });
        let more = Ceilings { calls: Some(40), wall: Some(Duration::from_secs(60)), ..Ceilings::default() };
        check(more, own.clone());
        let fail = Ceilings { on_exhausted: Some(OnExhausted::Fail), ..Ceilings::default() };
        check(fail, Limits { on_exhausted: OnExhausted::Fail, ..own.clone() });
    }
}

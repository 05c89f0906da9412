//! How often and after which pauses something that failed is tried again.

use crate::canonical::unusual;
use crate::load::Cx;
use serde::Serialize;
use serde_json::Value as Json;
use std::time::Duration;
use types::doc::Node;
use types::provider::ErrorKind;

/// How something that failed is tried again. Failed checks are never a reason: they are a repair's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retry {
    /// Attempts in all, the first included, 1..=5. `None`: as many as is usual for what is done.
    pub max_attempts: Option<u32>,
    /// Pause before the second attempt. Default 250 ms.
    pub initial: Duration,
    /// Each further pause is so many times as long. Default 2.
    pub factor: f64,
    /// Longest pause. Default 5 s.
    pub max: Duration,
    /// A pause is drawn between nothing and its full length. Default true.
    pub jitter: bool,
    /// Only failures of these codes; empty: all that may pass by themselves.
    pub codes: Vec<String>,
    /// Another model may serve the next attempt. Default true.
    pub reroute: bool,
    /// A pause that a provider asks for is kept. Default true.
    pub respect_retry_after: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            max_attempts: None,
            initial: Duration::from_millis(250),
            factor: 2.0,
            max: Duration::from_secs(5),
            jitter: true,
            codes: Vec::new(),
            reroute: true,
            respect_retry_after: true,
        }
    }
}

/// Codes of failures that files may name: those of vendors, and a check or tool that could not be asked.
fn codes() -> Vec<&'static str> {
    ErrorKind::RETRY_NAMES.into_iter().chain(["error"]).collect()
}

impl Retry {
    /// Reads the `retry` of a node.
    pub(crate) fn lower(cx: &mut Cx<'_>, node: &Node, path: &str) -> Option<Retry> {
        let mut retry = Retry::default();
        let mut f = cx.r.fields(node, path)?;
        retry.max_attempts = f
            .take("max_attempts")
            .and_then(|n| cx.r.integer(n, &f.at("max_attempts"), 1, 5))
            .and_then(|n| u32::try_from(n).ok());
        if let Some(mut b) = f.take("backoff").and_then(|n| cx.r.fields(n, &f.at("backoff"))) {
            if let Some(d) = b.take("initial").and_then(|n| cx.r.duration(n, &b.at("initial"))) {
                retry.initial = d;
            }
            if let Some(x) = b.take("factor").and_then(|n| cx.r.number(n, &b.at("factor"), 1.0, 10.0)) {
                retry.factor = x;
            }
            if let Some(d) = b.take("max").and_then(|n| cx.r.duration(n, &b.at("max"))) {
                retry.max = d;
            }
            if let Some(s) = b.take("jitter").and_then(|n| cx.r.one_of(n, &b.at("jitter"), &["full", "none"]))
            {
                retry.jitter = s == "full";
            }
            b.finish(&mut cx.r);
        }
        if let Some(n) = f.take("codes") {
            let (at, known) = (f.at("codes"), codes());
            let list = cx.r.list(n, &at).unwrap_or(&[]);
            retry.codes =
                list.iter().filter_map(|n| cx.r.one_of(n, &at, &known)).map(str::to_owned).collect();
        }
        let mut flag = |key: &'static str, slot: &mut bool| {
            if let Some(b) = f.take(key).and_then(|n| cx.r.boolean(n, &f.at(key))) {
                *slot = b;
            }
        };
        flag("reroute", &mut retry.reroute);
        flag("respect_retry_after", &mut retry.respect_retry_after);
        f.finish(&mut cx.r);
        Some(retry)
    }

    /// For the hash of the plan.
    pub(crate) fn canonical(&self) -> Json {
        unusual(self)
    }

    /// Whether a failure of that code may be tried again.
    #[must_use]
    pub fn covers(&self, code: &str) -> bool {
        self.codes.is_empty() || self.codes.iter().any(|c| c == code)
    }

    /// The pause after so many attempts; `draw`, 0..=1, is where in its length it ends.
    #[must_use]
    pub fn pause(&self, attempts: u32, draw: f64) -> Duration {
        let steps = i32::try_from(attempts.saturating_sub(1).min(30)).unwrap_or(30);
        let full = self.initial.as_secs_f64() * self.factor.powi(steps);
        let full = Duration::try_from_secs_f64(full).unwrap_or(self.max).min(self.max);
        if self.jitter { full.mul_f64(draw.clamp(0.0, 1.0)) } else { full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_bound() {
        let r = Retry { jitter: false, ..Retry::default() };
        let ms: Vec<u128> = (1..8).map(|n| r.pause(n, 0.5).as_millis()).collect();
        assert_eq!(ms, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(Retry::default().pause(3, 0.5).as_millis(), 500);
        assert!(r.covers("timeout") && !Retry { codes: vec!["error".into()], ..r }.covers("timeout"));
    }
}

//! Settings of the engine itself; what the operator decides per request stands in `routing_rules.yaml`.

use std::time::Duration;
use types::options::Mode;

/// Settings of the engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Requests in flight at once; more wait. Default 1 024.
    pub max_inflight: usize,
    /// Requests that may wait for a place; more are refused. Default 1 024.
    pub queue: usize,
    /// Longest wait for a place. Default 2 s.
    pub queue_wait: Duration,
    /// Time for a request that is not streamed and whose workflow names none; clients and policies may ask for less.
    /// Default 120 s.
    pub default_deadline: Duration,
    /// In its place, at most, for one whose client says how long it waits: to be paid for an answer and to hand it out is
    /// better than to be asked again. Default 600 s, as long as the SDKs of vendors wait.
    pub client_deadline: Duration,
    /// Likewise for one that is streamed: what flows is bounded by the times between its events before. Default 600 s,
    /// as long as the SDKs of vendors wait.
    pub stream_deadline: Duration,
    /// Seed of every draw; `None` = from the system's entropy.
    pub seed: Option<u64>,
    /// Which price tiers may be candidates where the request does not say. Default auto.
    pub mode: Mode,
    /// Retries of one call.
    pub retry: Retry,
    /// When a model is kept out.
    pub breaker: Breaker,
    /// How long a request waits where a limit is reached only by what requests in work have set aside. Default 10 s.
    pub patience: Duration,
    /// What runs beside live ones (`shadow`) may cost a day, in USD, 0..; the operator's money. Default 1.
    pub shadow_usd: f64,
}

/// Retries of one call.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Calls of the same model for one answer, the first included. Default 2.
    pub max_attempts: u32,
    /// Models tried for one answer, without those that cannot be connected to. Default 4.
    pub max_candidates: usize,
    /// First wait. Default 250 ms, doubled each time, full jitter.
    pub backoff: Duration,
    /// Longest wait. Default 5 s.
    pub backoff_max: Duration,
    /// Retries of all requests at one provider within ten seconds: at most this share of its first calls, above 0.
    /// Default 0.1.
    pub budget: f64,
    /// So many retries a second of one provider have room whatever the share. Default 3.
    pub budget_per_second: u32,
    /// Share of the remaining time that one model may take for an answer that comes whole, as long as another one could
    /// be asked; more where its answers are known to take longer. 0..=1, 1 = all of it. Default 0.5.
    pub time_share: f64,
    /// Most that this share may come to, unless it is all of the time. Default 2 min.
    pub share_max: Duration,
    /// Hedges of all requests within ten seconds: at most this share of first calls, above 0, and ten beside. Default 0.05.
    pub hedges: f64,
}

/// When a model is kept out.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// Window in which failures are counted. Default 10 s.
    pub window: Duration,
    /// Calls in the window below which the share does not count. Default 20.
    pub min_calls: u32,
    /// Share of failures that opens it. Default 0.5.
    pub failure_share: f64,
    /// Failures in a row that open it. Default 5.
    pub consecutive: u32,
    /// First time out. Default 1 s, doubled each time.
    pub open: Duration,
    /// Longest time out. Default 30 s.
    pub open_max: Duration,
}

impl Config {
    /// Longest time of a request, streamed or not, whose workflow names none. `waits`: how long its client says that it
    /// waits for a whole answer.
    #[must_use]
    pub fn usual_deadline(&self, streamed: bool, waits: Option<Duration>) -> Duration {
        match waits {
            _ if streamed => self.stream_deadline,
            Some(waits) => waits.min(self.client_deadline),
            None => self.default_deadline,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_inflight: 1_024,
            queue: 1_024,
            queue_wait: Duration::from_secs(2),
            default_deadline: Duration::from_secs(120),
            client_deadline: Duration::from_secs(600),
            stream_deadline: Duration::from_secs(600),
            seed: None,
            mode: Mode::Auto,
            retry: Retry::default(),
            breaker: Breaker::default(),
            patience: Duration::from_secs(10),
            shadow_usd: 1.0,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            max_attempts: 2,
            max_candidates: 4,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(5),
            budget: 0.1,
            budget_per_second: 3,
            time_share: 0.5,
            share_max: Duration::from_secs(120),
            hedges: 0.05,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            window: Duration::from_secs(10),
            min_calls: 20,
            failure_share: 0.5,
            consecutive: 5,
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
        }
    }
}

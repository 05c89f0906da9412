//! Candidates as a run keeps them: by the names of models, which outlive a configuration.

use super::{Candidates, Estimated};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::directives::Pools;
use types::matrix::{Matrix, ModelIx};
use workflows::Estimate;

/// The models a request may use, written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Written {
    primary: Vec<String>,
    eligible: Vec<One>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct One {
    model: String,
    tier: u8,
    cost_known: bool,
    p95_ttft_ms: f64,
    success: f64,
    cost_usd: f64,
    ttft_ms: f64,
    total_ms: f64,
}

impl Written {
    /// Leaves out what may not be used; false = nothing is left of what was there.
    pub(crate) fn retain(&mut self, may: impl Fn(&str) -> bool) -> bool {
        let before = self.eligible.len();
        self.primary.retain(|model| may(model));
        self.eligible.retain(|one| may(&one.model));
        before == 0 || !self.eligible.is_empty()
    }
}

impl Candidates {
    /// Writes them down.
    pub(crate) fn write(&self, matrix: &Matrix) -> Written {
        let name = |ix: ModelIx| matrix.model(ix).map(|m| m.id.to_string());
        let one = |e: &Estimated| {
            Some(One {
                model: name(e.ix)?,
                tier: e.tier,
                cost_known: e.cost_known,
                p95_ttft_ms: e.p95_ttft_ms,
                success: e.estimate.success,
                cost_usd: e.estimate.cost_usd,
                ttft_ms: e.estimate.ttft_ms,
                total_ms: e.estimate.total_ms,
            })
        };
        Written {
            primary: self.primary.iter().filter_map(|ix| name(*ix)).collect(),
            eligible: self.eligible.iter().filter_map(one).collect(),
        }
    }

    /// Reads what was written; models that are gone since are left out.
    pub(crate) fn read(written: &Written, matrix: &Matrix, pools: Arc<Pools>) -> Self {
        let one = |o: &One| {
            Some(Estimated {
                ix: matrix.find(&o.model)?,
                tier: o.tier,
                cost_known: o.cost_known,
                p95_ttft_ms: o.p95_ttft_ms,
                estimate: Estimate {
                    success: o.success,
                    cost_usd: o.cost_usd,
                    ttft_ms: o.ttft_ms,
                    total_ms: o.total_ms,
                },
            })
        };
        Candidates {
            primary: written.primary.iter().filter_map(|m| matrix.find(m)).collect(),
            eligible: written.eligible.iter().filter_map(one).collect(),
            away: Vec::new(),
            pools,
        }
    }
}

//! What policies say in the place of what nodes do.

use serde::{Deserialize, Serialize};
use types::directives::{HedgeRule, RepairRule};
use types::repair::Strategy;

/// What policies say in the place of what nodes do. The limits of the workflow hold all the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    /// Samples of the workflow's own primary `generate` node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fanout: Option<u32>,
    /// Most samples of any `generate` node, those of workflows that are called included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_fanout: Option<u32>,
    /// Further calls of the workflow's own primary `generate` node beside slow ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<HedgeRule>,
    /// Bounds of every repair node, those of workflows that are called included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairRule>,
}

impl Overrides {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Overrides::default()
    }

    /// Most attempts of a repair node whose file allows so many.
    pub(crate) fn attempts(&self, own: u32) -> u32 {
        let most = self.repair.as_ref().and_then(|r| r.max_attempts);
        most.map_or(own, |most| most.min(own))
    }

    /// Whether repair nodes may try a strategy.
    pub(crate) fn repairs_by(&self, strategy: Strategy) -> bool {
        self.repair.as_ref().is_none_or(|r| r.allows(strategy))
    }
}

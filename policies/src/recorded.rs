//! What of the variables that rules read goes into the record of a decision: what a later comparison of rules over
//! recorded requests goes by.

use crate::expression::Vars;
use crate::inputs::{Get, ROOT, Val};
use crate::native::Path;
use crate::phase::Phase;
use crate::set::Entry;
use crate::values::to_json;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use types::axis::Axis;

/// Paths that stand elsewhere in the record of a decision, hold texts, or are large.
const NOT_RECORDED: &[&str] = &[
    "request.last_user_text",
    "request.user",
    "request.model_asked",
    "tenant.id",
    "workload.est_input_tokens",
];

/// A path that is recorded.
pub(crate) struct Recorded {
    pub(crate) name: Arc<str>,
    path: Path,
    /// What operators and clients write (labels, metadata, headers): the whole map, and how many names lead to it.
    open: Option<(Get, usize)>,
}

impl Recorded {
    fn told(path: &str) -> Option<Recorded> {
        let told = Path::told(path)?;
        let open =
            ROOT.reach(&told.names).map(|(get, rest)| (get, told.names.len().saturating_sub(rest.len())));
        Some(Recorded { name: path.into(), path: told, open })
    }

    /// The value, a member that is not there as `null`; `None` where only the engine knows.
    pub(crate) fn value(&self, vars: &Vars) -> Option<Value> {
        self.path.json(vars).or_else(|| {
            let (get, depth) = self.open?;
            let Val::Made(map) = get(vars.facts()?) else { return None };
            let mut members = self.path.names.get(depth..)?.iter();
            let value = members.try_fold(to_json(&map), |value, name| value.get(&**name).cloned());
            Some(value.unwrap_or_default())
        })
    }
}

/// What the rules and policies of the phase `request` have recorded with a decision.
pub(crate) struct Recordings {
    /// For tenants without any of their own.
    platform: Arc<[Recorded]>,
    tenants: BTreeMap<Arc<str>, Arc<[Recorded]>>,
}

impl Recordings {
    /// What these have recorded.
    pub(crate) fn of(entries: &[Entry]) -> Recordings {
        let of = |tenant: Option<&Arc<str>>| {
            let own = entries.iter().filter(|e| e.phase == Phase::Request);
            let own = own.filter(|e| e.tenant.is_none() || e.tenant.as_ref() == tenant);
            recorded(own.flat_map(Entry::reads))
        };
        let tenants: BTreeSet<&Arc<str>> = entries.iter().filter_map(|e| e.tenant.as_ref()).collect();
        let tenants = tenants.into_iter().map(|t| (Arc::clone(t), of(Some(t)))).collect();
        Recordings { platform: of(None), tenants }
    }

    /// Of the request of a tenant.
    pub(crate) fn of_tenant(&self, tenant: &str) -> &[Recorded] {
        self.tenants.get(tenant).unwrap_or(&self.platform)
    }
}

/// What is recorded of these paths.
fn recorded<'a>(paths: impl Iterator<Item = &'a str>) -> Arc<[Recorded]> {
    let paths: BTreeSet<&str> = paths.collect();
    let axis = |p: &str| Axis::ALL.iter().any(|a| p == format!("workload.{}", a.as_str()));
    let elsewhere = |p: &str| {
        NOT_RECORDED.contains(&p)
            || axis(p)
            || ["workload.axis_confidence.", "provider("].iter().any(|start| p.starts_with(start))
    };
    // Of a map that is recorded whole no member is once more.
    let within = |p: &str| p.match_indices('.').any(|(at, _)| p.get(..at).is_some_and(|p| paths.contains(p)));
    let own = paths.iter().filter(|p| !elsewhere(p) && !within(p));
    own.filter_map(|p| Recorded::told(p)).collect()
}

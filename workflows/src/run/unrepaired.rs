//! The repairs of a run that nobody has answered, each where it stands: what goes wrong in one body is not told of another.

use crate::world::Failure;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the latest question of each repair failed, by its path; only of those that nobody has answered since.
#[derive(Debug, Default)]
pub(crate) struct Unrepaired(Mutex<BTreeMap<Arc<str>, Failure>>);

impl Unrepaired {
    /// Notes how the latest question of a repair went: nobody answered it, or somebody did.
    pub(crate) fn came_to(&self, path: &Arc<str>, failure: Option<Failure>) {
        match failure {
            Some(failure) => self.lock().insert(path.clone(), failure),
            None => self.lock().remove(path),
        };
    }

    /// Forgets those within a node that begins anew: what an earlier iteration came to is not how it ends.
    pub(crate) fn forget(&self, node: &str) {
        self.lock().retain(|path, _| !path.strip_prefix(node).is_some_and(|rest| rest.starts_with('[')));
    }

    /// How the first of those failed that stand in a graph instance or within it, whichever ended first.
    pub(super) fn within(&self, prefix: &str) -> Option<Failure> {
        self.lock().iter().find(|(path, _)| path.starts_with(prefix)).map(|(_, failure)| failure.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Failure>> {
        // Every write leaves the map consistent, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_graph_instance_tells_of_its_own_repairs() {
        let all = Unrepaired::default();
        let failed = |why: &str| Some(Failure::nobody(why));
        let told = |prefix: &str| match all.within(prefix)? {
            Failure::NoCandidate { why, .. } => Some(why),
            _ => None,
        };
        for path in ["m[10]/fix", "m[1]/fix", "m[2]/in/fix"] {
            all.came_to(&path.into(), failed(path));
        }
        all.came_to(&"m[3]/fix".into(), None);
        assert_eq!(told("m[1]/").as_deref(), Some("m[1]/fix"));
        assert_eq!(told("m[2]/").as_deref(), Some("m[2]/in/fix"));
        assert_eq!(told("m[3]/"), None);
        all.came_to(&"m[1]/fix".into(), None);
        assert_eq!(told("m[1]/"), None);
        assert_eq!(told("").as_deref(), Some("m[10]/fix"));
        all.forget("m");
        assert_eq!(told(""), None);
    }
}

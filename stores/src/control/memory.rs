//! The control plane's objects in memory, for tests and for runs without a data directory.

use super::matches;
use crate::lock;
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use std::collections::BTreeMap;
use std::sync::Mutex;
use types::control::{ControlStore, Error, Object};

/// Forgets everything when the process ends.
#[derive(Debug, Default)]
pub struct ControlMemory(Mutex<BTreeMap<(String, String), Object>>);

impl ControlMemory {
    fn write(&self, objects: Vec<Object>) -> Result<Vec<Object>, Error> {
        let mut all = lock(&self.0);
        let id = |o: &Object| (o.kind.clone(), o.id.clone());
        for o in &objects {
            matches(o, o.version, all.get(&id(o)).map_or(0, |old| old.version))?;
        }
        Ok(objects
            .into_iter()
            .map(|mut o| {
                o.version = o.version.saturating_add(1);
                all.insert(id(&o), o.clone());
                o
            })
            .collect())
    }
}

impl ControlStore for ControlMemory {
    fn all(&self, kind: &str) -> BoxFuture<'_, Result<Vec<Object>, Error>> {
        let found = lock(&self.0).values().filter(|o| o.kind == kind).cloned().collect();
        ready(Ok(found)).boxed()
    }

    fn one(&self, kind: &str, id: &str) -> BoxFuture<'_, Result<Option<Object>, Error>> {
        let found = lock(&self.0).get(&(kind.to_owned(), id.to_owned())).cloned();
        ready(Ok(found)).boxed()
    }

    fn put(&self, objects: Vec<Object>) -> BoxFuture<'_, Result<Vec<Object>, Error>> {
        ready(self.write(objects)).boxed()
    }

    fn remove(&self, kind: &str, id: &str, version: u64) -> BoxFuture<'_, Result<(), Error>> {
        let mut all = lock(&self.0);
        let at = (kind.to_owned(), id.to_owned());
        let Some(old) = all.get(&at) else { return ready(Ok(())).boxed() };
        let fits = matches(old, version, old.version);
        if fits.is_ok() {
            all.remove(&at);
        }
        ready(fits).boxed()
    }
}

//! What a server starts on: a configuration without errors, and the bundle that is in force first.

use super::{Error, Settings};
use crate::bundles::{Bundles, Found};
use crate::config::server::Server;
use crate::config::{self, Loaded, Source, Texts};
use crate::control::plane::Plane;
use std::sync::Arc;
use types::{Diagnostic, Severity};

/// A configuration without errors.
pub(super) struct Good {
    pub(super) server: Server,
    pub(super) bundle: engine::Bundle,
    pub(super) files: Texts,
    pub(super) warnings: Vec<Diagnostic>,
}

/// A configuration without errors, or all of its problems.
pub(super) fn checked(loaded: Loaded) -> Result<Good, Error> {
    let report = loaded.report(false);
    let Loaded { server, bundle, problems, files, .. } = loaded;
    match bundle {
        Some(bundle) => {
            let warnings = problems.into_iter().filter(|d| d.severity == Severity::Warning).collect();
            Ok(Good { server, bundle, files, warnings })
        }
        None => Err(Error::Configuration { problems, report }),
    }
}

/// The bundles that are kept, and the one to begin with: the folder's, or the one that was in force through the
/// control API when the server ended.
pub(super) async fn open_bundles(
    settings: &Settings,
    plane: &Plane,
    good: engine::Bundle,
    found: Found,
) -> Result<(Bundles, Arc<engine::Bundle>), Error> {
    let bundles = Bundles::open(plane.store.clone(), found).await.map_err(Error::Control)?;
    let Some(entry) = bundles.remembered() else { return Ok((bundles, Arc::new(good))) };
    let (mut sources, problems) = Source::kept(&entry.files).read();
    sources.settings = settings.source.read().0.settings;
    let read = (sources, problems);
    let loaded = config::load_to_serve(read, &settings.environment, settings.simulated, None);
    match checked(loaded) {
        Ok(Good { bundle, .. }) => {
            tracing::info!(bundle = &*entry.hash, by = entry.by, "the bundle that was in force goes on");
            let bundle = bundle.named(entry.hash);
            Ok((bundles, Arc::new(bundle)))
        }
        Err(e) => {
            tracing::error!(bundle = &*entry.hash, "the bundle that was in force cannot go on: {e}");
            bundles.forget_remembered().await.map_err(Error::Control)?;
            Ok((bundles, Arc::new(good)))
        }
    }
}

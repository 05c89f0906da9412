//! Who answers calls: the fleet over the matrix, with the keys of the environment and the stored ones.

use super::Settings;
use crate::config::{Environment, Simulated};
use crate::control::plane::StoredKey;
use crate::control::secret::{OF_FILE, read_private};
use std::path::Path;
use std::sync::Arc;
use types::limits::LimitStore;
use types::matrix::{Availability, Dialect, Matrix, ModelIx, Provider};
use types::provider::ChatProvider;

/// Who answers calls, and which models can be called.
pub(super) struct Reach {
    pub(super) provider: Arc<dyn ChatProvider>,
    pub(super) availability: Vec<Availability>,
    pub(super) fleet: Option<Arc<providers::Fleet>>,
}

/// What the fleet goes on from.
pub(super) enum Before<'a> {
    /// One before it.
    Fleet(&'a providers::Fleet),
    /// Nothing; this counts what keys with limits of their own use.
    Nothing(Arc<dyn LimitStore>),
}

pub(super) fn reach(
    matrix: &Arc<Matrix>,
    settings: &Settings,
    upstream: providers::Config,
    before: Before<'_>,
    stored: &[StoredKey],
) -> Reach {
    if let Some(provider) = &settings.provider {
        let enabled = |ix| {
            let (model, provider) = (matrix.model(ix), matrix.provider_of(ix));
            model.is_some_and(|m| m.enabled) && provider.is_some_and(|p| p.enabled)
        };
        let state = |ix| if enabled(ix) { Availability::Ready } else { Availability::Disabled };
        let availability = matrix.indices().map(state).collect();
        return Reach { provider: provider.clone(), availability, fleet: None };
    }
    let env = |name: &str| match name.strip_prefix(STORED) {
        Some(id) => stored.iter().find(|k| k.id == id).map(|k| k.text.to_string()),
        None => settings.environment.get(name).or_else(|| of_file(&settings.environment, name)),
    };
    let keyed = with_stored(matrix, stored);
    let fleet = Arc::new(match before {
        Before::Fleet(old) => old.reload(keyed, &env),
        Before::Nothing(store) => {
            let whose = Arc::from(engine::OPERATOR);
            providers::Fleet::counted(keyed, &env, upstream, Some(providers::Counting { store, whose }))
        }
    });
    let only = settings.simulated == Simulated::Only;
    let state = |ix| match fleet.availability(ix) {
        // What the configuration says of it does not matter here.
        Availability::Disabled if only && !is_simulated(matrix, ix) => {
            Availability::Unusable(SIMULATED_ONLY.to_owned())
        }
        state => state,
    };
    let availability = matrix.indices().map(state).collect();
    Reach { provider: fleet.clone(), availability, fleet: Some(fleet) }
}

/// Why others than simulated models are switched off.
const SIMULATED_ONLY: &str = "this server runs with simulated models only";

fn is_simulated(matrix: &Matrix, ix: ModelIx) -> bool {
    matrix.provider_of(ix).is_some_and(|p| p.dialect == Dialect::Simulated)
}

/// The name of a stored key where the name of a variable is meant.
pub(crate) fn stored_name(id: &str) -> String {
    format!("{STORED}{id}")
}

/// What a file holds that a variable of this name and `_FILE` names, where the variable itself is not set: keys that are
/// mounted as files need no shell that puts them into the environment. Only the environment names files: a bundle must not
/// have one sent to a vendor.
fn of_file(environment: &Environment, name: &str) -> Option<String> {
    let path = environment.get(&format!("{name}{OF_FILE}"))?;
    let text = read_private(Path::new(&path));
    let text = text
        .inspect_err(|error| tracing::error!(%error, path, "the file that {name}{OF_FILE} names is no key"));
    text.ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Names a stored key where the name of a variable is meant; no variable is called so.
const STORED: &str = "stored key ";

/// The matrix with the stored keys beside those of the environment.
fn with_stored(matrix: &Arc<Matrix>, stored: &[StoredKey]) -> Arc<Matrix> {
    if stored.is_empty() {
        return matrix.clone();
    }
    let with = |p: &Arc<Provider>| {
        let mut p = (**p).clone();
        let own = stored.iter().filter(|k| k.provider == p.id);
        p.api_key_env.extend(own.clone().map(|k| stored_name(&k.id)));
        let limited = own.filter(|k| !k.limits.is_empty());
        p.key_limits.extend(limited.map(|k| (stored_name(&k.id), k.limits.clone())));
        p
    };
    let providers = matrix.providers().iter().map(with).collect();
    Arc::new(Matrix::new(providers, matrix.models().iter().map(|m| (**m).clone()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_comes_from_a_file_that_its_owner_alone_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let of = |mode: u32, text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            of_file(&Environment::of([("K_FILE", path.to_str().unwrap())]), "K")
        };
        assert_eq!(of(0o600, "sk-abc\n").as_deref(), Some("sk-abc"));
        assert_eq!((of(0o600, " \n"), of(0o644, "sk-abc")), (None, None));
        assert_eq!(of_file(&Environment::of([("K", "sk-abc")]), "K"), None);
        assert_eq!(of_file(&Environment::of([("K_FILE", "/nowhere/at/all")]), "K"), None);
    }
}

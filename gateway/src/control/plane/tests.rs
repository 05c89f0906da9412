//! What becomes of changes where the audit trail cannot be written.

use super::*;
use crate::control::tripwire::{TripwireAction, tripwire};
use crate::control::{keys, provider_keys, tenants};
use serde::de::DeserializeOwned;
use serde_json::json;
use stores::control::ControlMemory;

fn spec<T: DeserializeOwned>(said: Value) -> T {
    serde_json::from_value(said).unwrap()
}

fn known() -> keys::Known {
    keys::Known {
        models: Vec::new(),
        pools: Vec::new(),
        selects: Box::new(|_| true),
        workflows: Vec::new(),
        default_budget: 1.0,
    }
}

async fn stored(plane: &Plane) -> Vec<Object> {
    let mut all = Vec::new();
    for kind in [directory::TENANT, directory::KEY, PROVIDER_KEY] {
        all.extend(plane.store.all(kind).await.unwrap());
    }
    all
}

#[tokio::test]
async fn nothing_changes_that_cannot_be_put_on_the_trail() {
    let data = tempfile::tempdir().unwrap();
    let (wire, _trips) = tripwire(TripwireAction::default());
    let opening = Opening {
        store: Arc::new(ControlMemory::default()),
        data: Some(data.path()),
        master: Some("a master key of more than thirty-two bytes".to_owned()),
        anchor: None,
        tripwire: Arc::new(wire),
    };
    let mut plane = Plane::open(opening).await.unwrap();
    let (actor, known) = (Actor::local(), known());
    let providers = ["lab".to_owned()];
    plane.create_tenant(&actor, spec(json!({"id": "acme"})), &known).await.unwrap();
    let key = plane.create_key(&actor, spec(json!({})), &known).await.unwrap();
    let key = key["id"].as_str().unwrap();
    let kept = spec(json!({"provider": "lab", "key": "sk-abcdefgh"}));
    let kept = plane.create_provider_key(&actor, kept, &providers).await.unwrap();
    let kept = kept["id"].as_str().unwrap();
    let lines = || std::fs::read_to_string(data.path().join("audit/admin-000001.jsonl")).unwrap();

    // What was there is sealed first.
    plane.audit = None;
    plane.audit = Some(Audit::refusing(data.path()).unwrap());
    let (before, written) = (stored(&plane).await, lines());
    let new_tenant: tenants::Spec = spec(json!({"id": "other"}));
    let new_title: tenants::Spec = spec(json!({"title": "Acme"}));
    let new_name: keys::Spec = spec(json!({"name": "web"}));
    let new_provider_key: provider_keys::Spec = spec(json!({"provider": "lab", "key": "sk-ijklmnop"}));
    let refused = [
        plane.create_tenant(&actor, new_tenant, &known).await.err(),
        plane.change_tenant(&actor, "acme", new_title, &known).await.err(),
        plane.remove_tenant(&actor, "acme").await.err(),
        plane.create_key(&actor, spec(json!({})), &known).await.err(),
        plane.change_key(&actor, key, new_name, &known).await.err(),
        plane.rotate_key(&actor, key, &keys::Rotation::default()).await.err(),
        plane.suspend_key(&actor, key).await.err(),
        plane.revoke_key(&actor, key).await.err(),
        plane.create_provider_key(&actor, new_provider_key, &providers).await.err(),
        plane.remove_provider_key(&actor, kept).await.err(),
    ];
    for (i, failure) in refused.iter().enumerate() {
        let failure = failure.as_ref().unwrap_or_else(|| panic!("the change {i} was made"));
        assert_eq!((failure.status.as_u16(), &*failure.code), (503, "audit_unavailable"), "{i}");
    }
    assert_eq!(stored(&plane).await, before);
    assert_eq!(lines(), written);
    assert!(plane.directory().tenant("other").is_none() && plane.provider_keys().len() == 1);
}

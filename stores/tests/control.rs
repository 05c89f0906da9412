//! What every keeper of the control plane's objects promises.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;
use stores::control::{Control, ControlMemory};
use types::control::{ControlStore, Error, Object};

fn object(kind: &str, id: &str, version: u64, n: i64) -> Object {
    Object {
        kind: kind.into(),
        id: id.into(),
        version,
        doc: json!({"n": n, "text": "ä\u{0}"}),
        sealed: vec![0, 255, 7],
        updated_ms: n,
    }
}

async fn holds(store: &dyn ControlStore) {
    let made = store
        .put(vec![object("key", "b", 0, 1), object("key", "a", 0, 2), object("tenant", "a", 0, 3)])
        .await;
    assert!(made.unwrap().iter().all(|o| o.version == 1));
    let all = store.all("key").await.unwrap();
    assert_eq!(all, [object("key", "a", 1, 2), object("key", "b", 1, 1)]);
    assert_eq!(store.one("key", "b").await.unwrap(), Some(object("key", "b", 1, 1)));
    assert_eq!((store.one("key", "c").await.unwrap(), store.one("other", "b").await.unwrap()), (None, None));
    // One of two changes does not fit: neither is made.
    let e = store.put(vec![object("key", "a", 1, 9), object("key", "b", 0, 9)]).await.unwrap_err();
    assert!(matches!(&e, Error::Conflict { id, expected: 0, found: 1, .. } if id == "b"), "{e}");
    assert_eq!(store.all("key").await.unwrap(), all);
    store.put(vec![object("key", "a", 1, 9)]).await.unwrap();
    assert!(store.remove("key", "a", 1).await.is_err(), "somebody changed it meanwhile");
    store.remove("key", "a", 2).await.unwrap();
    store.remove("key", "a", 2).await.unwrap();
    assert_eq!(store.all("key").await.unwrap().len(), 1);
    assert_eq!(store.all("tenant").await.unwrap().len(), 1);
}

#[tokio::test]
async fn memory_holds() {
    holds(&ControlMemory::default()).await;
}

#[tokio::test]
async fn sqlite_holds_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Control::open(dir.path()).unwrap();
    assert!(Control::open(dir.path()).is_err(), "one process at a time");
    holds(&store).await;
    drop(store);
    let again = Control::open(dir.path()).unwrap();
    assert_eq!(again.all("key").await.unwrap(), [object("key", "b", 1, 1)]);
}

//! How bundles are stored: one object each, and one that says which of them is what.

use super::book::{Book, Entry, Pointers};
use crate::clock;
use serde::Serialize;
use std::sync::Arc;
use types::control::{ControlStore, Object};

const BUNDLE: &str = "bundle";
const POINTERS: &str = "bundles";
const HERE: &str = "here";

/// Reads everything.
///
/// # Errors
/// The store is away, or what it holds cannot be read.
pub(super) async fn load(store: &dyn ControlStore) -> Result<Book, String> {
    let mut book = Book::default();
    for o in store.all(BUNDLE).await.map_err(|e| e.to_string())? {
        match serde_json::from_value::<Entry>(o.doc) {
            Ok(entry) => book.entries.push(Entry { version: o.version, ..entry }),
            // The others can be used all the same.
            Err(e) => tracing::error!(bundle = o.id, error = %e, "a kept bundle cannot be read"),
        }
    }
    book.entries.sort_by_key(|e| e.at_ms);
    for o in store.all(POINTERS).await.map_err(|e| e.to_string())? {
        let at: Pointers = serde_json::from_value(o.doc).map_err(|e| format!("bundles: {e}"))?;
        book.at = Pointers { version: o.version, ..at };
    }
    Ok(book)
}

/// Writes the pointers and these bundles, all or nothing.
///
/// # Errors
/// Nothing was written.
pub(super) async fn save(
    store: &dyn ControlStore,
    book: &mut Book,
    changed: &[Arc<str>],
) -> Result<(), String> {
    let mut objects = vec![object(POINTERS, HERE, book.at.version, &book.at)?];
    for entry in book.entries.iter().filter(|e| changed.contains(&e.hash)) {
        objects.push(object(BUNDLE, &entry.hash, entry.version, entry)?);
    }
    for o in store.put(objects).await.map_err(|e| e.to_string())? {
        if o.kind == POINTERS {
            book.at.version = o.version;
        } else if let Some(e) = book.entries.iter_mut().find(|e| *e.hash == *o.id) {
            e.version = o.version;
        }
    }
    Ok(())
}

/// Removes a bundle.
///
/// # Errors
/// It is still there.
pub(super) async fn remove(store: &dyn ControlStore, entry: &Entry) -> Result<(), String> {
    store.remove(BUNDLE, &entry.hash, entry.version).await.map_err(|e| e.to_string())
}

fn object(kind: &str, id: &str, version: u64, doc: &impl Serialize) -> Result<Object, String> {
    Ok(Object {
        kind: kind.to_owned(),
        id: id.to_owned(),
        version,
        doc: serde_json::to_value(doc).map_err(|e| e.to_string())?,
        sealed: Vec::new(),
        updated_ms: clock::unix_ms(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::{Bundles, Found};
    use crate::config::{Environment, Simulated, Source, Texts, load};
    use crate::control::audit::Event;
    use stores::control::ControlMemory;

    fn found(text: &str) -> Found {
        let files = Texts::from([("routing_rules.yaml".to_owned(), text.into())]);
        let digest = blake3::hash(text.as_bytes());
        Found { hash: text.into(), files, built_in: Vec::new(), digest, signer: None }
    }

    #[tokio::test]
    async fn what_was_in_force_before_stays_compiled_whatever_else_is() {
        let store: Arc<dyn ControlStore> = Arc::new(ControlMemory::default());
        let bundles = Bundles::open(store, found("one"), async |_| Ok(())).await.unwrap();
        let mut book = bundles.copy();
        let base = book.entries.first().cloned().unwrap();
        book.add(Entry { hash: "two".into(), version: 0, ..base });
        book.activate(&"two".into(), 1);
        bundles.commit(book, &["two".into()]).await.unwrap();
        let texts = Texts::from([("routing_rules.yaml".to_owned(), "version: 1\n".into())]);
        let compiled = |hash: &str| {
            let source = Source::kept(&texts, &[]);
            let bundle = load(&source, &Environment::default(), Simulated::AsWritten).bundle.unwrap();
            Arc::new(bundle.named(hash.into()))
        };
        for hash in ["one", "three", "four", "five", "six"] {
            bundles.keep_ready(compiled(hash));
        }
        let ready = |hash: &str| bundles.ready(hash).is_some();
        assert_eq!(["one", "three", "four", "five", "six"].map(ready), [true, false, true, true, true]);
    }

    #[tokio::test]
    async fn what_was_in_force_is_remembered() {
        let store: Arc<dyn ControlStore> = Arc::new(ControlMemory::default());
        async fn unchanged(event: Event) -> Result<(), String> {
            panic!("nothing else is in force: {event:?}")
        }
        let first = Bundles::open(store.clone(), found("one"), unchanged).await.unwrap();
        assert!(first.remembered().is_none(), "the folder is in force");
        for i in 0..30 {
            let mut book = first.copy();
            let hash: Arc<str> = format!("upload {i}").into();
            let files = Texts::from([("routing_rules.yaml".to_owned(), hash.clone())]);
            let base = book.entries.first().cloned().unwrap();
            book.add(Entry { hash: hash.clone(), files, at_ms: base.at_ms + i, version: 0, ..base });
            book.activate(&hash, i);
            first.commit(book, &[hash]).await.unwrap();
        }
        drop(first);
        assert!(store.all(BUNDLE).await.unwrap().len() <= super::super::book::KEPT);

        let second = Bundles::open(store.clone(), found("one"), unchanged).await.unwrap();
        let remembered = second.remembered().unwrap();
        assert_eq!(&*remembered.hash, "upload 29");
        assert_eq!(remembered.files.get("routing_rules.yaml").map(|t| &**t), Some("upload 29"));
        second.forget_remembered(&[]).await.unwrap();
        assert!(second.remembered().is_none());

        // What cannot be put on the trail is not done.
        let refused = async |_: Event| Err("no trail".to_owned());
        assert!(Bundles::open(store.clone(), found("two"), refused).await.is_err_and(|e| e == "no trail"));
        let told = std::sync::Mutex::new(None);
        let tell = async |event: Event| {
            *told.lock().unwrap() = Some(event);
            Ok(())
        };
        let third = Bundles::open(store, found("two"), tell).await.unwrap();
        assert!(third.remembered().is_none(), "the folder has changed: the last change wins");
        let event: Event = told.into_inner().unwrap().unwrap();
        assert_eq!((event.action, &*event.target), ("bundle.start", "two"));
        assert_eq!((event.before.as_deref(), event.after.as_deref()), (Some("one"), Some("two")));
        assert_eq!(third.book().at.previous.as_deref(), Some("one"));
    }
}

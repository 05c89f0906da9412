//! Objects of the control store: as they are kept, and as they are shown.

use crate::clock;
use crate::error::Failure;
use serde::Serialize;
use serde_json::{Value, json};
use types::control::Object;

/// What is kept of something that was made or changed now; `version` is that of what it replaces.
pub(super) fn kept(
    kind: &str,
    id: &str,
    version: u64,
    doc: &impl Serialize,
    sealed: Vec<u8>,
) -> Result<Object, Failure> {
    Ok(Object {
        kind: kind.to_owned(),
        id: id.to_owned(),
        version,
        doc: serde_json::to_value(doc).map_err(|_| Failure::internal())?,
        sealed,
        updated_ms: clock::unix_ms(),
    })
}

/// What is told of an object: all it says, with its version.
pub(super) fn shown(object: Object) -> Value {
    let mut doc = object.doc;
    if let Some(members) = doc.as_object_mut() {
        members.insert("version".to_owned(), json!(object.version));
    }
    doc
}

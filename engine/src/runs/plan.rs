//! Plans that outlive the configuration they were made under.

use crate::bundle::Bundle;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::doc::SourceFile;
use types::runs::{Error, RunStore};
use workflows::Workflow;

/// A plan as it is kept: the files it is made from, and the hash of each node.
pub(super) fn write(bundle: &Bundle, workflow: &Workflow) -> Value {
    let files: Vec<Value> = closure(&bundle.sources, &workflow.name)
        .into_iter()
        .map(|f| json!({"path": f.path, "text": &*f.text}))
        .collect();
    json!({"workflow": workflow.name, "files": files, "nodes": workflow.node_hashes()})
}

/// The files that a workflow may need: its own, and those of workflows and schemas whose names stand in one of them.
fn closure<'f>(files: &'f [SourceFile], name: &str) -> Vec<&'f SourceFile> {
    // Of two files of one name the later one counts.
    let mut latest: BTreeMap<&str, &SourceFile> = BTreeMap::new();
    for file in files {
        latest.insert(key(file), file);
    }
    let mut found: Vec<&SourceFile> = latest.get(name).copied().into_iter().collect();
    let mut seen = 0;
    while let Some(file) = found.get(seen).copied() {
        seen = seen.saturating_add(1);
        for (name, other) in &latest {
            if file.text.contains(name) && !found.iter().any(|f| key(f) == *name) {
                found.push(other);
            }
        }
    }
    found
}

/// What others name a file by: the name of a workflow, the file of a schema.
fn key(file: &SourceFile) -> &str {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    if workflows::is_schema(file) { name } else { file.stem() }
}

/// The plan of that hash: the one in force, or one made again from its files.
///
/// # Errors
/// The store failed.
pub(super) async fn find(
    store: &dyn RunStore,
    bundle: &Bundle,
    name: &str,
    hash: &str,
) -> Result<Option<Arc<Workflow>>, Error> {
    if let Some(current) = bundle.library.get(name).filter(|w| w.plan_hash == hash) {
        return Ok(Some(current.clone()));
    }
    let Some(kept) = store.plan(hash).await? else { return Ok(None) };
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let files = kept.get("files").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let files: Vec<SourceFile> =
        files.iter().map(|f| SourceFile::new(text(f, "path"), text(f, "text"))).collect();
    Ok(bundle.compile(&files, name).filter(|w| w.plan_hash == hash))
}

/// The hash of each node of a plan that is kept.
pub(super) fn nodes(kept: &Value) -> BTreeMap<String, String> {
    let nodes = kept.get("nodes").and_then(Value::as_object);
    let hash = |(id, hash): (&String, &Value)| Some((id.clone(), hash.as_str()?.to_owned()));
    nodes.into_iter().flatten().filter_map(hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_keeps_the_files_it_may_need() {
        let file = |path: &str, text: &str| SourceFile::new(path, text);
        let files = [
            file("library/outer.yaml", "old text"),
            file("library/inner.yaml", "calls deepest"),
            file("library/deepest.yaml", "-"),
            file("library/other.yaml", "-"),
            file("own/outer.yaml", "workflow: inner"),
            file("own/schemas/other.json", "{}"),
            file("own/form.yaml", "schema: file:schemas/form.json"),
            file("own/schemas/form.json", "{}"),
        ];
        let paths = |name| closure(&files, name).iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths("outer"), ["own/outer.yaml", "library/inner.yaml", "library/deepest.yaml"]);
        assert_eq!(paths("other"), ["library/other.yaml"]);
        assert_eq!(paths("form"), ["own/form.yaml", "own/schemas/form.json"]);
        assert!(paths("nobody").is_empty());
    }
}

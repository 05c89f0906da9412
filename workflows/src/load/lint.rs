//! Which node's `lint` may silence a problem: noted before its field, until the file is read.

/// Stands between a node's id and a field; no file holds it.
const MARK: char = '\0';

/// A field that a node's `lint` goes by.
pub(crate) fn tagged(id: &str, field: &str) -> String {
    format!("{id}{MARK}{field}")
}

/// The id of the node, if there is one, and the field alone.
pub(crate) fn of(field: &str) -> (Option<&str>, &str) {
    field.split_once(MARK).map_or((None, field), |(id, field)| (Some(id), field))
}

//! How much work the expressions of one file may make, counted rather than timed.

use super::Cx;
use types::doc::Node;

/// Most bytes of expressions that are compiled for one file, each expression as often as it is: once for what it says,
/// and twice for each node that it reads, to find what it takes for granted. A file as long as files may be, full of
/// expressions, makes a twentieth of it; lists and aliases that multiply an expression reach it.
pub(super) const MOST: usize = 4 << 20;
/// What each time costs besides.
pub(super) const EACH: usize = 64;

/// What has been compiled so far.
#[derive(Debug, Default)]
pub(crate) struct Work {
    bytes: usize,
    /// That it is too much has been told.
    told: bool,
}

impl Cx<'_> {
    /// Counts that an expression of `n` is to be compiled so many times. False, and an error the first time, where that
    /// is more than one file may ask for.
    pub(super) fn may_compile(&mut self, n: &Node, source: &str, times: usize, path: &str) -> bool {
        let more = source.len().saturating_add(EACH).saturating_mul(times);
        self.work.bytes = self.work.bytes.saturating_add(more);
        if self.work.bytes <= MOST {
            return true;
        }
        if !std::mem::replace(&mut self.work.told, true) {
            let what =
                format!("the file has too many expressions: to read them takes more than {MOST} bytes");
            let d = self.r.error("003", n.span, what);
            d.hint = Some(
                "split the file; an edge from and to lists has its `when` once for each pair".to_owned(),
            );
            path.clone_into(&mut d.field);
        }
        false
    }
}

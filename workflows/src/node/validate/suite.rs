//! The checks of a node, with the values of the run that they refer to.

use crate::load::Checks;
use crate::run::At;
use std::sync::Arc;
use types::{ChatRequest, Completion};
use validators::{Check, Checked, Input, Values};

/// Checks that are ready to run.
pub(crate) struct Suite<'a> {
    request: &'a ChatRequest,
    pub(crate) list: Vec<Arc<dyn Check>>,
    values: Values,
}

impl<'a> Suite<'a> {
    /// A node's own checks on values as they stand, those that policies demand included where it comes last
    /// before delivery. `at` is the node itself or one of the same graph.
    pub(crate) fn of(at: &At<'a>, own: &Checks, last: bool) -> Self {
        let extras = if last { at.host.extras.as_slice() } else { &[] };
        let value = |(path, r): &(String, crate::reference::Ref)| {
            let value = at.value(r);
            (path.clone(), value.json(&at.host.table()))
        };
        Suite {
            request: &at.host.input.request,
            list: own.list.iter().chain(extras).cloned().collect(),
            values: own.refs.iter().map(value).collect(),
        }
    }

    /// What they say of an answer.
    pub(crate) fn check(&self, completion: &Completion) -> Checked {
        let input = Input::new(completion, self.request).with_values(&self.values);
        validators::run(&self.list, &input)
    }
}

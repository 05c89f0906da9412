//! Checks of this process that have a time limit of their own: asked for like those outside, so that they hold up
//! nobody and a repetition of the run is told the same of them.

use crate::load::Timed;
use crate::world::Own;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use types::{ChatRequest, Completion, Report};
use validators::{About, Check, Input, Values};

/// What such a check is asked with, for the journal.
pub(super) fn with(t: &Timed, values: &Values) -> Json {
    json!({"with": t.params, "values": values})
}

/// The check of one answer, to be made wherever there is time for it.
pub(super) fn own(
    t: &Timed,
    completion: &Arc<Completion>,
    request: &Arc<ChatRequest>,
    values: &Arc<Values>,
) -> Own {
    let check = t.check.clone();
    let (completion, request, values) = (completion.clone(), request.clone(), values.clone());
    Own::new(move || {
        let input = Input::new(&completion, &request).with_values(&values);
        validators::one(check.as_ref(), &input)
    })
}

/// What it said, as one of the checks of the answer.
pub(super) fn said(t: &Timed, report: Report) -> Arc<dyn Check> {
    validators::keyed(Arc::new(Said { check: t.check.clone(), report }), &t.keys)
}

#[derive(Debug)]
struct Said {
    check: Arc<dyn Check>,
    report: Report,
}

impl Check for Said {
    fn about(&self) -> About {
        self.check.about()
    }

    fn structural(&self) -> bool {
        self.check.structural()
    }

    fn weight(&self) -> f64 {
        self.check.weight()
    }

    fn check(&self, _: &Input<'_>) -> Report {
        self.report.clone()
    }
}

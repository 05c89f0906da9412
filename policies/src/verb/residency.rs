//! `residency: [regions]` — a provider's region must be one of them; lists intersect.

use super::{Kind, REQUEST, Single, Verb, put};
use crate::merge::Shared;
use types::diagnostic::suggestion;
use types::matrix::ModelSet;

pub(super) const VERB: Verb = Verb {
    name: "residency",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["regions"],
    read: |r, node, field, cx| {
        let regions = r.strings(node, field)?;
        if regions.is_empty() {
            r.wrong_type(node, field, "at least one region");
            return None;
        }
        let matrix = &cx.resolver.matrix;
        let known: Vec<&str> = matrix.providers().iter().filter_map(|p| p.region.as_deref()).collect();
        // Where there is none of them at all, what that leaves is told of as a whole.
        if regions.iter().any(|region| known.contains(&region.as_str())) {
            for region in regions.iter().filter(|region| !known.contains(&region.as_str())) {
                let d = r.warning("203", node.span, format!("no provider is in the region `{region}`"));
                d.hint = Some(suggestion(region, known.iter().copied()));
                field.clone_into(&mut d.field);
            }
        }
        let elsewhere = |ix: &types::ModelIx| {
            let region = matrix.provider_of(*ix).and_then(|p| p.region.as_ref());
            // A provider that does not say where it is, is not there.
            region.is_none_or(|own| !regions.contains(own))
        };
        let gone: ModelSet = matrix.indices().filter(elsewhere).collect();
        put((Shared::of(regions), gone), |m, (regions, gone), at| {
            m.remove(at, |ix| gone.contains(ix));
            m.join(|m| &mut m.further().residency, regions, at);
        })
    },
};

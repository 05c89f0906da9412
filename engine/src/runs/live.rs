//! A repetition that calls: what is on record is given to whoever asks the same, and what is not is asked for, within
//! a budget of its own. Nothing of it becomes part of the run; what it called is on a record of its own.

use super::again::{Replay, anew};
use super::assemble::{Admitted, Manner, assemble};
use super::service::{Failure, Runs, internal, principal};
use super::state::Keep;
use super::submission::Submission;
use super::{drive, end, made, means};
use crate::error::Error;
use crate::ledger::Ledger;
use crate::limits::{Count, Held};
use crate::who::Who;
use std::sync::Arc;
use types::Usd;
use types::doc::SourceFile;

impl Runs {
    /// Repeats a run as [`Runs::replay`] does, and where that asks for what is not on record, repeats it once more with
    /// calls: of models, and of tools and checks that change nothing, for at most `usd`. Under a file that is not the
    /// workflow in force models alone are called. That is a request of `who`, on record under `record`, and teaches nobody.
    ///
    /// # Errors
    /// As for [`Runs::replay`]; a key that did not ask for the run, a limit that is reached, or too much in flight.
    pub async fn replay_live(
        &self,
        who: &Arc<Who>,
        (id, record): (&str, String),
        file: Option<SourceFile>,
        usd: Usd,
    ) -> Result<Replay, Failure> {
        let (service, tenant) = (&self.0, &who.principal.tenant.id);
        let row = self.get(tenant, id).await?;
        if row.head.principal != principal(who) {
            // Rules and scopes of another key were never asked about it.
            let text = "only the key that asked for a run may repeat it with calls; fork it instead";
            return Err(Failure::Forbidden(text.to_owned()));
        }
        let dry = self.replay(who, id, file.clone()).await?;
        if dry.would_call.is_empty() {
            return Ok(dry);
        }
        let mut entries = self.whole_journal(id).await?;
        let withheld = made::is_judged(&entries) || self.judges();
        entries.push(anew(&entries));
        let inner = &service.engine.0;
        let refused = |e: Error| Failure::Engine(Box::new(e));
        let permit = inner.gate.enter(who.principal.tenant.tier.share_of_places()).map_err(refused)?;
        let held = Held::enter(inner.limits.as_ref(), who, Count::Request).await;
        let mut held = held.map_err(refused)?;
        let view = inner.view.load_full();
        let submission: Submission =
            serde_json::from_value(row.submission).map_err(|e| internal(e.to_string()))?;
        let known = made::walkable(&row.head.id, &entries, submission.decide).map_err(refused)?;
        let Some((started, decision)) = known else {
            return Ok(dry);
        };
        let (workflow, outside) = match file {
            Some(file) => {
                let workflow = self.instead(&file)?;
                // Tools and checks outside take the operator's credentials along, and run code: what they are asked is
                // the operator's to say.
                let in_force = view.bundle.library.get(file.stem());
                let is_known = in_force.is_some_and(|w| w.plan_hash == workflow.plan_hash);
                (workflow, is_known)
            }
            None => (made::pinned(service, &view, &row.head, started).await?, true),
        };
        let mut made = made::again(&row.head, workflow, submission, started, decision)?;
        // Beside what was paid then: a model of unknown price fits under no ceiling.
        let ceiling = row.head.spent.usd.plus(usd);
        made.given.cap = Some(made.given.cap.map_or(ceiling, |cap| cap.min(ceiling)));
        let means = (Some(usd), Count::Request);
        means::take(inner, &view, who, &mut made, &mut held, means).await.map_err(refused)?;
        // What the router chose then is nobody's to learn from once more.
        made.decision.chosen = None;
        made.decision.request_id.clone_from(&record);
        let admission = made.submission.admission(&row.head.id, who.clone());
        let admitted = Admitted { admission, permit, held };
        let manner = Manner { keep: Keep::Live { outside }, usd: Some(usd), consent: None };
        let walk = assemble(service, &view, made, entries, admitted, manner);
        let (shared, mut settlement) = (walk.shared, walk.settlement);
        // It ends here, whoever leaves meanwhile, under a name of its own; what was called before is on record.
        (settlement.goes_on, settlement.before) = (false, Ledger::default());
        if let Some(decision) = &mut settlement.decision {
            decision.request_id.clone_from(&record);
        }
        let stop = drive::repeat(walk.run, &shared).await;
        shared.close();
        let cost_usd = Some(settlement.ledger.cost().0);
        let (mut result, mut divergence) = (None, dry.divergence);
        match stop {
            drive::Stop::Ended(finished) => {
                let (_, kept, _) = end::of(finished.ending, &mut settlement);
                let kept = end::comparable(&kept);
                // Rules look at no repetition.
                result = Some(if withheld { end::withheld(kept) } else { kept });
            }
            drive::Stop::Diverged(d) => divergence = divergence.or(Some(d)),
            _ => {}
        }
        let (would_call, called) = (shared.missing(), shared.called());
        Ok(Replay { divergence, would_call, called, cost_usd, record: Some(record), result, ..dry })
    }
}

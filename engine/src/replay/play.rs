//! One run over a stream: bandit feedback only, as the plan delivers it.

use super::error::Error;
use super::plan::Plan;
use super::player::{Player, Prepared, full, lessons};
use super::stage::{Exploration, Stage};
use super::table::{Row, Table};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng};
use std::collections::VecDeque;
use types::Decision;

/// A choice and what came of it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Place of the query in the table.
    pub query: usize,
    /// Place of the model that was chosen.
    pub model: usize,
    /// Probability with which it was.
    pub propensity: f64,
    /// How good the answer is, 0..=1.
    pub quality: f64,
    /// What it cost in USD; `None` = unknown.
    pub cost: Option<f64>,
    /// Reward under the λ of the run.
    pub reward: f64,
    /// Microseconds of the decision.
    pub spent_us: f64,
}

/// What a run is.
#[derive(Debug)]
pub struct Run<'a> {
    /// What is replayed.
    pub table: &'a Table,
    /// Its queries, prepared.
    pub seen: &'a [Prepared],
    /// Queries in order.
    pub stream: &'a [usize],
    /// What happens meanwhile.
    pub plan: &'a Plan,
    /// What was learned before.
    pub prior: Option<&'a [u8]>,
    /// Points of success that the reference cost is worth.
    pub lambda: f64,
    /// Of order, draws and losses.
    pub seed: u64,
    /// How it explores.
    pub exploration: Exploration,
}

impl Run<'_> {
    /// Plays it. `each` is told every decision, `step` of every query done.
    ///
    /// # Errors
    /// The prior is none, or nobody can be chosen.
    pub fn play(
        &self,
        step: &(dyn Fn() + Sync),
        mut each: impl FnMut(usize, &Decision),
    ) -> Result<Vec<Choice>, Error> {
        let table = self.table;
        let stage = Stage::new(&table.models, self.lambda, table.cost_ref, self.exploration)?;
        let mut player = Player::new(&stage, self.prior, self.seed)?;
        let mut rng = StdRng::seed_from_u64(self.seed ^ 0x5eed);
        let mut stream = self.stream.to_vec();
        if self.plan.shuffled {
            stream.shuffle(&mut rng);
        }
        let mut pending: VecDeque<Option<(usize, Decision, Row)>> = VecDeque::new();
        let mut made = Vec::with_capacity(stream.len());
        let mut told = false;
        for (i, query) in stream.iter().copied().enumerate() {
            let at = i as f64 / stream.len() as f64;
            if self.plan.told && !told && self.plan.events.iter().any(|e| at >= e.from) {
                told = true;
                for e in &self.plan.events {
                    if let Some(like) = &e.serve_as {
                        player.learner.liken(&full(&e.model), &full(like));
                    }
                }
            }
            let (Some(seen), Some(q)) = (self.seen.get(query), table.queries.get(query)) else { continue };
            let start = tokio::time::Instant::now();
            let decision = player.decide(&q.id, seen, table.available(query))?;
            let spent_us = start.elapsed().as_secs_f64() * 1e6;
            let model = decision.choice().and_then(|a| stage.place(&a.model)).ok_or(Error::NoChoice)?;
            let row = self.plan.served(table, at, query, model).ok_or(Error::Unavailable)?;
            made.push(Choice {
                query,
                model,
                propensity: decision.propensity,
                quality: row.quality,
                cost: row.cost,
                reward: table.worth(row.quality, row.cost, self.lambda),
                spent_us,
            });
            each(query, &decision);
            let lost = self.plan.lost > 0.0 && rng.random::<f64>() < self.plan.lost;
            pending.push_back((!lost).then_some((query, decision, row)));
            while pending.len() > self.plan.delay {
                if let Some((query, decision, row)) = pending.pop_front().flatten()
                    && let Some(seen) = self.seen.get(query)
                {
                    player.tell(&decision, seen, &row);
                }
            }
            step();
        }
        Ok(made)
    }
}

/// A state learned from what a table says of these queries and all their models, as [`Player::new`] takes it.
///
/// # Errors
/// As of [`Run::play`].
pub fn study(
    table: &Table,
    seen: &[Prepared],
    queries: &[usize],
    exploration: Exploration,
) -> Result<Vec<u8>, Error> {
    let stage = Stage::new(&table.models, 0.2, table.cost_ref, exploration)?;
    let mut player = Player::new(&stage, None, 0)?;
    let mut outcomes = Vec::with_capacity(queries.len().saturating_mul(table.models.len()));
    for query in queries.iter().copied() {
        let (Some(seen), Some(q)) = (seen.get(query), table.queries.get(query)) else { continue };
        let decision = player.decide(&q.id, seen, (0..table.models.len()).map(|_| true))?;
        let told = |m: usize| table.row(query, m).copied();
        outcomes.extend(lessons(&decision, seen, told, &stage));
    }
    player.learner.study(&outcomes);
    player.learner.save().map_err(Error::State)
}

#[cfg(test)]
mod tests {
    use super::super::table::tiny;
    use super::*;

    /// How many outcomes were known to each decision.
    fn known(plan: &Plan) -> Vec<u64> {
        let table = tiny(200);
        let stage = Stage::new(&table.models, 0.2, table.cost_ref, Exploration::default()).unwrap();
        let seen: Vec<Prepared> =
            table.queries.iter().map(|q| Prepared::new(&stage, q.request.clone(), &q.task)).collect();
        let stream: Vec<usize> = (0..table.queries.len()).collect();
        let (prior, exploration) = (None, Exploration::default());
        let run = Run {
            table: &table,
            seen: &seen,
            stream: &stream,
            plan,
            prior,
            lambda: 0.2,
            seed: 1,
            exploration,
        };
        let mut known = Vec::new();
        run.play(&|| {}, |_, decision| known.push(decision.statistics)).unwrap();
        known
    }

    #[test]
    fn outcomes_arrive_as_late_and_as_rarely_as_planned() {
        // What is known before any outcome is a version of the statistics, too: the first one.
        let known_of = |outcomes: u64| outcomes.max(1);
        assert_eq!(known(&Plan::default()), (0..200).map(known_of).collect::<Vec<_>>());
        let late = known(&Plan { delay: 100, ..Plan::default() });
        assert_eq!(late, (0_u64..200).map(|i| known_of(i.saturating_sub(100))).collect::<Vec<_>>());
        let few = known(&Plan { lost: 0.7, ..Plan::default() });
        // 60 of 200, give or take three deviations.
        assert!((40..=80).contains(few.last().unwrap()) && few.is_sorted(), "{few:?}");
    }
}

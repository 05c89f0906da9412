//! A whole table of outcomes, learned as a prior.

use super::Count;
use super::ease::K_SURPRISE;
use super::forest::{PAST, Past};
use super::learner::Learner;
use super::lesson::Lesson;
use super::point::Point;
use std::sync::Arc;
use types::outcome::Outcome;

impl Learner {
    /// Learns a table of outcomes as a prior: the cells are cut first, knowing all of them, then everything is
    /// counted, undiscounted. Outcomes of one request stand together.
    pub fn study(&mut self, outcomes: &[Outcome]) {
        let mut lessons = Vec::with_capacity(outcomes.len());
        let mut requests: Vec<Point> = Vec::new();
        let mut last = "";
        for o in outcomes {
            let (Some(reward), Some(model)) = (o.reward, Self::credited(o)) else { continue };
            let Some(lesson) = self.lesson(o, &model, reward.get(), 1.0) else { continue };
            if o.request_id != last {
                last = &o.request_id;
                requests.push(lesson.point);
            }
            lessons.push((o, model, lesson));
        }
        // Cells are cut with all of the table in view; what is kept afterwards is an even sample of it.
        self.past = centred(&lessons);
        for p in &requests {
            self.grow(p);
        }
        let step = self.past.len().div_ceil(PAST).max(1);
        // Each of them stands for the ones left out beside it.
        let kept = |p: Past| Past { share: (p.share * step as f32).min(1.0), ..p };
        self.past = std::mem::take(&mut self.past).into_iter().step_by(step).map(kept).collect();
        self.past_at = 0;
        self.ease.study(beyond(&lessons).into_iter());
        for (o, model, lesson) in lessons {
            self.dirty.all |= {
                let (grid, _) = self.foretell(&lesson);
                self.shrinkage.see(grid, lesson.reward)
            };
            self.count(&lesson, 1.0);
            self.learn_cost(o, &model);
            self.learn_answer(o, &model, lesson.reward, 1.0);
        }
        for m in self.models.values_mut() {
            m.forget_the_stream();
        }
        self.changes.clear();
        self.publish();
    }
}

/// What was learned of, with whom, from where.
type Taught<'a> = (&'a Outcome, Arc<str>, Lesson);

/// What each arm made of all of its outcomes.
fn means(lessons: &[Taught<'_>], of: impl Fn(&Lesson) -> f64) -> Vec<Count> {
    let mut means: Vec<Count> = Vec::new();
    for (_, _, l) in lessons {
        if means.len() <= l.arm {
            means.resize(l.arm.saturating_add(1), Count::default());
        }
        if let Some(m) = means.get_mut(l.arm) {
            m.add_amount(of(l), 1.0);
        }
    }
    means
}

/// What outcomes were beyond their priors and the means of their arms.
fn beyond<'a>(lessons: &'a [Taught<'_>]) -> Vec<(&'a Point, f64)> {
    let surprise = |l: &Lesson| l.reward - l.prior;
    let means = means(lessons, surprise);
    let usual = |l: &Lesson| means.get(l.arm).map_or(0.0, |m| m.posterior(0.0, K_SURPRISE));
    lessons.iter().map(|(_, _, l)| (&l.point, surprise(l) - usual(l))).collect()
}

/// Outcomes for cutting cells, less what all arms did on the same request beside their own means: where all of
/// them fail there is nothing to choose. Outcomes of one request stand together.
fn centred(lessons: &[Taught<'_>]) -> Vec<Past> {
    let means = means(lessons, |l| l.reward);
    let usual = |l: &Lesson| means.get(l.arm).map_or(0.5, |m| m.posterior(0.5, 0.0));
    let mut past = Vec::with_capacity(lessons.len());
    for same in lessons.chunk_by(|a, b| a.0.request_id == b.0.request_id) {
        let share = 1.0 / same.len().max(1) as f64;
        // One outcome alone says nothing of the others.
        let common = if same.len() > 1 {
            share * same.iter().map(|(_, _, l)| l.reward - usual(l)).sum::<f64>()
        } else {
            0.0
        };
        past.extend(same.iter().map(|(_, _, l)| Past {
            point: l.point,
            arm: u32::try_from(l.arm).unwrap_or(u32::MAX),
            reward: (l.reward - common) as f32,
            share: share as f32,
        }));
    }
    past
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::sample;
    use types::Features;
    use types::axis::TaskFamily;

    #[test]
    fn what_all_arms_share_on_a_request_does_not_part_them() {
        let point = Point::new(Features::default(), TaskFamily::Chat, None);
        // Both succeed, both fail, only the first succeeds; then one arm alone.
        let rewards =
            [("r1", 0, 1.0), ("r1", 1, 1.0), ("r2", 0, 0.0), ("r2", 1, 0.0), ("r3", 0, 1.0), ("r3", 1, 0.0)];
        let outcomes: Vec<Outcome> = rewards
            .iter()
            .chain(&[("r4", 0, 1.0)])
            .map(|(id, _, reward)| Outcome { request_id: (*id).into(), ..sample("w", "p/a", *reward) })
            .collect();
        let lessons: Vec<Taught<'_>> = outcomes
            .iter()
            .zip(rewards.iter().chain(&[("r4", 0, 1.0)]))
            .map(|(o, (_, arm, reward))| {
                let l = Lesson {
                    point,
                    family: TaskFamily::Chat,
                    arm: *arm,
                    prior: 0.5,
                    strength: 8.0,
                    reward: *reward,
                    weight: 1.0,
                    late: false,
                    ts_ms: 0,
                };
                (o, Arc::from("p/a"), l)
            })
            .collect();
        let past = centred(&lessons);
        let apart = |i: usize| past[i].reward - past[i + 1].reward;
        assert!((apart(0) - apart(2)).abs() < 1e-6, "succeeding alike parts them as failing alike does");
        assert!(apart(4) > apart(0) + 0.9, "what only one of them can do parts them");
        assert_eq!(past.iter().map(|p| p.share).collect::<Vec<_>>(), [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0]);
        assert_eq!(past[6].reward, 1.0, "one outcome alone says nothing of the others");
    }
}

//! A whole table of outcomes, learned as a prior.

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
        let past = |(_, _, l): &(&Outcome, Arc<str>, Lesson)| Past {
            point: l.point,
            arm: u32::try_from(l.arm).unwrap_or(u32::MAX),
            reward: l.reward as f32,
        };
        // Cells are cut with all of the table in view; what is kept afterwards is an even sample of it.
        self.past = lessons.iter().map(past).collect();
        for p in &requests {
            self.grow(p);
        }
        let step = self.past.len().div_ceil(PAST).max(1);
        self.past = std::mem::take(&mut self.past).into_iter().step_by(step).collect();
        self.past_at = 0;
        for (o, model, lesson) in lessons {
            self.dirty.all |= {
                let (grid, _) = self.foretell(&lesson);
                self.shrinkage.see(grid, lesson.reward)
            };
            self.count(&lesson, 1.0);
            self.learn_cost(o, &model);
            self.learn_answer(o, &model);
        }
        // What was counted in a row is no stream to be surprised by.
        for m in self.models.values_mut() {
            (m.cost, m.success, m.latency) = <_>::default();
        }
        self.changes.clear();
        self.publish();
    }
}

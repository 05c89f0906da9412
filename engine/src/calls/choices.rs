//! As many choices as were asked for: what comes beyond them is cut off, and fewer are told on record.

use types::adjustment::Adjustment;
use types::{Chunk, Completion};

/// The choices of one answer.
#[derive(Debug)]
pub(super) struct Choices {
    asked: usize,
    /// Indices, in the order in which they came.
    seen: Vec<u32>,
}

impl Choices {
    /// Of an answer to a request for `n` of them.
    pub(super) fn asked(n: u32) -> Self {
        Choices { asked: usize::try_from(n.max(1)).unwrap_or(usize::MAX), seen: Vec::new() }
    }

    fn takes(&mut self, index: u32) -> bool {
        let known = self.seen.contains(&index);
        let takes = known || self.seen.len() < self.asked;
        if takes && !known {
            self.seen.push(index);
        }
        takes
    }

    /// Cuts what belongs to further choices off an event; false: nothing of it is left.
    pub(super) fn cut(&mut self, chunk: &mut Chunk) -> bool {
        let came = chunk.choices.len();
        chunk.choices.retain(|delta| self.takes(delta.index));
        if chunk.choices.len() < came {
            // The vendor's own bytes hold all of them.
            chunk.raw = None;
            return !chunk.choices.is_empty() || chunk.usage.is_some();
        }
        true
    }

    /// Cuts further choices off a whole answer.
    pub(super) fn cut_whole(&mut self, completion: &mut Completion) {
        if completion.choices.len() > self.asked {
            completion.choices.truncate(self.asked);
            completion.raw = None;
        }
        self.seen = completion.choices.iter().map(|choice| choice.index).collect();
    }

    /// That fewer came than were asked for.
    pub(super) fn fewer(&self) -> Option<Adjustment> {
        (self.seen.len() < self.asked).then(|| Adjustment::changed("n", self.asked, self.seen.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::completion::{Choice, Delta};

    fn check(n: u32, came: &[u32], kept: &[u32], told: Option<Adjustment>) {
        let choice = |index: &u32| Choice { index: *index, ..Choice::default() };
        let mut whole = Completion {
            choices: came.iter().map(choice).collect(),
            raw: Some(Default::default()),
            ..Completion::default()
        };
        let mut choices = Choices::asked(n);
        choices.cut_whole(&mut whole);
        let got: Vec<u32> = whole.choices.iter().map(|c| c.index).collect();
        assert_eq!((got.as_slice(), choices.fewer()), (kept, told.clone()), "{n} {came:?}");
        assert_eq!(whole.raw.is_some(), kept.len() == came.len());
        let (mut choices, mut streamed) = (Choices::asked(n), Vec::new());
        // Each twice: the second piece belongs where the first one does.
        for index in came.iter().chain(came) {
            let delta = Delta { index: *index, ..Delta::default() };
            let mut chunk = Chunk { choices: vec![delta], ..Chunk::default() };
            if choices.cut(&mut chunk) {
                streamed.extend(chunk.choices.iter().map(|d| d.index));
            }
        }
        assert_eq!((streamed, choices.fewer()), ([kept, kept].concat(), told), "{n} {came:?}, streamed");
    }

    #[test]
    fn no_more_choices_go_out_than_were_asked_for() {
        check(1, &[0], &[0], None);
        check(1, &[0, 1], &[0], None);
        check(1, &[3], &[3], None);
        check(2, &[1, 0, 2], &[1, 0], None);
        check(2, &[0], &[0], Some(Adjustment::changed("n", 2, 1)));
        check(0, &[0], &[0], None);
    }
}

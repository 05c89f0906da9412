//! Words with which a question is opened and closed, and which are no part of it.

use crate::pieces::Piece;

/// What may stand before a question with a mark behind it: the price of Hello Kitty is another than that of Kitty.
const GREETINGS: &[&[&str]] =
    &[&["good", "morning"], &["hi", "there"], &["excuse", "me"], &["hello"], &["hey"], &["hi"]];

/// What may stand before a question. Longer ones first: the first that fits is taken.
const OPENINGS: &[&[&str]] = &[
    &["could", "you", "please", "tell", "me"],
    &["can", "you", "please", "tell", "me"],
    &["could", "you", "tell", "me"],
    &["can", "you", "tell", "me"],
    &["could", "you", "please"],
    &["would", "you", "please"],
    &["can", "you", "please"],
    &["please", "tell", "me"],
    &["tell", "me"],
    &["please"],
    &["kindly"],
];

/// What may stand behind it.
const CLOSINGS: &[&[&str]] = &[
    &["thank", "you", "very", "much"],
    &["thanks", "in", "advance"],
    &["thanks", "a", "lot"],
    &["many", "thanks"],
    &["thank", "you"],
    &["thanks"],
    &["please"],
];

/// How many words of a question's beginning and of its end are no part of it, and which they are. At least one is left.
pub(crate) fn around(pieces: &[Piece]) -> (usize, usize, Vec<&'static [&'static str]>) {
    let words: Vec<&str> = pieces.iter().map(|p| p.text.as_str()).collect();
    let (mut from, mut to) = (0_usize, words.len());
    let mut said = Vec::new();
    let parted = |at: usize| at.checked_sub(1).and_then(|i| pieces.get(i)).is_some_and(|p| p.ends.is_some());
    while let Some(found) = words.get(from..to).and_then(|rest| {
        let greets = |g: &&&[&str]| rest.starts_with(g) && parted(from.saturating_add(g.len()));
        GREETINGS.iter().find(greets).or_else(|| OPENINGS.iter().find(|o| rest.starts_with(o)))
    }) {
        from = from.saturating_add(found.len());
        said.push(*found);
    }
    while let Some(found) = CLOSINGS.iter().find(|c| words.get(from..to).is_some_and(|w| w.ends_with(c))) {
        to = to.saturating_sub(found.len());
        said.push(*found);
    }
    if from == to {
        return (0, words.len(), Vec::new());
    }
    said.sort_unstable();
    said.dedup();
    (from, to, said)
}

#[cfg(test)]
mod tests {
    use super::around;
    use crate::pieces::pieces;

    #[test]
    fn what_opens_and_closes_a_question_is_no_part_of_it() {
        for (text, left) in [
            ("hi, could you please tell me why", "why"),
            ("hello kitty price", "hello kitty price"),
            ("why thank you very much", "why"),
            ("how do you say please in french", "how do you say please in french"),
            ("hello", "hello"),
            ("hi, thanks", "hi thanks"),
        ] {
            let all = pieces(text).unwrap_or_default();
            let (from, to, _) = around(&all);
            let words: Vec<&str> = all[from..to].iter().map(|p| p.text.as_str()).collect();
            assert_eq!(words.join(" "), left, "{text}");
        }
    }
}

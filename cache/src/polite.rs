//! Words with which a question is opened and closed, and which are no part of it.

/// What may stand before a question. Longer ones first: the first that fits is taken.
const OPENINGS: &[&[&str]] = &[
    &["could", "you", "please", "tell", "me"],
    &["can", "you", "please", "tell", "me"],
    &["could", "you", "tell", "me"],
    &["can", "you", "tell", "me"],
    &["could", "you", "please"],
    &["would", "you", "please"],
    &["can", "you", "please"],
    &["good", "morning"],
    &["hi", "there"],
    &["excuse", "me"],
    &["please", "tell", "me"],
    &["tell", "me"],
    &["please"],
    &["kindly"],
    &["hello"],
    &["hey"],
    &["hi"],
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
pub(crate) fn around(words: &[&str]) -> (usize, usize, Vec<&'static [&'static str]>) {
    let (mut from, mut to) = (0_usize, words.len());
    let mut said = Vec::new();
    while let Some(found) = OPENINGS.iter().find(|o| words.get(from..to).is_some_and(|w| w.starts_with(o))) {
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

    #[test]
    fn what_opens_and_closes_a_question_is_no_part_of_it() {
        for (text, left) in [
            ("hi could you please tell me why", "why"),
            ("why thank you very much", "why"),
            ("how do you say please in french", "how do you say please in french"),
            ("hello", "hello"),
            ("hi thanks", "hi thanks"),
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            let (from, to, _) = around(&words);
            assert_eq!(words[from..to].join(" "), left, "{text}");
        }
    }
}

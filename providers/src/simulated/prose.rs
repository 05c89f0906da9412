//! Text in answer to a question: about its words, marked as simulated, as long as the work suggests.

use super::draw::Draw;
use super::{GOOD_MARK, WRONG_MARK};
use types::axis::TaskFamily;

/// Words used where the question has too few.
const STOCK: &[&str] = &["item", "result", "value", "detail", "sample", "entry", "note", "case"];

/// How sentences of filler go; `{}` is a word of the question.
const SENTENCES: &[&str] = &[
    "The main point about {} is that it depends on the rest of the question.",
    "Taking {} first keeps what follows simple.",
    "There is more than one way to look at {}, and this is the usual one.",
    "With {} settled, the remaining steps are routine.",
    "One thing that is often overlooked is {}.",
    "In short, {} matters most here.",
];

/// Longest quotation of the question, in characters.
const QUOTE: usize = 120;

/// Words to fill strings and sentences with: those of the question that carry something, then stock.
pub(super) fn words(question: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for raw in question.split_whitespace().take(400) {
        let word = raw.trim_matches(|c: char| !c.is_alphanumeric());
        if word.chars().count() > 3 && word.len() <= 40 && !words.iter().any(|w| w == word) {
            words.push(word.to_owned());
        }
        if words.len() >= 12 {
            break;
        }
    }
    words.extend(STOCK.iter().skip(words.len().min(4)).map(|w| (*w).to_owned()));
    words
}

/// The first words of the question, in one line.
pub(super) fn quote(question: &str) -> String {
    let line: Vec<&str> = question.split_whitespace().take(60).collect();
    let line = line.join(" ");
    if line.chars().count() <= QUOTE {
        return line;
    }
    format!("{}…", line.chars().take(QUOTE).collect::<String>())
}

/// An answer in prose.
pub(super) fn answer(
    question: &str,
    words: &[String],
    family: TaskFamily,
    good: bool,
    draw: &mut Draw,
) -> String {
    let mark = if good { GOOD_MARK } else { WRONG_MARK };
    let mut text = format!("{mark} You asked: \"{}\".", quote(question));
    let sentences = match family {
        TaskFamily::Chat | TaskFamily::Rag | TaskFamily::Eval => draw.between(2, 6),
        TaskFamily::Planning | TaskFamily::Coding => draw.between(5, 12),
        _ => draw.between(1, 4),
    };
    for i in 0..sentences {
        let sentence = draw.pick(SENTENCES).copied().unwrap_or_default();
        let word = draw.pick(words).map_or("it", String::as_str);
        let start =
            if family == TaskFamily::Planning { format!("\n{}. ", i.saturating_add(1)) } else { " ".into() };
        text.push_str(&start);
        text.push_str(&sentence.replace("{}", word));
    }
    if family == TaskFamily::Coding {
        let value = if good { "True" } else { "None  # wrong" };
        text.push_str(&format!("\n\n```python\ndef simulated():\n    return {value}\n```\n"));
    }
    text
}

/// What a model says that will not answer.
pub(super) fn refusal() -> String {
    "[simulated: refusal] I cannot help with that.".to_owned()
}

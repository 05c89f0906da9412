//! Words and phrases that speak for something, matched by one automaton built once.
//!
//! A cue is written in lower case; ASCII letters match either case. A leading `^` asks for the start of a line
//! (after blanks and markup), a trailing `*` lets the word go on. Otherwise both ends must be word ends, except
//! in scripts that write no spaces.

mod english;
mod form;
mod languages;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use std::sync::LazyLock;

/// What a cue speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Conversation, advice, explanation, role-play.
    Chat,
    /// Facts or labels out of given text.
    Extraction,
    /// Work on code.
    Coding,
    /// Steps, schedules, strategies.
    Planning,
    /// Tools described in the text rather than offered.
    ToolUse,
    /// An answer bound to supplied documents.
    Rag,
    /// Judging other text.
    Eval,
    /// A step in an environment.
    Agent,
    /// Mathematics.
    Math,
    /// A question for a quantity; mathematics if quantities are given, too.
    Quantity,
    /// A number or fraction in words.
    NumberWord,
    /// A literary or rhetorical form (poem, speech, letter).
    Form,
    /// A verb of composing (write, compose), of what is left open.
    Compose,
    /// A marker that starts a supplied document.
    Document,
    /// A marker of an action, thought or observation in a transcript.
    Action,
    /// Shortening of given text.
    Summarise,
    /// From one language into another.
    Translate,
    /// A factual question.
    Factual,
    /// The answer is wanted as JSON.
    Json,
    /// Reasoning is asked for.
    Deep,
    /// A short answer is asked for.
    Brief,
    /// A long answer is asked for.
    Long,
    /// A field where errors cost much: medicine, law, money, operations.
    Careful,
    /// Harm to people, abuse, weapons, private data.
    Danger,
    /// Fiction, research, history: why a grim word may be harmless.
    Harmless,
    /// Work that nobody waits for.
    Batch,
    /// The same answer each time.
    Reproducible,
    /// A change to existing code, or only code, is the answer.
    Patch,
}

impl Signal {
    /// How many there are.
    pub(crate) const COUNT: usize = Signal::Patch as usize + 1;
}

/// Cues of one signal and one weight: 0.5 weak, 1 plain, 2 strong, 3 nearly decisive.
pub(crate) type Group = (Signal, f32, &'static [&'static str]);

/// A cue as matched.
pub(crate) struct Cue {
    /// What it speaks for.
    pub(crate) signal: Signal,
    /// How loudly.
    pub(crate) weight: f32,
    /// Number of the cue; spellings of one cue share it.
    pub(crate) id: usize,
    line_start: bool,
    open_end: bool,
}

struct Lexicon {
    automaton: AhoCorasick,
    cues: Vec<Cue>,
    ids: usize,
}

static LEXICON: LazyLock<Lexicon> =
    LazyLock::new(|| build(&[english::GROUPS, form::GROUPS, languages::GROUPS]));

fn build(tables: &[&[Group]]) -> Lexicon {
    let (mut patterns, mut cues, mut ids) = (Vec::new(), Vec::new(), 0);
    for (signal, weight, words) in tables.iter().copied().flatten() {
        for word in *words {
            let (line_start, rest) = word.strip_prefix('^').map_or((false, *word), |r| (true, r));
            let (open_end, rest) = rest.strip_suffix('*').map_or((false, rest), |r| (true, r));
            for spelling in spellings(rest) {
                patterns.push(spelling);
                cues.push(Cue { signal: *signal, weight: *weight, id: ids, line_start, open_end });
            }
            ids = ids.saturating_add(1);
        }
    }
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(&patterns)
        .expect("the cue tables are far below the automaton's limits");
    Lexicon { automaton, cues, ids }
}

/// The automaton folds ASCII case only; a first letter outside ASCII is listed in both cases.
fn spellings(word: &str) -> impl Iterator<Item = String> {
    let first = word.chars().next().filter(|c| !c.is_ascii());
    let upper = first.map(|c| {
        let rest = word.get(c.len_utf8()..).unwrap_or("");
        c.to_uppercase().chain(rest.chars()).collect::<String>()
    });
    let upper = upper.filter(|u| u != word);
    std::iter::once(word.to_owned()).chain(upper)
}

/// How many cues there are: the bound of [`Cue::id`].
pub(crate) fn count() -> usize {
    LEXICON.ids
}

pub(crate) fn warm_up() {
    LazyLock::force(&LEXICON);
}

/// Calls `found` for each cue in `text` with the byte offset of its start.
pub(crate) fn find(text: &str, mut found: impl FnMut(&'static Cue, usize)) {
    let lexicon: &'static Lexicon = &LEXICON;
    let bytes = text.as_bytes();
    for m in lexicon.automaton.find_overlapping_iter(bytes) {
        let Some(cue) = lexicon.cues.get(m.pattern().as_usize()) else { continue };
        if fits(bytes, cue, m.start(), m.end()) {
            found(cue, m.start());
        }
    }
}

fn fits(bytes: &[u8], cue: &Cue, start: usize, end: usize) -> bool {
    let spaced = bytes.get(start).is_some_and(|b| *b < 0xE2);
    if cue.line_start {
        return at_line_start(bytes, start);
    }
    if !spaced {
        return true;
    }
    // A cue that begins or ends in a sign (`$`, `[`) needs no word end there.
    let inner_start = bytes.get(start).is_some_and(|b| is_word(*b));
    let inner_end = end.checked_sub(1).and_then(|i| bytes.get(i)).is_some_and(|b| is_word(*b));
    (!inner_start || !word_before(bytes, start)) && (cue.open_end || !inner_end || !word_after(bytes, end))
}

/// ASCII word characters and the lead and continuation bytes of accented letters.
const fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

fn word_before(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or(&[]);
    match before.last() {
        Some(b) if b.is_ascii() => is_word(*b),
        // The character's lead byte tells the script: Han, kana and typographic marks end a word.
        Some(_) => {
            before.iter().rev().take(4).find(|b| **b >= 0xC0).is_some_and(|lead| is_letter_lead(*lead))
        }
        None => false,
    }
}

fn word_after(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at) {
        Some(b) if b.is_ascii() => is_word(*b),
        Some(lead) => is_letter_lead(*lead),
        None => false,
    }
}

/// Two-byte letters (Latin, Greek, Cyrillic, Hebrew, Arabic) and the Indic block.
const fn is_letter_lead(b: u8) -> bool {
    b >= 0xC3 && b <= 0xE1
}

fn at_line_start(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or(&[]);
    for b in before.iter().rev().take(8) {
        match b {
            b'\n' => return true,
            b' ' | b'\t' | b'#' | b'*' | b'-' | b'>' | b'[' | b'(' | b'<' | b'"' | b'\r' => {}
            _ => return false,
        }
    }
    before.len() <= 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, signal: Signal, expected: bool) {
        let mut hit = false;
        find(text, |cue, _| hit |= cue.signal == signal);
        assert_eq!(hit, expected, "{signal:?} in {text:?}");
    }

    #[test]
    fn words_match_whole_and_in_any_case() {
        check("Write a PYTHON function", Signal::Coding, true);
        check("pythons are snakes", Signal::Coding, false);
        check("用Python写一个函数", Signal::Coding, true);
        check("Übersetze diesen Satz", Signal::Translate, true);
        check("übersetze diesen Satz", Signal::Translate, true);
        check("Напиши стихотворение", Signal::Form, true);
        check("请翻译成英文", Signal::Translate, true);
        check("", Signal::Chat, false);
    }

    #[test]
    fn line_cues_need_the_start_of_a_line() {
        check("text\n### Document 1\nmore", Signal::Document, true);
        check("read the document 1 now", Signal::Document, false);
    }

    #[test]
    fn cues_are_lower_case_and_listed_once_per_signal() {
        let mut seen = std::collections::BTreeSet::new();
        for (signal, weight, words) in
            [english::GROUPS, form::GROUPS, languages::GROUPS].into_iter().flatten()
        {
            assert!((0.1..=3.0).contains(weight));
            for word in *words {
                assert_eq!(*word, word.to_lowercase(), "cues are written in lower case");
                assert!(seen.insert((*signal as usize, *word)), "{word:?} is listed twice for {signal:?}");
            }
        }
    }
}

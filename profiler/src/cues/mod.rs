//! Words and phrases that speak for something, found along a trie of token hashes built once.
//!
//! The tables stand in `cues/*.cues`. A cue is written in lower case and matches either case. A leading `^`
//! asks for the start of a line (after blanks and markup), a trailing `*` lets the last word go on. Cues are
//! split into tokens like any text, so that words match whole, and in scripts that write no blanks anywhere.

mod table;
mod trie;

use crate::scan::Token;
use std::sync::LazyLock;
use trie::Trie;

/// What a cue speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Conversation, advice, explanation.
    Chat,
    /// A role to be played.
    Persona,
    /// Facts or labels out of given text.
    Extraction,
    /// A set of labels to choose from.
    Labels,
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
    /// A marker of the text that is judged.
    Candidate,
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
    /// A proof or derivation is asked for.
    Proof,
    /// The request says that it wants much thought.
    Ponder,
    /// Nobody is in a hurry.
    NoRush,
    /// Work of the night or in bulk.
    Overnight,
    /// Being the same; determinism if it is said of runs.
    Same,
    /// Runs, each of them.
    EachRun,
    /// The same bytes, said outright.
    Bitwise,
    /// A rough figure will do.
    About,
    /// Nothing but the exact answer will do.
    Exact,
    /// Somebody's life, health or livelihood.
    Peril,
    /// A made-up story, which may be grim.
    Fiction,
    /// Which of two things is better.
    Choice,
    /// What is judged: answers, outputs, essays.
    Judged,
    /// According to a text that is given.
    Bound,
    /// Parts that work is broken into.
    Parts,
    /// Commands and systems of a shell.
    Shell,
}

impl Signal {
    /// Every signal with the name it has in the tables, in the order of the enumeration.
    pub(crate) const ALL: [(Signal, &'static str); 47] = [
        (Signal::Chat, "chat"),
        (Signal::Persona, "persona"),
        (Signal::Extraction, "extraction"),
        (Signal::Labels, "labels"),
        (Signal::Coding, "coding"),
        (Signal::Planning, "planning"),
        (Signal::ToolUse, "tool_use"),
        (Signal::Rag, "rag"),
        (Signal::Eval, "eval"),
        (Signal::Candidate, "candidate"),
        (Signal::Agent, "agent"),
        (Signal::Math, "math"),
        (Signal::Quantity, "quantity"),
        (Signal::NumberWord, "number_word"),
        (Signal::Form, "form"),
        (Signal::Compose, "compose"),
        (Signal::Document, "document"),
        (Signal::Action, "action"),
        (Signal::Summarise, "summarise"),
        (Signal::Translate, "translate"),
        (Signal::Factual, "factual"),
        (Signal::Json, "json"),
        (Signal::Deep, "deep"),
        (Signal::Brief, "brief"),
        (Signal::Long, "long"),
        (Signal::Careful, "careful"),
        (Signal::Danger, "danger"),
        (Signal::Harmless, "harmless"),
        (Signal::Batch, "batch"),
        (Signal::Reproducible, "reproducible"),
        (Signal::Patch, "patch"),
        (Signal::Proof, "proof"),
        (Signal::Ponder, "ponder"),
        (Signal::NoRush, "no_rush"),
        (Signal::Overnight, "overnight"),
        (Signal::Same, "same"),
        (Signal::EachRun, "each_run"),
        (Signal::Bitwise, "bitwise"),
        (Signal::About, "about"),
        (Signal::Exact, "exact"),
        (Signal::Peril, "peril"),
        (Signal::Fiction, "fiction"),
        (Signal::Choice, "choice"),
        (Signal::Judged, "judged"),
        (Signal::Bound, "bound"),
        (Signal::Parts, "parts"),
        (Signal::Shell, "shell"),
    ];

    /// How many there are.
    pub(crate) const COUNT: usize = Signal::ALL.len();

    /// How many of the first the model of the family weighs; the axes alone read those after.
    pub(crate) const WEIGHED: usize = Signal::Patch as usize + 1;

    fn parse(name: &str) -> Option<Signal> {
        Signal::ALL.iter().find(|(_, n)| *n == name).map(|(s, _)| *s)
    }
}

/// A cue as written.
#[derive(Debug)]
pub(crate) struct Cue {
    /// What it speaks for.
    pub(crate) signal: Signal,
    /// How loudly: 0.5 weak, 1 plain, 2 strong, 3 nearly decisive.
    pub(crate) weight: f32,
    /// The words, without the marks for line start and open end.
    pub(crate) words: &'static str,
    /// Only at the start of a line.
    line_start: bool,
    /// The last word may go on.
    open_end: bool,
}

struct Lexicon {
    cues: Vec<Cue>,
    trie: Trie,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| {
    let cues = table::shipped();
    let trie = Trie::build(&cues);
    Lexicon { cues, trie }
});

pub(crate) fn warm_up() {
    LazyLock::force(&LEXICON);
}

/// How many cues there are: the bound of the numbers that [`find`] gives.
pub(crate) fn count() -> usize {
    LEXICON.cues.len()
}

/// The cue of that number.
pub(crate) fn cue(number: usize) -> Option<&'static Cue> {
    LEXICON.cues.get(number)
}

/// Calls `found` with the number of each cue in `text`, whose tokens are `tokens`.
pub(crate) fn find(text: &str, tokens: &[Token], mut found: impl FnMut(usize, &'static Cue)) {
    let lexicon: &'static Lexicon = &LEXICON;
    lexicon.trie.walk(text, tokens, |number, at_line_start| {
        if let Some(cue) = lexicon.cues.get(number).filter(|c| at_line_start || !c.line_start) {
            found(number, cue);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scanner;

    fn check(text: &str, signal: Signal, expected: bool) {
        let mut scanner = Scanner::default();
        scanner.read(text);
        let mut hit = false;
        find(text, &scanner.tokens, |_, cue| hit |= cue.signal == signal);
        assert_eq!(hit, expected, "{signal:?} in {text:?}");
    }

    #[test]
    fn words_match_whole_and_in_any_case() {
        check("Write a PYTHON function", Signal::Coding, true);
        check("pythons are snakes", Signal::Coding, false);
        check("用Python写一个函数", Signal::Coding, true);
        check("Übersetze diesen Satz", Signal::Translate, true);
        check("übersetze diesen Satz", Signal::Translate, true);
        check("НАПИШИ стихотворение", Signal::Form, true);
        check("请翻译成英文", Signal::Translate, true);
        check("قصيدة عن البحر", Signal::Form, true);
        check("एक कविता लिखो", Signal::Form, true);
        check("", Signal::Chat, false);
    }

    #[test]
    fn open_ends_go_on_and_closed_ones_do_not() {
        check("summarization of the talk", Signal::Summarise, true);
        check("SUMMARISE it", Signal::Summarise, true);
        check("summa cum laude", Signal::Summarise, false);
        check("DÉMONTREZ-le", Signal::Proof, true);
        check("Dérive", Signal::Proof, false);
    }

    #[test]
    fn line_cues_need_the_start_of_a_line() {
        check("text\n### Document 1\nmore", Signal::Document, true);
        check("read the document 1 now", Signal::Document, false);
    }

    #[test]
    fn every_signal_has_its_place() {
        for (i, (signal, name)) in Signal::ALL.into_iter().enumerate() {
            assert_eq!((signal as usize, Signal::parse(name)), (i, Some(signal)), "{name}");
        }
    }
}

//! The content of a text as terms: stemmed words, names, numbers, pairs of characters where scripts do not
//! part words.

use super::{stop, unspaced};
use std::ops::Range;
use unicode_segmentation::UnicodeSegmentation;

/// What a term is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A content word.
    Word,
    /// A word that is written like a name.
    Name,
    /// Something with digits.
    Number,
}

/// A term with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// What is compared: lower-cased, without endings.
    pub(crate) key: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Bytes of the text.
    pub(crate) span: Range<usize>,
}

/// The content terms of one sentence, in their order.
pub(crate) fn terms(sentence: &str) -> Vec<Term> {
    let mut out = Vec::new();
    let mut first = true;
    let mut run: Vec<(usize, char)> = Vec::new();
    for (at, word) in sentence.split_word_bound_indices() {
        if word.chars().next().is_some_and(unspaced) {
            run.extend(word.char_indices().map(|(i, c)| (at.saturating_add(i), c)));
            continue;
        }
        pairs(&mut run, &mut out);
        if !word.chars().any(char::is_alphanumeric) {
            continue;
        }
        if let Some(term) = term(word, at, first) {
            out.push(term);
        }
        first = false;
    }
    pairs(&mut run, &mut out);
    out
}

/// Only the keys.
pub(crate) fn keys(sentence: &str) -> Vec<String> {
    terms(sentence).into_iter().map(|t| t.key).collect()
}

fn term(word: &str, at: usize, first: bool) -> Option<Term> {
    let span = at..at.saturating_add(word.len());
    if word.chars().any(char::is_numeric) {
        return Some(Term { key: number(word), kind: Kind::Number, span });
    }
    let lower = word.to_lowercase().replace('’', "'");
    if stop::is_stop(&lower) {
        return None;
    }
    let mut chars = word.chars();
    let capital = chars.next().is_some_and(char::is_uppercase);
    let shouted = capital && chars.clone().count() > 0 && chars.all(char::is_uppercase);
    // A capital says nothing of the first word of a sentence, unless the whole word is in capitals.
    let kind = if shouted || capital && !first { Kind::Name } else { Kind::Word };
    (lower.chars().count() > 1).then(|| Term { key: stem(&lower), kind, span })
}

/// Pairs of neighbouring characters of one script. Hiragana carries grammar; a single character between it
/// stands for itself.
fn pairs(run: &mut Vec<(usize, char)>, out: &mut Vec<Term>) {
    for part in run.chunk_by(|(_, a), (_, b)| script(*a) == script(*b)) {
        match part {
            [(_, c), ..] if script(*c) == Script::Hiragana => {}
            [(at, c)] => {
                let span = *at..at.saturating_add(c.len_utf8());
                out.push(Term { key: c.to_string(), kind: Kind::Word, span });
            }
            _ => out.extend(part.windows(2).filter_map(|pair| {
                let [(at, a), (second, b)] = pair else { return None };
                let span = *at..second.saturating_add(b.len_utf8());
                Some(Term { key: [*a, *b].iter().collect(), kind: Kind::Word, span })
            })),
        }
    }
    run.clear();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Hiragana,
    Katakana,
    Other,
}

fn script(c: char) -> Script {
    match c {
        '\u{3040}'..='\u{309F}' => Script::Hiragana,
        '\u{30A0}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9D}' => Script::Katakana,
        _ => Script::Other,
    }
}

/// A number without separators of thousands; `1,200` and `1200` are one.
fn number(word: &str) -> String {
    let plain: String = word.chars().map(super::numbers::ascii_digit).filter(|c| *c != ',').collect();
    // `401k` is `401(k)`.
    let digits = plain.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let lettered = digits.len() >= 3
        && plain.len() == digits.len().saturating_add(1)
        && digits.chars().all(|c| c.is_ascii_digit());
    if lettered { digits.to_owned() } else { plain.to_lowercase() }
}

/// A word without its commonest endings. Both sides of a comparison go through it, so that it need not give
/// a word of the language; it must only give the same for forms of one word and seldom for different ones.
pub(crate) fn stem(word: &str) -> String {
    let word = fold(word.strip_suffix("'s").or_else(|| word.strip_suffix('\'')).unwrap_or(word));
    if word.len() < 4 || !word.is_ascii() {
        return word;
    }
    let mut stem = plural(&word).to_owned();
    for (ending, instead) in ENDINGS {
        if let Some(base) = stem.strip_suffix(ending)
            && base.len() >= 4
            && base.bytes().any(|b| matches!(b, b'a' | b'e' | b'i' | b'o' | b'u' | b'y'))
        {
            stem = format!("{base}{instead}");
            break;
        }
    }
    let undoubled = stem.len() > 4 && {
        let mut last = stem.bytes().rev();
        let (a, b) = (last.next(), last.next());
        a == b && !matches!(a, Some(b'l' | b's' | b'z' | b'e'))
    };
    if undoubled {
        stem.pop();
    }
    if stem.len() > 3 && stem.ends_with('e') {
        stem.pop();
    }
    if stem.len() > 3 && stem.ends_with('y') {
        stem.pop();
        stem.push('i');
    }
    stem
}

/// Endings of derived words, longest first where one is part of another.
const ENDINGS: &[(&str, &str)] = &[
    ("ization", "iz"),
    ("isation", "iz"),
    ("ational", "at"),
    ("fulness", "ful"),
    ("ically", "ic"),
    ("ations", "at"),
    ("ation", "at"),
    ("ments", ""),
    ("ment", ""),
    ("ness", ""),
    ("ities", ""),
    ("ingly", ""),
    ("edly", ""),
    ("ally", "al"),
    ("ised", "iz"),
    ("ized", "iz"),
    ("ising", "iz"),
    ("izing", "iz"),
    ("ise", "iz"),
    ("ize", "iz"),
    ("ity", ""),
    ("ing", ""),
    ("ions", ""),
    ("ion", ""),
    ("ers", ""),
    ("ed", ""),
    ("er", ""),
    ("ly", ""),
];

fn plural(word: &str) -> &str {
    if let Some(base) = word.strip_suffix("ies") {
        return if base.len() > 2 { word.get(..base.len().saturating_add(1)).unwrap_or(word) } else { word };
    }
    for ending in ["sses", "shes", "ches", "xes", "zes"] {
        if word.ends_with(ending) {
            return word.strip_suffix("es").unwrap_or(word);
        }
    }
    match word.strip_suffix('s') {
        Some(base) if !base.ends_with(['s', 'u', 'i']) => base,
        _ => word,
    }
}

/// Letters without the accents of the Latin script, which writers leave out; other scripts as they are.
fn fold(word: &str) -> String {
    word.chars()
        .map(|c| match c {
            'à'..='å' => 'a',
            'ç' => 'c',
            'è'..='ë' => 'e',
            'ì'..='ï' => 'i',
            'ñ' => 'n',
            'ò'..='ö' => 'o',
            'ù'..='ü' => 'u',
            'ý' | 'ÿ' => 'y',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(&str, Kind)]) {
        let got = terms(text);
        let got: Vec<(&str, Kind)> = got.iter().map(|t| (t.key.as_str(), t.kind)).collect();
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn content_is_kept_and_grammar_left_out() {
        use Kind::{Name, Number, Word};
        check(
            "The ratio of Fidelity rose in 1,985",
            &[("ratio", Word), ("fidel", Name), ("ros", Word), ("1985", Number)],
        );
        check("NATO acts", &[("nato", Name), ("act", Word)]);
        check("Turtles swim", &[("turtl", Word), ("swim", Word)]);
        check("", &[]);
        check("the of and", &[]);
    }

    #[test]
    fn forms_of_a_word_meet() {
        for (a, b) in [
            ("increase", "increased"),
            ("increasing", "increases"),
            ("city", "cities"),
            ("stop", "stopped"),
            ("stopping", "stops"),
            ("organise", "organized"),
            ("organization", "organizations"),
            ("payment", "payments"),
            ("class", "classes"),
            ("owner's", "owner"),
            ("café", "cafe"),
            ("court", "courts"),
            ("quickly", "quick"),
        ] {
            assert_eq!(stem(a), stem(b), "{a} {b}");
        }
        for (a, b) in [("increase", "decrease"), ("state", "statue"), ("bus", "bush"), ("war", "warden")] {
            assert_ne!(stem(a), stem(b), "{a} {b}");
        }
    }

    #[test]
    fn scripts_without_spaces_give_pairs() {
        check("東京は日本の首都です。", &[("東京", Kind::Word), ("日本", Kind::Word), ("首都", Kind::Word)]);
        check("サーバを使う", &[("サー", Kind::Word), ("ーバ", Kind::Word), ("使", Kind::Word)]);
        check("水", &[("水", Kind::Word)]);
        assert_eq!(keys("我爱 Rust 语言"), ["我爱", "rust", "语言"]);
    }
}

//! A text as words and marks: which signs part words only, and which belong to what is asked.

use unicode_segmentation::UnicodeSegmentation;

/// A word, or a sign that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// As it is compared.
    pub(crate) text: String,
    /// It was written with a capital, and not because a sentence begins with it.
    pub(crate) is_capital: bool,
    /// The mark behind it that ends a clause.
    pub(crate) ends: Option<char>,
}

/// What a part of a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    /// A sign that means something, as in `C++`, `5 - 3` and `.gitignore`.
    Sign,
    /// It ends a clause or a sentence.
    Mark,
    /// It says nothing: a quotation mark around a word, a hyphen within one.
    Nothing,
}

/// A part of a text, with the place where it begins.
struct Part<'a> {
    at: usize,
    text: &'a str,
    kind: Kind,
}

impl Part<'_> {
    fn end(&self) -> usize {
        self.at.saturating_add(self.text.len())
    }
}

/// Signs that end a clause or a sentence.
const MARKS: &[char] =
    &['.', ',', ';', ':', '!', '?', '…', '。', '，', '？', '！', '；', '：', '、', '¿', '¡'];
/// Quotation marks.
const QUOTES: &[char] = &['"', '\'', '“', '”', '„', '«', '»', '‘', '’', '`'];

/// The words and signs of a text. `None`: spaces are part of what it says.
pub(crate) fn pieces(text: &str) -> Option<Vec<Piece>> {
    let parts = parts(text)?;
    // In a text without small letters, capitals tell nothing.
    let shouts = !text.chars().any(char::is_lowercase);
    let mut out: Vec<Piece> = Vec::new();
    let mut after_number = false;
    for (i, part) in parts.iter().enumerate() {
        match part.kind {
            Kind::Nothing => {}
            Kind::Mark => {
                let mark = part.text.chars().next();
                if let Some(last) = out.last_mut() {
                    // Of several the question mark counts, else the first.
                    last.ends = if mark == Some('?') { mark } else { last.ends.or(mark) };
                }
            }
            Kind::Sign => {
                out.push(Piece { text: part.text.to_owned(), is_capital: false, ends: None });
                after_number = false;
            }
            Kind::Word => {
                let touches = |other: Option<&Part<'_>>, meets: &dyn Fn(&Part<'_>) -> bool| {
                    other.is_some_and(|o| o.kind == Kind::Sign && meets(o))
                };
                let before = i.checked_sub(1).and_then(|i| parts.get(i));
                let attached = touches(before, &|o| o.end() == part.at)
                    || touches(parts.get(i.saturating_add(1)), &|o| part.end() == o.at);
                let number = part.text.chars().any(char::is_numeric);
                // `-R` is not `-r`, and `5 MW` not `5 mW`.
                let as_written = attached || after_number || number || !shouts && abbreviates(part.text);
                let begins = out.last().is_none_or(|last| last.ends.is_some_and(|m| m != ','));
                let capital = part.text.chars().next().is_some_and(char::is_uppercase);
                let written = part.text.replace('’', "'");
                let text = if as_written { written } else { written.to_lowercase() };
                let is_capital = capital && !begins && !shouts;
                out.extend(expanded(text).map(|text| Piece { text, is_capital, ends: None }));
                after_number = number;
            }
        }
    }
    Some(out)
}

/// `US` is not `us`, `IT` not `it`, `MB` not `Mb`, `X` may stand beside `x`, and the `WHO` is nobody's question.
fn abbreviates(word: &str) -> bool {
    let short = word.chars().count() <= 2 && word.chars().all(char::is_uppercase);
    word == "WHO" || short && !matches!(word, "A" | "I")
}

/// `what's` and `don't` as the two words that they are.
fn expanded(word: String) -> impl Iterator<Item = String> {
    const IS: &[&str] = &["what", "who", "where", "how", "when", "why", "that", "it", "there", "here"];
    let (first, second) = match word.split_once('\'') {
        Some(("can", "t")) => ("can".to_owned(), Some("not")),
        Some(("won", "t")) => ("will".to_owned(), Some("not")),
        Some((head, "t")) if head.len() > 2 && head.ends_with('n') => {
            (head.strip_suffix('n').unwrap_or(head).to_owned(), Some("not"))
        }
        Some((head, "s")) if IS.contains(&head) => (head.to_owned(), Some("is")),
        Some((head, "re")) => (head.to_owned(), Some("are")),
        Some((head, "m")) => (head.to_owned(), Some("am")),
        Some((head, "ll")) => (head.to_owned(), Some("will")),
        Some((head, "ve")) => (head.to_owned(), Some("have")),
        _ => (word, None),
    };
    std::iter::once(first).chain(second.map(str::to_owned))
}

fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let mut out = Vec::new();
    for (at, part) in text.split_word_bound_indices() {
        if part.chars().all(char::is_whitespace) {
            continue;
        }
        let end = at.saturating_add(part.len());
        let mut before = text.get(..at).unwrap_or_default().chars().rev();
        let after = text.get(end..).unwrap_or_default().chars();
        let kind = match part.chars().next() {
            _ if part.chars().any(char::is_alphanumeric) => Kind::Word,
            Some(c) if MARKS.contains(&c) => mark(c, &mut before, after),
            Some(c) if QUOTES.contains(&c) => quote(before.next(), after.clone().next())?,
            Some('-' | '‐' | '‑') if within_word(before.clone(), after.clone()) => Kind::Nothing,
            _ => Kind::Sign,
        };
        out.push(Part { at, text: part, kind });
    }
    Some(out)
}

/// A mark ends something where a word stands before it and none directly behind it; `.5`, `5!` and `ls .` are no ends.
fn mark(c: char, before: &mut dyn Iterator<Item = char>, mut after: impl Iterator<Item = char>) -> Kind {
    let is_soft = |c: char| MARKS.contains(&c) || QUOTES.contains(&c) || c == ')';
    let free = after.next().is_none_or(|c| c.is_whitespace() || is_soft(c));
    let closed = match before.next() {
        None => false,
        // Some write a blank before the taller marks.
        Some(p) if p.is_whitespace() => matches!(c, '?' | '!' | ':' | ';'),
        Some(p) if c == '!' && p.is_alphanumeric() => {
            p.is_alphabetic() && before.next().is_some_and(char::is_alphabetic)
        }
        Some(p) => p.is_alphanumeric() || is_soft(p),
    };
    if free && closed { Kind::Mark } else { Kind::Sign }
}

/// Around a word it says nothing. `None`: what it holds are blanks.
fn quote(before: Option<char>, after: Option<char>) -> Option<Kind> {
    let open =
        |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || MARKS.contains(&c) || c == '(' || c == ')');
    let opens = open(before) && after.is_some_and(char::is_alphanumeric);
    let closes = before.is_some_and(|c| c.is_alphabetic() || MARKS.contains(&c)) && open(after);
    if opens || closes {
        return Some(Kind::Nothing);
    }
    let blank = |c: Option<char>| c.is_some_and(char::is_whitespace);
    (!blank(before) || !blank(after)).then_some(Kind::Sign)
}

/// Between two words of more than one letter a hyphen says nothing; `x-y` may be a difference.
fn within_word(before: impl Iterator<Item = char>, after: impl Iterator<Item = char>) -> bool {
    let letters = |mut side: Box<dyn Iterator<Item = char> + '_>| {
        side.next().is_some_and(char::is_alphabetic) && side.next().is_some_and(char::is_alphabetic)
    };
    letters(Box::new(before)) && letters(Box::new(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[&str]) {
        let got = pieces(text).map(|p| p.into_iter().map(|p| p.text).collect::<Vec<_>>());
        assert_eq!(got.unwrap_or_default(), want, "{text}");
    }

    #[test]
    fn signs_that_mean_something_stay() {
        check("What’s \"Rust\", exactly?!", &["what", "is", "rust", "exactly"]);
        check("What is 5!", &["what", "is", "5", "!"]);
        check("Half of .5?", &["half", "of", ".", "5"]);
        check("3.14 - 1:2", &["3.14", "-", "1", ":", "2"]);
        check("ls .", &["ls", "."]);
        check("a follow-up, and x-y", &["a", "follow", "up", "and", "x", "-", "y"]);
        check("Is C++ like c#", &["is", "C", "+", "+", "like", "c", "#"]);
        check("don't you, can't I", &["do", "not", "you", "can", "not", "i"]);
        check("replace '' with (x)", &["replace", "'", "'", "with", "(", "x", ")"]);
        check("你好？", &["你", "好"]);
    }

    #[test]
    fn capitals_stay_where_they_tell_things_apart() {
        check("Does the US tax it", &["does", "the", "US", "tax", "it"]);
        check("DOES THE US TAX IT", &["does", "the", "us", "tax", "it"]);
        check("5 MW in mW", &["5", "MW", "in", "mw"]);
        check("ls -R", &["ls", "-", "R"]);
        check("10MB", &["10MB"]);
        let capital = pieces("A dose of vitamin A. A lot").unwrap_or_default();
        let at: Vec<usize> = (0..).zip(&capital).filter(|(_, p)| p.is_capital).map(|(i, _)| i).collect();
        assert_eq!(at, [4]);
    }

    #[test]
    fn quoted_blanks_are_not_compared() {
        assert_eq!(pieces("replace ' ' with x"), None);
    }
}

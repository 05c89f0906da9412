//! How alike two questions are by their words.
//!
//! ```text
//! s = 1 − (0.1·p + 0.2·m + 1·a) / min(32, n₁ + n₂)          at least 0
//! ```
//!
//! n₁ and n₂ are the words of the two without articles and without what opens and closes them ("could you tell me",
//! "please"), p the polite phrases that only one of them has, m = 1 where a phrase stands before a comma in one ("In
//! Rust, how …") and behind the rest in the other, and a the articles that only one of them has, each by the word it
//! stands before. The sum of words is cut off so that a difference does not become small by standing in a long text.
//!
//! Whatever else differs (a number, a name, a `not`, any other word, the order of words, a sign that is no
//! punctuation, a question and a statement) makes them different questions, to which no similarity is given. So
//! similar questions have the same words, and whoever looks under [`Question::words`] misses none of them.

use crate::pieces::{Piece, pieces};
use crate::polite;

/// Longest text that is compared, in bytes.
pub const MAX_BYTES: usize = 4 << 10;
/// Most words that a difference is divided by.
const MOST_WORDS: usize = 32;
/// What a difference costs, in tenths of a word.
const POLITE: usize = 1;
const MOVED: usize = 2;
const ARTICLE: usize = 10;

const ARTICLES: &[&str] = &["a", "an", "the"];
/// With what a phrase begins that may as well stand behind the rest of its sentence.
const FRONTS: &[&str] = &[
    "in",
    "on",
    "at",
    "for",
    "from",
    "with",
    "without",
    "within",
    "using",
    "during",
    "before",
    "after",
    "by",
    "under",
    "according",
    "since",
    "until",
    "as",
    "if",
    "when",
    "while",
];
/// What they are about hangs on where they stand.
const BOUND: &[&str] = &[
    "not", "no", "never", "nor", "neither", "none", "only", "cannot", "nicht", "kein", "keine", "nie",
    "niet", "geen", "non", "mai", "nunca", "não", "ne", "pas", "jamais",
];
/// Between the words of an order of words. No word holds it.
const GAP: char = '\n';

/// A question, as it is compared with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its words in their order, without articles and polite phrases.
    plain: String,
    /// The same with what stands before its comma put behind the rest, where that may be.
    moved: Option<String>,
    /// Articles, each with the word it stands before; sorted.
    articles: Vec<String>,
    /// Sorted, each once.
    polite: Vec<&'static [&'static str]>,
    /// Whether it ends as a question or as a statement, where it says so.
    asks: Option<bool>,
    count: usize,
    words: [u8; 32],
}

impl Question {
    /// A question of one line. `None`: it is empty, longer than [`MAX_BYTES`] or of several lines, or blanks are part of
    /// what it says; such a text is the same as another to the letter alone.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > MAX_BYTES || text.contains(['\n', '\r', '\t']) {
            return None;
        }
        let all = bound_commas(pieces(text)?);
        let asks = match all.iter().any(|p| p.ends == Some('?')) {
            true => Some(true),
            false => all.last().and_then(|p| p.ends).map(|_| false),
        };
        let (from, to, polite) = polite::around(&all);
        let core = all.get(from..to).unwrap_or_default();
        let mut words: Vec<&Piece> = Vec::new();
        let mut articles = Vec::new();
        for (i, piece) in core.iter().enumerate() {
            let next = core.get(i.saturating_add(1)).filter(|_| is_article(piece));
            match next {
                Some(next) => articles.push(format!("{} {}", piece.text, next.text)),
                None => words.push(piece),
            }
        }
        articles.sort_unstable();
        if words.is_empty() {
            return None;
        }
        let mut sorted: Vec<&str> = words.iter().map(|p| p.text.as_str()).collect();
        sorted.sort_unstable();
        Some(Question {
            plain: joined(words.iter().copied()),
            moved: moved(&words),
            articles,
            polite,
            asks,
            count: words.len(),
            words: *blake3::hash(sorted.join("\n").as_bytes()).as_bytes(),
        })
    }

    /// What it takes in memory, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let articles: usize = self.articles.iter().map(String::len).sum();
        let order = self.plain.len().saturating_add(self.moved.as_ref().map_or(0, String::len));
        size_of::<Self>().saturating_add(order).saturating_add(articles)
    }

    /// A hash of its words, whatever their order, without articles and polite phrases: similar questions have the same.
    #[must_use]
    pub const fn words(&self) -> &[u8; 32] {
        &self.words
    }

    /// How alike they are, 0..=1, where they ask the same by their words; 1 = but for capitals and punctuation the same.
    /// `None`: they differ in something that may change the answer. The same from either side.
    #[must_use]
    pub fn similarity(&self, other: &Question) -> Option<f64> {
        if matches!((self.asks, other.asks), (Some(a), Some(b)) if a != b) {
            return None;
        }
        let moved = self.plain != other.plain;
        if moved && !self.is_moved(other) {
            return None;
        }
        let (mine, theirs) = (lacking(&self.polite, &other.polite), lacking(&other.polite, &self.polite));
        // Who asks how to say "please" does not ask how to say "thanks".
        if mine > 0 && theirs > 0 {
            return None;
        }
        let articles =
            lacking(&self.articles, &other.articles).saturating_add(lacking(&other.articles, &self.articles));
        let polite = mine.saturating_add(theirs).saturating_mul(POLITE);
        let tenths = polite.saturating_add(if moved { MOVED } else { 0 });
        let tenths = tenths.saturating_add(articles.saturating_mul(ARTICLE));
        let of = self.count.saturating_add(other.count).min(MOST_WORDS).saturating_mul(10);
        // Both are small whole numbers, which a float holds exactly.
        let share = tenths.min(of) as f64 / of as f64;
        Some(1.0 - share)
    }

    fn is_moved(&self, other: &Question) -> bool {
        let is = |moved: &Option<String>, order: &str| moved.as_deref() == Some(order);
        is(&self.moved, &other.plain)
            || is(&other.moved, &self.plain)
            || self.moved.is_some() && self.moved == other.moved
    }
}

/// How many of one list the other lacks; both are sorted.
fn lacking<T: Ord>(of: &[T], in_: &[T]) -> usize {
    let mut rest = in_.iter().peekable();
    of.iter()
        .filter(|one| {
            while rest.peek().is_some_and(|r| r < one) {
                rest.next();
            }
            let found = rest.peek().is_some_and(|r| r == one);
            if found {
                rest.next();
            }
            !found
        })
        .count()
}

/// A single letter with a capital is a name, as in `vitamin A`.
fn is_article(piece: &Piece) -> bool {
    ARTICLES.contains(&piece.text.as_str()) && !piece.is_capital
}

fn joined<'a>(words: impl Iterator<Item = &'a Piece>) -> String {
    words.fold(String::new(), |mut all, p| {
        all.push_str(&p.text);
        all.push(GAP);
        all
    })
}

/// A comma right behind a `no` or `not` is not for the eye alone: "no, more tax" is another thing than "no more tax".
fn bound_commas(pieces: Vec<Piece>) -> Vec<Piece> {
    let last = pieces.len().saturating_sub(1);
    let with = |(i, piece): (usize, Piece)| {
        let bound = i < last && piece.ends.is_some() && BOUND.contains(&piece.text.as_str());
        let sign = bound.then(|| Piece { text: ",".to_owned(), is_capital: false, ends: None });
        std::iter::once(piece).chain(sign)
    };
    pieces.into_iter().enumerate().flat_map(with).collect()
}

/// The order of words with what stands before the comma put behind the rest. Only in a single sentence, and where
/// nothing in it is about the word beside it alone.
fn moved(words: &[&Piece]) -> Option<String> {
    let comma = words.iter().position(|p| p.ends.is_some())?;
    let (front, rest) = words.split_at_checked(comma.checked_add(1)?)?;
    let (first, last) = (front.first()?, rest.len().checked_sub(1)?);
    let ends_late = rest.iter().position(|p| p.ends.is_some()).is_none_or(|at| at == last);
    let bound =
        words.iter().any(|p| BOUND.contains(&p.text.as_str()) || !p.text.chars().any(char::is_alphanumeric));
    let is_one = front.last()?.ends == Some(',') && ends_late;
    let may = is_one && !bound && front.len() > 1 && rest.len() > 1 && FRONTS.contains(&first.text.as_str());
    may.then(|| joined(rest.iter().chain(front).copied()))
}

#[cfg(test)]
mod tests;

//! Sums that the text itself states, worked out again: `3 + 4 = 8`, `20 % of 150 is 40`, `from 50 to 75, up 30 %`.
//!
//! Numbers with decimals stand for all that round to them, so that what was rounded on the way is not called
//! wrong: expressions are worked out over intervals, and a sum is wrong if no value of one side lies in the other.

use crate::text::numbers::{Number, numbers};
use crate::text::quantities::Unit;
use std::ops::Range;

/// Longest expression, in tokens.
const MAX_TOKENS: usize = 100;
/// Deepest brackets of an expression.
const MAX_DEPTH: usize = 20;

/// A sum that a text states.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sum {
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    /// Bytes of the result.
    pub(super) result: Range<usize>,
    /// What it should have been; `None` if it is right.
    pub(super) wrong: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(Number),
    /// `+ - * /`
    Operator(char),
    Open,
    Close,
    Equal,
    Word(String),
    /// Something that ends an expression without being part of it.
    Stop,
    /// Something that makes what is beside it no plain number.
    Other,
}

#[derive(Clone, Debug)]
struct Placed {
    token: Token,
    span: Range<usize>,
}

/// A range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interval {
    low: f64,
    high: f64,
}

impl Interval {
    fn new(a: f64, b: f64) -> Self {
        Interval { low: a.min(b), high: a.max(b) }
    }

    fn meets(self, other: Interval) -> bool {
        let slack = 1e-9 * self.high.abs().max(other.high.abs()).max(1e-9);
        self.low <= other.high + slack && other.low <= self.high + slack
    }

    fn middle(self) -> f64 {
        f64::midpoint(self.low, self.high)
    }

    fn scaled(self, by: f64) -> Self {
        Interval::new(self.low * by, self.high * by)
    }

    fn apply(self, op: char, o: Interval) -> Option<Self> {
        let all = |f: fn(f64, f64) -> f64| {
            let ends = [f(self.low, o.low), f(self.low, o.high), f(self.high, o.low), f(self.high, o.high)];
            Interval {
                low: ends.iter().copied().fold(f64::INFINITY, f64::min),
                high: ends.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            }
        };
        match op {
            '+' => Some(Interval { low: self.low + o.low, high: self.high + o.high }),
            '-' => Some(Interval { low: self.low - o.high, high: self.high - o.low }),
            '*' => Some(all(|a, b| a * b)),
            _ if o.low <= 0.0 && o.high >= 0.0 => None,
            _ => Some(all(|a, b| a / b)),
        }
    }
}

/// The sums of a text, line by line; ranges to skip come in order.
pub(super) fn sums(text: &str, skip: &[Range<usize>]) -> Vec<Sum> {
    let mut out = Vec::new();
    let mut at = 0_usize;
    for line in text.split_inclusive('\n') {
        let start = at;
        at = at.saturating_add(line.len());
        if !line.chars().any(|c| c.is_ascii_digit()) {
            continue;
        }
        let here: Vec<Range<usize>> = skip
            .iter()
            .skip(skip.partition_point(|s| s.end <= start))
            .take_while(|s| s.start < at)
            .map(|s| s.start.saturating_sub(start)..s.end.saturating_sub(start))
            .collect();
        let tokens = tokens(line, &here);
        let mut found = equations(&tokens);
        found.extend(shares(&tokens));
        found.extend(changes(&tokens));
        let moved = |r: &Range<usize>| r.start.saturating_add(start)..r.end.saturating_add(start);
        out.extend(found.into_iter().map(|s| Sum { span: moved(&s.span), result: moved(&s.result), ..s }));
    }
    out
}

/// Signs of LaTeX as plain ones of the same length.
fn plain(line: &str) -> String {
    let mut out = line.to_owned();
    for (from, to) in [
        (r"\times", "*     "),
        (r"\cdot", "*    "),
        (r"\div", "/   "),
        (r"\approx", "=      "),
        (r"\left", "     "),
        (r"\right", "      "),
        (r"\%", " %"),
        (r"\$", " $"),
        (r"\,", "  "),
        (r"\;", "  "),
        (r"\(", "  "),
        (r"\)", "  "),
        (r"\[", "  "),
        (r"\]", "  "),
    ] {
        if out.contains(from) {
            out = out.replace(from, to);
        }
    }
    out
}

fn tokens(line: &str, skip: &[Range<usize>]) -> Vec<Placed> {
    let line = plain(line);
    let mut all = numbers(&line, skip).into_iter().peekable();
    let mut out: Vec<Placed> = Vec::new();
    let mut at = 0_usize;
    while let Some(c) = line.get(at..).and_then(|r| r.chars().next()) {
        if let Some(s) = skip.iter().find(|s| s.contains(&at)) {
            out.push(Placed { token: Token::Other, span: at..s.end });
            at = s.end.max(at.saturating_add(c.len_utf8()));
            continue;
        }
        while all.next_if(|n| n.span.start < at).is_some() {}
        if let Some(n) = all.next_if(|n| n.span.start == at && !n.spelled) {
            let span = n.span.clone();
            at = span.end.max(at.saturating_add(1));
            let known = n.literal.is_none() && !matches!(n.unit, Unit::Clock | Unit::Ordinal);
            out.push(Placed { token: if known { Token::Number(n) } else { Token::Other }, span });
            continue;
        }
        let (token, len) = sign(&line, at, c, out.last());
        if let Some(token) = token {
            out.push(Placed { token, span: at..at.saturating_add(len) });
        }
        at = at.saturating_add(len.max(1));
    }
    out
}

/// What stands here beside numbers, and how long it is.
fn sign(line: &str, at: usize, c: char, last: Option<&Placed>) -> (Option<Token>, usize) {
    let len = c.len_utf8();
    let rest = line.get(at..).unwrap_or("");
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let after_number = last.is_some_and(|p| matches!(p.token, Token::Number(_) | Token::Close));
    match c {
        ' ' | '\t' | '\n' | '\r' | '\u{a0}' | '\u{202f}' | '*' if c != '*' => (None, len),
        // Bold, not times.
        '*' if rest.starts_with("**") => (None, 2),
        '+' => (Some(Token::Operator('+')), len),
        '-' | '−' | '–' => (Some(Token::Operator('-')), len),
        '*' | '×' | '·' | '∗' => (Some(Token::Operator('*')), len),
        '/' | '÷' => (Some(Token::Operator('/')), len),
        '(' => (Some(Token::Open), len),
        ')' => (Some(Token::Close), len),
        '=' if rest.starts_with("==") || rest.starts_with("=>") => (Some(Token::Other), 2),
        '=' | '≈' => (Some(Token::Equal), len),
        '≠' | '<' | '>' | '!' | '^' | '²' | '³' | '√' | '\\' | '{' | '}' | '[' | ']' | '%' | '°' | '|' =>
        {
            // `<=`, `!=` and the like are no equations.
            (
                Some(Token::Other),
                if rest.get(len..).is_some_and(|r| r.starts_with('=')) { len.saturating_add(1) } else { len },
            )
        }
        ',' | '.' | ';' | ':' | '?' | '"' | '“' | '”' | '$' | '€' | '£' | '_' | '#' => {
            (Some(Token::Stop), len)
        }
        _ if word.is_empty() => (Some(Token::Other), len),
        _ => {
            let times = after_number && matches!(word.as_str(), "x" | "X");
            let token = if times { Token::Operator('*') } else { Token::Word(word.to_lowercase()) };
            (Some(token), word.len())
        }
    }
}

/// Both sides of every `=`.
fn equations(tokens: &[Placed]) -> Vec<Sum> {
    let mut out = Vec::new();
    for (i, _) in tokens.iter().enumerate().filter(|(_, p)| p.token == Token::Equal) {
        let (Some(left), Some(right)) = (left_of(tokens, i), right_of(tokens, i)) else { continue };
        let works = left.iter().chain(right).any(|p| match &p.token {
            Token::Operator(_) => true,
            Token::Word(w) => w == "of",
            _ => false,
        });
        let (Some(span), Some(result)) = (cover(left), cover(right)) else { continue };
        if works && let Some(wrong) = compare(left, right) {
            out.push(Sum { span: span.start..result.end, result, wrong });
        }
    }
    out
}

fn cover(tokens: &[Placed]) -> Option<Range<usize>> {
    Some(tokens.first()?.span.start..tokens.last()?.span.end)
}

/// Whether the token belongs to an expression; a word behind a number names what it counts.
fn part(tokens: &[Placed], i: usize) -> bool {
    match tokens.get(i).map(|p| &p.token) {
        Some(Token::Number(_) | Token::Operator(_) | Token::Open | Token::Close) => true,
        Some(Token::Word(w)) => {
            let before = i.checked_sub(1).and_then(|b| tokens.get(b)).map(|p| &p.token);
            let after = tokens.get(i.saturating_add(1)).map(|p| &p.token);
            let ends = matches!(after, Some(Token::Operator(_) | Token::Equal | Token::Close));
            w.len() > 1 && ends && matches!(before, Some(Token::Number(_))) || w == "of" && is_percent(before)
        }
        _ => false,
    }
}

fn is_percent(token: Option<&Token>) -> bool {
    matches!(token, Some(Token::Number(n)) if n.unit == Unit::Percent)
}

fn left_of(tokens: &[Placed], equal: usize) -> Option<&[Placed]> {
    let mut from = equal;
    while from > 0 && part(tokens, from.saturating_sub(1)) {
        from = from.saturating_sub(1);
    }
    let mut run = tokens.get(from..equal)?;
    // "(3 + 4 = 7)": a bracket that closes behind the result does not belong here.
    let balance = |run: &[Placed]| {
        let n = |t: &Token| run.iter().filter(|p| p.token == *t).count();
        (n(&Token::Open), n(&Token::Close))
    };
    while let (Some(Placed { token: Token::Open, .. }), (open, close)) = (run.first(), balance(run)) {
        if open <= close {
            break;
        }
        run = run.get(1..)?;
        from = from.saturating_add(1);
    }
    let before = from.checked_sub(1).and_then(|b| tokens.get(b)).map(|p| &p.token);
    let free = match before {
        None | Some(Token::Stop | Token::Equal | Token::Open) => true,
        Some(Token::Word(w)) => w.chars().count() > 1 && !FUNCTIONS.contains(&w.as_str()),
        _ => false,
    };
    let starts = matches!(run.first().map(|p| &p.token), Some(Token::Number(_) | Token::Open));
    (free && starts && run.len() <= MAX_TOKENS).then_some(run)
}

/// Words behind which a number is an argument.
const FUNCTIONS: &[&str] =
    &["sin", "cos", "tan", "log", "ln", "sqrt", "max", "min", "abs", "mod", "exp", "times", "minus", "plus"];

fn right_of(tokens: &[Placed], equal: usize) -> Option<&[Placed]> {
    let from = equal.saturating_add(1);
    let mut to = from;
    while part(tokens, to) {
        to = to.saturating_add(1);
    }
    let mut run = tokens.get(from..to)?;
    let count = |run: &[Placed], t: &Token| run.iter().filter(|p| p.token == *t).count();
    while count(run, &Token::Close) > count(run, &Token::Open) {
        let close = run.iter().rposition(|p| p.token == Token::Close)?;
        run = run.get(..close)?;
    }
    // "= 7 (as above)": a bracket that is not part of the sum.
    while let Some(Placed { token: Token::Open | Token::Operator(_), .. }) = run.last() {
        let opens = run.last().is_some_and(|p| p.token == Token::Open);
        if !opens {
            return None;
        }
        run = run.get(..run.len().saturating_sub(1))?;
    }
    let end = from.saturating_add(run.len());
    let free = match tokens.get(end).map(|p| &p.token) {
        Some(Token::Other | Token::Operator(_)) => false,
        Some(Token::Word(w)) => w.chars().count() > 1,
        _ => true,
    };
    let starts = matches!(run.first().map(|p| &p.token), Some(Token::Number(_) | Token::Open));
    (free && starts && run.len() <= MAX_TOKENS).then_some(run)
}

/// `Some(None)` if both sides agree, `Some(Some(value))` with what the right side should be, `None` if a side
/// cannot be worked out.
fn compare(left: &[Placed], right: &[Placed]) -> Option<Option<f64>> {
    let percents = |side: &[Placed]| {
        let mut all = side.iter().filter_map(|p| match &p.token {
            Token::Number(n) => Some(n.unit == Unit::Percent),
            _ => None,
        });
        all.all(|p| p)
    };
    let only_sums = left.iter().all(|p| !matches!(p.token, Token::Operator('*' | '/')));
    // Per cent that are added stay per cent; per cent of something are hundredths.
    let raw = percents(left) && only_sums && percents(right);
    let whole = left.iter().all(|p| match &p.token {
        Token::Operator(op) => *op != '/',
        Token::Number(n) => n.step == 1.0 && n.unit != Unit::Percent,
        _ => true,
    });
    let l = evaluate(left, !raw, None)?;
    let r = evaluate(right, !raw, Some(!whole))?;
    let fits = l.meets(r)
        || percents(right) && l.meets(r.scaled(100.0))
        || percents(left) && l.scaled(100.0).meets(r);
    let shown = if percents(right) && !raw { l.middle() * 100.0 } else { l.middle() };
    Some((!fits).then_some(shown))
}

/// Works an expression out; `None` if it is none.
fn evaluate(tokens: &[Placed], hundredths: bool, result: Option<bool>) -> Option<Interval> {
    let mut parser = Parser { tokens, at: 0, hundredths, result: result.filter(|_| tokens.len() <= 2) };
    let value = parser.sum(0)?;
    (parser.at == tokens.len() && value.low.is_finite() && value.high.is_finite()).then_some(value)
}

struct Parser<'t> {
    tokens: &'t [Placed],
    at: usize,
    hundredths: bool,
    /// The side states a result; whether what it is the result of need not be a whole number.
    result: Option<bool>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|p| &p.token)
    }

    fn operator(&mut self, of: [char; 2]) -> Option<char> {
        let op = match self.peek()? {
            Token::Operator(c) if of.contains(c) => *c,
            Token::Word(w) if w == "of" && of.contains(&'*') => '*',
            _ => return None,
        };
        self.at = self.at.saturating_add(1);
        Some(op)
    }

    fn sum(&mut self, depth: usize) -> Option<Interval> {
        let mut value = self.product(depth)?;
        while let Some(op) = self.operator(['+', '-']) {
            value = value.apply(op, self.product(depth)?)?;
        }
        Some(value)
    }

    fn product(&mut self, depth: usize) -> Option<Interval> {
        let mut value = self.atom(depth)?;
        while let Some(op) = self.operator(['*', '/']) {
            value = value.apply(op, self.atom(depth)?)?;
        }
        Some(value)
    }

    fn atom(&mut self, depth: usize) -> Option<Interval> {
        let token = self.peek()?.clone();
        self.at = self.at.saturating_add(1);
        match token {
            Token::Number(n) => {
                // What it counts.
                if matches!(self.peek(), Some(Token::Word(w)) if w != "of") {
                    self.at = self.at.saturating_add(1);
                }
                Some(self.interval(&n))
            }
            Token::Open if depth < MAX_DEPTH => {
                let value = self.sum(depth.saturating_add(1))?;
                let closed = self.peek() == Some(&Token::Close);
                self.at = self.at.saturating_add(1);
                closed.then_some(value)
            }
            _ => None,
        }
    }

    /// The values that a number may stand for. As part of a sum: itself if it is whole, else all that round to
    /// it. As a result of what need not be whole: also what was cut off behind it.
    fn interval(&self, n: &Number) -> Interval {
        let by = if self.hundredths && n.unit == Unit::Percent { 0.01 } else { 1.0 };
        let (below, above) = match self.result {
            Some(_) if n.hedged => (1.5, 1.5),
            Some(true) => (0.5, 1.0),
            None if n.step != 1.0 => (0.5, 0.5),
            _ => (0.0, 0.0),
        };
        let out = n.value.signum();
        Interval::new((n.value - out * below * n.step) * by, (n.value + out * above * n.step) * by)
    }
}

/// `20 % of 150 is 30`, and `30 of 150 (20 %)`.
fn shares(tokens: &[Placed]) -> Vec<Sum> {
    let mut out = Vec::new();
    let number = |i: usize| match tokens.get(i).map(|p| &p.token) {
        Some(Token::Number(n)) => Some(n),
        _ => None,
    };
    let word = |i: usize, list: &[&str]| matches!(tokens.get(i).map(|p| &p.token), Some(Token::Word(w)) if list.contains(&w.as_str()));
    for i in 0..tokens.len() {
        let next = |k: usize| i.saturating_add(k);
        if let (Some(p), true, Some(base), true, Some(share)) = (
            number(i).filter(|n| n.unit == Unit::Percent),
            word(next(1), &["of"]),
            number(next(2)),
            word(next(3), &["is", "equals", "makes", "gives"]),
            number(next(4)).filter(|n| n.unit != Unit::Percent),
        ) && !word(next(5), &["times", "more", "less", "of", "to", "percent"])
        {
            let (lo, hi) = spread(p);
            let want = Interval::new(lo * base.value / 100.0, hi * base.value / 100.0);
            out.extend(verdict(tokens, i, next(4), want, share));
        }
        // `30 (out) of (the) 150 … (20 %)`
        let of = if word(next(1), &["out"]) { next(2) } else { next(1) };
        let base_at = if word(of.saturating_add(1), &["the", "all", "a"]) {
            of.saturating_add(2)
        } else {
            of.saturating_add(1)
        };
        let (Some(a), true, Some(b)) = (number(i), word(of, &["of"]), number(base_at)) else { continue };
        let plain = a.unit != Unit::Percent && b.unit != Unit::Percent && b.value != 0.0;
        let bracket = (base_at.saturating_add(1)..base_at.saturating_add(4))
            .find(|k| tokens.get(*k).is_some_and(|p| p.token == Token::Open));
        let Some(open) = bracket.filter(|_| plain) else { continue };
        let gap = (base_at.saturating_add(1)..open)
            .all(|k| matches!(tokens.get(k).map(|p| &p.token), Some(Token::Word(_))));
        let Some(p) = number(open.saturating_add(1)).filter(|n| n.unit == Unit::Percent && gap) else {
            continue;
        };
        let exact = a.value / b.value * 100.0;
        out.extend(verdict(tokens, i, open.saturating_add(1), Interval::new(exact, exact), p));
    }
    out
}

/// The values that a number may stand for.
fn spread(n: &Number) -> (f64, f64) {
    let half = if n.step < 1.0 || n.hedged { n.step / 2.0 } else { 0.0 };
    (n.value - half, n.value + half)
}

fn verdict(tokens: &[Placed], from: usize, to: usize, want: Interval, said: &Number) -> Option<Sum> {
    let slack = if said.hedged { said.step.max(said.value.abs() * 0.1) } else { said.step };
    let have = Interval::new(said.value - slack, said.value + slack);
    let span = tokens.get(from)?.span.start..tokens.get(to)?.span.end;
    let wrong = (!have.meets(want)).then(|| want.middle());
    Some(Sum { span, result: said.span.clone(), wrong })
}

const RISES: &[&str] = &[
    "increase",
    "increased",
    "increases",
    "rise",
    "rose",
    "risen",
    "grew",
    "growth",
    "up",
    "gain",
    "gained",
];
const FALLS: &[&str] = &[
    "decrease",
    "decreased",
    "decreases",
    "fall",
    "fell",
    "fallen",
    "drop",
    "dropped",
    "decline",
    "declined",
    "down",
    "reduction",
    "reduced",
];

/// `rose from 50 to 75, an increase of 50 %`, where the line has one such pair and one share only.
fn changes(tokens: &[Placed]) -> Vec<Sum> {
    let words: Vec<&str> = tokens
        .iter()
        .filter_map(|p| if let Token::Word(w) = &p.token { Some(w.as_str()) } else { None })
        .collect();
    let (up, down) = (words.iter().any(|w| RISES.contains(w)), words.iter().any(|w| FALLS.contains(w)));
    let shares: Vec<&Number> = tokens
        .iter()
        .filter_map(|p| match &p.token {
            Token::Number(n) if n.unit == Unit::Percent => Some(n),
            _ => None,
        })
        .collect();
    let pairs: Vec<(usize, &Number, &Number)> = tokens
        .windows(4)
        .enumerate()
        .filter_map(|(i, w)| match w {
            [
                Placed { token: Token::Word(f), .. },
                Placed { token: Token::Number(a), .. },
                Placed { token: Token::Word(t), .. },
                Placed { token: Token::Number(b), .. },
            ] if f == "from" && t == "to" => Some((i, a, b)),
            _ => None,
        })
        .collect();
    let (&[(at, a, b)], &[share], true) = (pairs.as_slice(), shares.as_slice(), up != down) else {
        return Vec::new();
    };
    let year = |n: &Number| n.unit == Unit::None && n.step == 1.0 && (1500.0..2200.0).contains(&n.value);
    let odd = year(a) && year(b) || a.unit == Unit::Percent || b.unit == Unit::Percent || a.value <= 0.0;
    let agrees = if up { b.value > a.value } else { b.value < a.value };
    if odd || !agrees {
        return Vec::new();
    }
    let exact = (b.value - a.value).abs() / a.value * 100.0;
    let after = tokens.iter().position(|p| p.span == share.span).unwrap_or(at);
    verdict(tokens, at.min(after), after.max(at.saturating_add(3)), Interval::new(exact, exact), share)
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, want: &[Option<f64>]) {
        let got: Vec<Option<f64>> =
            sums(text, &[]).into_iter().map(|s| s.wrong.map(|w| (w * 1000.0).round() / 1000.0)).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn equations_are_worked_out() {
        check("3 + 4 = 7", &[None]);
        check("3 + 4 = 8", &[Some(7.0)]);
        check("So 2 × (3 + 4) = 14, and 10 / 4 = 2.5.", &[None, None]);
        check("12 - 5 = 6", &[Some(7.0)]);
        check("2 + 3 * 4 = 20", &[Some(14.0)]);
        check("$3.50 + $4.25 = $8.75", &[Some(7.75)]);
        check("1,200 + 300 = 1,500 = 1,400 + 100", &[None, None]);
        check("3 apples + 4 apples = 8 apples", &[Some(7.0)]);
        check("3 x 4 = 13", &[Some(12.0)]);
        check("**5 + 5 = 11**", &[Some(10.0)]);
        check("$3 \\times 4 = 12$", &[None]);
        check("(3 + 4 = 7)", &[None]);
        check("2.5 million + 1.5 million = 4 million", &[None]);
    }

    #[test]
    fn rounding_is_no_mistake() {
        check("10 / 3 = 3.33", &[None]);
        check("10 / 3 = 3.3333", &[None]);
        check("2 / 3 = 0.66", &[None]);
        check("0.333 * 3 = 1", &[None]);
        check("7 / 2 ≈ 3.5", &[None]);
        check("10 / 3 = 3.5", &[Some(3.333)]);
    }

    #[test]
    fn per_cents_are_understood() {
        check("20% of 150 = 30", &[None]);
        check("20% of 150 is 40", &[Some(30.0)]);
        check("30 out of 150 (20%)", &[None]);
        check("30 of the 150 students (25%)", &[Some(20.0)]);
        check("20% + 30% = 50%", &[None]);
        check("20% + 30% = 60%", &[Some(50.0)]);
        check("150 / 200 = 75%", &[None]);
        check("150 / 200 × 100 = 75%", &[None]);
        check("0.2 * 150 = 30", &[None]);
        check("Sales rose from 50 to 75, an increase of 50%.", &[None]);
        check("Sales rose from 50 to 75, an increase of 30%.", &[Some(50.0)]);
        check("Sales rose by 5% from 2019 to 2020.", &[]);
    }

    #[test]
    fn what_is_no_sum_is_left_alone() {
        for text in [
            "x + 3 = 8",
            "2x + 3 = 8",
            "f(3) = 10",
            "y - 3 + 4 = 10",
            "a = 3",
            "2^3 = 8",
            "10² = 100",
            "5! = 120",
            "if 3 + 4 == 8",
            "3 + 4 = 7x",
            "3 + 4 = 7 + x",
            "3 + x = 4",
            "sqrt 9 + 7 = 10",
            "n >= 3 + 4",
            "1-2-3 = go",
            "2024-05-01 = today",
            "The score was 3 - 4.",
            "1/2 = half",
        ] {
            let got = sums(text, &[]);
            assert!(got.iter().all(|s| s.wrong.is_none()), "{text}: {got:?}");
        }
    }

    proptest! {
        #[test]
        fn right_sums_pass_and_wrong_ones_fail(a in 0_i64..10_000, b in 1_i64..10_000, d in 1_i64..50) {
            let wrong = |text: String| sums(&text, &[]).iter().filter(|s| s.wrong.is_some()).count();
            prop_assert_eq!(wrong(format!("{a} + {b} = {}", a + b)), 0);
            prop_assert_eq!(wrong(format!("{a} * {b} = {}", a * b)), 0);
            prop_assert_eq!(wrong(format!("{a} + {b} = {}", a + b + d)), 1);
        }

        #[test]
        fn any_line_ends(text in "[0-9+*/=().,% x$a-c-]{0,80}") {
            let _ = sums(&text, &[]);
        }
    }
}

//! Working expressions out over intervals.

use super::tokens::{Placed, Token};
use crate::text::numbers::Number;
use crate::text::quantities::Unit;

/// Deepest brackets of an expression.
const MAX_DEPTH: usize = 20;

/// A range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    pub(super) fn new(a: f64, b: f64) -> Self {
        Interval { low: a.min(b), high: a.max(b) }
    }

    pub(super) fn meets(self, other: Interval) -> bool {
        let slack = 1e-9 * self.high.abs().max(other.high.abs()).max(1e-9);
        self.low <= other.high + slack && other.low <= self.high + slack
    }

    pub(super) fn middle(self) -> f64 {
        f64::midpoint(self.low, self.high)
    }

    pub(super) fn scaled(self, by: f64) -> Self {
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

/// Works an expression out; `None` if it is none.
pub(super) fn evaluate(tokens: &[Placed], hundredths: bool, result: Option<bool>) -> Option<Interval> {
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
